"""The card of a checkpoint: what it says is so, and the snippet in it plays one turn from the folder alone."""

from __future__ import annotations

import io
import json
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec
import pytest
from huggingface_hub import ModelCard
from jinja2 import Environment, FileSystemLoader

from services.contracts.arrays import pack_int32
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import parse_spec
from services.contracts.jobfolder import JobFolder
from services.contracts.summary import EvaluationResult
from services.trainer.learner.learner import Learner
from services.trainer.session.model_card import Subject, model_card, write_card
from services.trainer.storage.progress import Progress, Totals
from tests.documents import code_blocks
from tests.rollout_archives import episode, scored
from tests.rollout_archives import write as write_archive
from tests.unit.trainer.learner_cases import VOCABULARY, job_spec, scratch_folder

PROMPT = "take apple . see box act"
SCENE = {"task": "take apple", "observation": "see box", "history": [], "admissible_actions": ["take apple"]}


def evaluation(label: str, version: int, success: float) -> EvaluationResult:
    return EvaluationResult(
        label=label,
        version=version,
        episodes=100,
        success=success,
        standard_error=0.05,
        return_mean=success,
        length_mean=3.5,
        invalid_share=0.02,
        split="test",
    )


def subject_in(folder: Path, *, prompt: str = PROMPT, **leaves: object) -> Subject:
    """A job with a policy of 15 tokens that was evaluated twice."""
    root = JobFolder(folder / "job")
    scratch_folder(root.base)
    root.root.mkdir(exist_ok=True)
    words = ["<pad>", "<eos>", "<unk>", *sorted(VOCABULARY)]
    played = episode(0, [1.0])
    ids = pack_int32([words.index(word) for word in prompt.split()])
    played = msgspec.structs.replace(played, steps=[msgspec.structs.replace(played.steps[0], prompt_ids=ids)])
    write_archive(root.root, 0, [(scored("tabc", [0]), [played])], "eval-after-00007")
    return Subject(
        job="j1",
        spec=job_spec(environment="grid", **leaves),
        environment=EnvironmentInfo(id="grid", description="Fetch and carry.", prompt_template="grid/v1"),
        folder=root,
        progress=Progress(batch=7, totals=Totals(env_steps=1234)),
        evaluations=[evaluation("before", 0, 0.05), evaluation("after", 7, 0.8), evaluation("random_actor", 7, 0.1)],
    )


def written(folder: Path, subject: Subject) -> Path:
    exported = folder / "export"
    Learner(subject.spec, subject.folder.base).export(exported)
    write_card(exported, subject)
    return exported


def test_the_metadata_is_what_the_hub_reads(tmp_path: Path) -> None:
    card = ModelCard.load(written(tmp_path, subject_in(tmp_path)) / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    assert {"gigpo", "grid"} <= {*card.data.tags}
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_type) == ("success_rate", 0.8, "grid")


def test_success_stands_there_with_its_interval_and_its_baselines(tmp_path: Path) -> None:
    card = (written(tmp_path, subject_in(tmp_path)) / "README.md").read_text("utf-8")
    assert "| after training | 7 | 100 of split test | 0.800 | 0.711 to 0.867 | 3.5 | 2.0% |" in card
    assert "| random admissible actions | 7 |" in card
    assert "| steps in the environment | 1,234 |" in card


def test_the_snippet_plays_one_turn_from_the_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = written(tmp_path, subject_in(tmp_path))
    (program,) = [b for b in code_blocks("", (exported / "README.md").read_text("utf-8")) if b.language == "python"]
    assert repr(PROMPT) in program.code
    monkeypatch.chdir(exported)
    with redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        exec(program.code, {})
    assert {*printed.getvalue().split()} <= {*VOCABULARY}


def test_the_template_beside_it_writes_the_prompt(tmp_path: Path) -> None:
    exported = written(tmp_path, subject_in(tmp_path))
    card = (exported / "README.md").read_text("utf-8")
    assert "`plain.v1.plain.jinja`" in card
    assert "No chat template" in card
    loader = Environment(loader=FileSystemLoader(exported), trim_blocks=True, lstrip_blocks=True)
    assert loader.get_template("plain.v1.plain.jinja").render(SCENE).strip() == PROMPT


def test_a_policy_with_a_chat_template_is_told_to_use_it_and_has_every_file_of_its_own(tmp_path: Path) -> None:
    subject = subject_in(tmp_path)
    (subject.folder.base / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (subject.folder.base / "README.md").write_text("the card of the model that it began with")
    exported = written(tmp_path, subject)
    card = (exported / "README.md").read_text("utf-8")
    assert "`grid.v1.think.jinja`" in card
    assert "The tokenizer's chat template is put around it" in card
    assert "<action>...</action>" in card
    loader = Environment(loader=FileSystemLoader(exported), trim_blocks=True, lstrip_blocks=True)
    assert "Task: take apple" in loader.get_template("grid.v1.think.jinja").render(SCENE)


def test_what_a_chat_template_was_given_stands_in_the_card(tmp_path: Path) -> None:
    subject = subject_in(tmp_path)
    (subject.folder.base / "chat_template.jinja").write_text("{{ messages[0].content }}")
    values = {"chat_template_kwargs": {"enable_thinking": False}, "chat_template_date": date(2025, 3, 9)}
    environment = subject.spec.environment.model_copy(update=values)
    spec = subject.spec.model_copy(update={"environment": environment})
    card = written(tmp_path, replace(subject, spec=spec)).joinpath("README.md").read_text("utf-8")
    assert "as one user message, with `enable_thinking`: false, 2025-03-09 as today." in card


def test_the_job_in_the_card_can_be_submitted_and_names_no_folder_of_the_machine(tmp_path: Path) -> None:
    subject = subject_in(tmp_path)
    given = subject.spec.model_copy(
        update={"model": subject.spec.model.model_copy(update={"scratch": None, "model": "/secret/place/qwen"})}
    )
    for spec in (subject.spec, given):
        card = written(tmp_path, replace(subject, spec=spec)).joinpath("README.md").read_text("utf-8")
        assert "/secret" not in card
        (block,) = [b for b in code_blocks("", card) if b.language == "json"]
        assert parse_spec(json.loads(block.code)).rollout == spec.rollout


def test_a_guided_policy_is_said_to_be_one(tmp_path: Path) -> None:
    subject = subject_in(tmp_path)
    assert "guided_decoding" not in model_card(subject)
    guided = replace(subject, spec=job_spec(environment="grid", guided_decoding="admissible_actions"))
    assert "it chose among the replies that say an admissible action" in model_card(guided)


def test_a_policy_that_was_never_evaluated_has_a_card_too(tmp_path: Path) -> None:
    subject = replace(subject_in(tmp_path), evaluations=[])
    card = (written(tmp_path, subject) / "README.md").read_text("utf-8")
    assert "It has not been evaluated yet." in card
    assert ModelCard(card).data.eval_results is None
