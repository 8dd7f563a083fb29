"""The table of architectures in docs/models.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- python -m tests.models.matrix --vllm --write -->", "<!-- end -->"
HEADER = "| `model_type` | class | transformers | vLLM | notes |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Result:
    """The result for one architecture."""

    kind: str
    model: str = ""
    difference: float | None = None
    """Largest, with the transformers engine."""
    vllm: str = ""
    """Largest with vLLM, or why it can't serve the model; empty: not tried."""
    notes: tuple[str, ...] = ()
    """Notes on what works otherwise than usual."""
    refused: str = ""
    """Why the model is; empty: it works."""


def row_of(result: Result) -> str:
    """Its row of the table."""
    if result.refused:
        return f"| `{result.kind}` | {result.model} | refused |  | {result.refused} |"
    vllm, notes = result.vllm, list(result.notes)
    if vllm.startswith("refused: "):
        vllm, notes = "refused", [*notes, f"vLLM: {vllm.removeprefix('refused: ')}"]
    return f"| `{result.kind}` | {result.model} | {result.difference:.0e} | {vllm} | {'; '.join(notes)} |"


def listed() -> list[str]:
    """The kinds in the page's table."""
    table = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return re.findall(r"^\| `([^`]+)` \|", table.removeprefix(f"\n{HEADER}"), re.MULTILINE)


def write_table(results: Sequence[Result]) -> None:
    """Replace the page's table."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    table = "\n".join([HEADER, *map(row_of, results)])
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
