"""The model card of a checkpoint: README.md with Hugging Face's metadata, and the prompt template beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from string import Template

from services.contracts.archive import decoded, encoded_groups
from services.contracts.arrays import unpack_int32
from services.contracts.environment import EnvironmentInfo
from services.contracts.intervals import wilson_interval
from services.contracts.job import JobSpec, Rollout
from services.contracts.jobfolder import JobFolder
from services.contracts.messages import ContractError
from services.contracts.summary import EvaluationResult
from services.contracts.templates import reply_tags, template_file, template_text
from services.contracts.tokenizer_files import tokenizer_in
from services.presentation.evaluations import named_results
from services.trainer.learner.files import write_text
from services.trainer.storage.progress import Progress

CARD = "README.md"
_PAGE = Template((Path(__file__).with_name("model_card.txt")).read_text("utf-8"))
_EXTENDS = re.compile(r'{%-?\s*extends\s+"([^"]+)"')
_POLICY = ("before", "during", "after")
"""Evaluations of the policy itself."""


@dataclass(frozen=True)
class Subject:
    """The subject of a card."""

    job: str
    spec: JobSpec
    environment: EnvironmentInfo
    folder: JobFolder
    progress: Progress
    evaluations: Sequence[EvaluationResult]

    @property
    def parts(self) -> list[Subject]:
        """One for each member of a mixture; without one this alone."""
        return [
            replace(self, spec=spec, environment=self.environment.part(member))
            for member, spec in self.spec.parts.items()
        ]

    @property
    def form(self) -> str:
        """The template that the rollout service chooses."""
        return self.environment.form(self.spec, has_chat_template=self.has_chat_template)

    @property
    def has_chat_template(self) -> bool:
        """Whether the policy's tokenizer has one."""
        base = self.folder.base
        if (base / "chat_template.jinja").is_file():
            return True
        config = base / "tokenizer_config.json"
        return config.is_file() and bool(json.loads(config.read_bytes()).get("chat_template"))


def write_card(folder: Path, subject: Subject) -> None:
    """Write the card of a policy, and the template files that its prompts are made from, into its folder."""
    for name, text in (file for part in subject.parts for file in _template_files(part).items()):
        write_text(folder / name, text)
    write_text(folder / CARD, model_card(subject))


def model_card(subject: Subject) -> str:
    """The card as Markdown, metadata first; the example of a mixture is of its first member."""
    spec, progress, first = subject.spec, subject.progress, subject.parts[0]
    prompt = _example_prompt(subject)
    template = first.environment.template(first.spec)
    tags = reply_tags(template, first.form, first.environment.templates)
    return _PAGE.substitute(
        metadata=_metadata(subject),
        name=_name(subject),
        environment=subject.environment.id,
        about=subject.environment.description,
        start="random weights" if spec.model.scratch else Path(str(spec.model.model)).name,
        estimator=spec.algorithm.advantage_estimator,
        batches=f"{progress.batch} of {spec.training.total_batches}",
        env_steps=f"{progress.totals.env_steps:,}",
        seed=spec.training.seed,
        engine=spec.inference.engine,
        job=subject.job,
        version=version("gigpo-platform"),
        results=_results(subject.evaluations),
        template=_wording(subject.parts),
        action=_action(tags, guided=spec.rollout.guided_decoding is not None),
        snippet=_snippet(prompt, tags, spec),
        spec=json.dumps(_shown(spec), indent=2, ensure_ascii=False),
    )


def _name(subject: Subject) -> str:
    return subject.spec.name or subject.job


def _metadata(subject: Subject) -> str:
    """Front matter; JSON is YAML."""
    newest = next((one for one in reversed(subject.evaluations) if one.label in _POLICY), None)
    found: dict[str, object] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["reinforcement-learning", "gigpo", "llm-agent", subject.environment.id],
    }
    if newest is not None:
        metric = {"type": "success_rate", "name": f"success, {newest.episodes} episodes", "value": newest.success}
        task = {"type": "reinforcement-learning", "name": "multi-turn agent"}
        data = {"type": subject.environment.id, "name": f"{subject.environment.id}, split {newest.split}"}
        found["model-index"] = [
            {"name": _name(subject), "results": [{"task": task, "dataset": data, "metrics": [metric]}]}
        ]
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in found.items())


