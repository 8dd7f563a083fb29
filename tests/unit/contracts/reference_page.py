"""docs/reference.md, which is made from the job spec.

Write it anew: python -m tests.unit.contracts.reference_page
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from services.contracts.job import JobSpec, ScratchModel, WarmStart
from services.contracts.section import Section
from services.presentation.schema_words import kwargs_in_words

PAGE = Path(__file__).parents[3] / "docs" / "reference.md"
HEAD = """# YAML reference

A job is one YAML or JSON document with these sections. Every key is also a flag of `gigpo train`: `--gamma 0.9`.
A key that is left out has its default. An unknown key is refused, and so is a key that has no effect beside the others.
Only `model` must be given.

```yaml
name: my-job
model:
  scratch: {}
environment:
  environment: grid
  max_turns: 12
algorithm:
  advantage_estimator: gigpo
rollout:
  max_completion_length: 6
```

`gigpo train --dry-run FILE` checks a document without running it. [The quickstart](quickstart.md) tells which values to
start with, [algorithms](algorithms.md) what the options of `algorithm` compute.
"""
NESTED: dict[str, type[BaseModel]] = {"model.scratch": ScratchModel, "model.warmstart": WarmStart}


def reference() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(path, section) for path, section in _sections().items())])


def _sections() -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    for name, field in JobSpec.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found[name] = field.annotation
            found |= {path: inner for path, inner in NESTED.items() if path.startswith(f"{name}.")}
    return found


def _section(path: str, section: type[BaseModel]) -> str:
    about = " ".join((section.__doc__ or "").split())
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    inner = {name.rpartition(".")[2] for name in NESTED if name.startswith(f"{path}.")}
    for key in kwargs_in_words(section.model_json_schema()):
        values = "a section, see below" if key.name in inner else key.values.removesuffix(" or null")
        cells = (f"`{key.name}`", values, _default(section, key.name), key.description)
        rows.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([f"## {path}", about, "", *rows, ""])


def _default(section: type[BaseModel], key: str) -> str:
    field = section.model_fields[key]
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    PAGE.write_text(reference(), "utf-8")
