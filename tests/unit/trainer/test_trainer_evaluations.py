"""Figures of an evaluation, the panels, and the gate after the warm start."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import structs
from trainer_payloads import episode, step

from services.contracts.environment import EnvironmentInfo
from services.contracts.job import WarmStart, parse_spec
from services.contracts.summary import EvaluationResult
from services.trainer.errors import JobFailed
from services.trainer.phases.evaluation import (
    ROUNDS,
    evaluation_result,
    find_result,
    panel,
    panel_groups,
    panel_result,
    played_panel,
    read_results,
    write_results,
)
from services.trainer.phases.warmstart import check_gate
from services.trainer.storage.folders import made_folder


def result(invalid_share: float = 0.0, label: str = "before", version: int = 0) -> EvaluationResult:
    return EvaluationResult(
        label=label, version=version, episodes=100, success=0.1, standard_error=0.03, return_mean=0.1,
        length_mean=10.0, invalid_share=invalid_share, split="test",
    )  # fmt: skip


def test_an_evaluation_counts_episodes_and_steps():
    episodes = [
        episode("g0", 0, [step(0), step(1, reward=1.0)], won=True),
        episode("g1", 0, [step(0, valid=False), step(1), step(2)]),
        episode("g2", 0, [step(0)]),
        episode("g3", 0, [step(0), step(1)]),
    ]
    found = evaluation_result(panel("before", 0, "shown"), episodes, "test")
    assert (found.success, found.return_mean, found.length_mean) == (0.25, 0.25, 2.0)
    assert found.standard_error == pytest.approx(math.sqrt(0.25 * 0.75 / 4))
    assert found.invalid_share == pytest.approx(1 / 8)


def test_an_episode_that_crashed_its_environment_is_one_that_is_not_won():
    won = episode("g0", 0, [step(0)], won=True)
    lucky = structs.replace(episode("g1", 0, [step(0)], won=True), crashes=1)
    found = evaluation_result(panel("after", 1, "shown"), [won, lucky], "test", lost=2)
    assert (found.success, found.episodes, found.crashed) == (0.25, 4, 3)
    assert found.standard_error == pytest.approx(math.sqrt(0.25 * 0.75 / 4))


def test_an_evaluation_names_its_panel_and_what_became_of_each_task():
    spec = parse_spec(
        {"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}, "evaluation": {"eval_episodes": 4}}
    )
    session = SimpleNamespace(job="j", spec=spec, environment=EnvironmentInfo(id="grid"))
    chosen = panel("before", 0, "shown")
    groups = panel_groups(session, chosen)
    names = [group.group_id for group in groups]
    payloads = [SimpleNamespace(group_id=name, episodes=[episode(name, 0, [step(0)], won=True)]) for name in names[:2]]
    found = played_panel(session, groups, payloads, {names[2]})
    by_seed = sorted(zip(groups, "11x-", strict=True), key=lambda pair: pair[0].task_seed)
    assert found.outcomes == "".join(letter for _, letter in by_seed)
    result = evaluation_result(chosen, [one.episodes[0] for one in payloads], "test", lost=1, played=found)
    assert (result.panel, result.outcomes) == (found.id, found.outcomes)
    later = panel_groups(session, panel("task_hidden", 7, "shown"))
    names = [group.group_id for group in later]
    again = [SimpleNamespace(group_id=name, episodes=[episode(name, 0, [step(0)])]) for name in names[:2]]
    assert played_panel(session, later, list(reversed(again))).id == found.id


def test_baselines_replace_what_the_prompt_says_and_who_acts():
    assert (panel("after", 9, "shown").actor, panel("after", 9, "shown").task_view) == ("policy", "shown")
    assert panel("task_hidden", 9, "shown").task_view == "hidden"
    assert panel("task_shuffled", 9, "shown").task_view == "shuffled"
    assert panel("random_actor", 9, "shown").actor == "random"
    assert panel("after", 9, "hidden").task_view == "hidden"  # a task-blind job is measured task-blind


def test_no_two_evaluations_of_a_job_share_groups():
    rounds = [panel("during", version, "shown").round for version in range(50)]
    assert len({*rounds, *ROUNDS.values()}) == 50 + len(ROUNDS)


def test_stored_results_are_found_by_label_and_version(tmp_path: Path):
    folder = made_folder(tmp_path, "job_1")
    assert read_results(folder) == []
    write_results(folder, [result(), result(label="during", version=5)])
    stored = read_results(folder)
    assert find_result(stored, "during", 5) == result(label="during", version=5)
    assert find_result(stored, "during", 6) is None


def test_the_gate_lets_a_policy_through_that_knows_the_format():
    check_gate(WarmStart(warmstart_max_invalid=0.03), result(invalid_share=0.03))


def test_the_gate_refuses_with_a_sentence_that_names_the_figure_and_the_bound():
    with pytest.raises(JobFailed, match=r"12\.0%.*warmstart_max_invalid = 3\.0%"):
        check_gate(WarmStart(warmstart_max_invalid=0.03), result(invalid_share=0.12))


def mixed_session(**section: object) -> SimpleNamespace:
    spec = parse_spec(
        {
            "model": {"scratch": {}},
            "environment": section,
            "rollout": {"max_completion_length": 6},
            "evaluation": {"eval_episodes": 3},
        }
    )
    grid = EnvironmentInfo(id="grid")
    return SimpleNamespace(job="j", spec=spec, environment=EnvironmentInfo.mixed(dict.fromkeys(spec.parts, grid)))


def test_each_member_has_the_panel_of_a_job_of_its_own_and_its_own_figures():
    rows = [{"size": [3]}, {"size": [4]}]
    members = [{"member": "far", "environment_rows": rows, "max_turns": 9}, {"member": "near", "eval_split": "train"}]
    mixed = mixed_session(mixture=members)
    alone = mixed_session(environment_rows=rows, max_turns=9)
    chosen = panel("before", 0, "shown")
    groups = panel_groups(mixed, chosen)
    assert [group.member for group in groups] == ["far"] * 3 + ["near"] * 3
    assert [group.cursor for group in groups] == list(range(6))
    assert len({group.group_id for group in groups}) == 6
    assert [group.split for group in groups] == ["test"] * 3 + ["train"] * 3
    assert [group.task_seed for group in groups[:3]] == [group.task_seed for group in panel_groups(alone, chosen)]
    assert [group.environment_kwargs for group in groups[:3]] == [rows[group.task_seed % 2] for group in groups[:3]]

    def played(owner: SimpleNamespace, those: list) -> EvaluationResult:
        payloads = [
            SimpleNamespace(group_id=one.group_id, episodes=[episode(one.group_id, 0, [step(0)], won=one.cursor == 0)])
            for one in those
        ]
        crashed = {group.group_id for group in groups} - {one.group_id for one in those} if owner is mixed else set()
        return panel_result(owner, chosen, groups if owner is mixed else those, payloads, crashed)

    result = played(mixed, groups[:5])
    far, near = result.members["far"], result.members["near"]
    assert (far.episodes, far.success, near.episodes, near.success, near.crashed) == (3, 1 / 3, 3, 0.0, 1)
    assert (result.episodes, result.success, result.outcomes) == (6, 1 / 6, far.outcomes + near.outcomes)
    own = played(alone, panel_groups(alone, chosen))
    assert (far.panel, far.outcomes, own.members) == (own.panel, own.outcomes, {})
    assert len({far.panel, near.panel, result.panel}) == 3
    assert EvaluationResult.model_validate(result.model_dump()) == result