def _results(evaluations: Sequence[EvaluationResult]) -> str:
    if not evaluations:
        return "It has not been evaluated yet."
    rows = [
        "| policy | batches | episodes | success | 95 % interval | steps | invalid actions | panel |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in evaluations:
        for label, found in named_results(one):
            low, high = wilson_interval(found.success, found.episodes)
            rows.append(
                f"| {label} | {one.version} | {found.episodes} of split {found.split} | {found.success:.3f} "
                f"| {low:.3f} to {high:.3f} | {found.length_mean:.1f} | {found.invalid_share:.1%} "
                f"| {found.panel or '–'} |"
            )
    return "\n".join(rows)


def _template_files(subject: Subject) -> Mapping[str, str]:
    """The template's file and those that it extends, by name."""
    brought, found = subject.environment.templates, dict[str, str]()
    wanted = [template_file(subject.environment.template(subject.spec), subject.form, brought)]
    while wanted:
        name = wanted.pop()
        found[name] = template_text(name, brought)
        wanted += [other for other in _EXTENDS.findall(found[name]) if other not in found]
    return found


def _wording(parts: Sequence[Subject]) -> str:
    subject = parts[0]
    files = " or ".join(f"`{file}`" for file in dict.fromkeys(next(iter(_template_files(part))) for part in parts))
    said = (
        f"A prompt is written by the Jinja template {files} in this folder (`trim_blocks`, `lstrip_blocks`) from the "
        "task, the observation and the admissible actions"
    )
    if subject.spec.environment.history_length:
        said += f", and the last {subject.spec.environment.history_length} turns"
    wanted = subject.spec.environment
    if subject.has_chat_template and wanted.use_chat_template:
        values = [f"`{name}`: {json.dumps(value)}" for name, value in wanted.chat_template_kwargs.items()]
        if wanted.chat_template_date is not None:
            values.append(f"{wanted.chat_template_date} as today")
        given = f", with {', '.join(values)}" if values else ""
        return f"{said}. The tokenizer's chat template is put around it, as one user message{given}."
    return f"{said}. No chat template is put around it."


def _action(tags: Sequence[str], *, guided: bool) -> str:
    said = "The whole reply is the action."
    if tags:
        pairs = " or ".join(f"<{tag}>...</{tag}>" for tag in tags)
        said = f"The action is what the last {pairs} of the reply encloses."
    if guided:
        said += (
            " The policy was trained and evaluated with `guided_decoding`: it chose among the replies that say an "
            "admissible action, and what it says without such a restriction was never looked at."
        )
    return said


def _example_prompt(subject: Subject) -> str | None:
    """The first prompt of the newest evaluation, as text; None: nothing was evaluated yet."""
    for one in reversed(subject.evaluations):
        path = subject.folder.evaluation_rollouts(one.label, one.version)
        if one.label in _POLICY and path.is_file():
            try:
                _, episodes = decoded(encoded_groups(path)[0])
            except (ContractError, IndexError):
                return None
            ids = unpack_int32(episodes[0].steps[0].prompt_ids)
            tokenizer = tokenizer_in(subject.folder.base)
            text: str = tokenizer.decode(ids, skip_special_tokens=False)
            return text
    return None


def _snippet(prompt: str | None, tags: Sequence[str], spec: JobSpec) -> str:
    """A program that plays one turn."""
    found = [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'folder = "."  # this folder',
        "policy, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)",
        f"prompt = {prompt!r}" if prompt is not None else 'prompt = "..."  # as the template writes it',
        'inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)',
        f"settings = dict(do_sample=True, {_sampling(spec.rollout)})",
        f"output = policy.generate(**inputs, max_new_tokens={spec.rollout.max_completion_length}, **settings)",
        'reply = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()',
    ]
    if len(tags) == 1:
        found += [f'reply = reply.rpartition("<{tags[0]}>")[2].partition("</{tags[0]}>")[0].strip()']
    return "\n".join([*found, "print(reply)"])


def _sampling(rollout: Rollout) -> str:
    """Arguments of transformers' `generate`, with which it samples as the engines did."""
    found = f"temperature={rollout.temperature}, top_k={rollout.top_k}, top_p={rollout.top_p}"
    found += f", min_p={rollout.min_p}" if rollout.min_p else ""
    return found + (f", stop_strings={rollout.stop_words!r}, tokenizer=tokenizer" if rollout.stop_words else "")


def _shown(spec: JobSpec) -> dict[str, object]:
    """The job as it can be submitted again; a model's folder by its name alone, which says nothing of the machine."""
    document: dict[str, dict[str, object]] = spec.model_dump(mode="json", exclude_unset=True)
    if spec.model.model and not spec.model.model.startswith("job:"):
        document["model"]["model"] = Path(spec.model.model).name
    return dict(document)
