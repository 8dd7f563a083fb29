"""The diagnosis of a job: each finding on one side of its limit and none on the other, and none for a healthy job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.api.insight.diagnosis import CHECKS, checked, findings
from services.api.insight.evidence import Evidence
from services.contracts.archive import Group
from services.contracts.messages import Episode
from services.contracts.rest.insight import Finding
from tests.unit.api.insight_groups import group_of, played

HEALTHY: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "healthy_job.json").read_text())
SPEC: dict[str, Any] = {
    "algorithm": {"advantage_estimator": "gigpo", "beta": 0.03},
    "environment": {"max_turns": 12, "max_prompt_tokens": 128},
    "rollout": {"groups_per_batch": 16, "max_completion_length": 6, "max_staleness": 2},
    "training": {"learning_rate": 1e-3, "total_batches": 100, "warmup_batches": 3},
    "model": {"torch_dtype": "float32", "warmstart": {"warmstart_max_invalid": 0.03, "warmstart_steps": 500}},
}
WELL: dict[str, float] = {
    "success": 0.5, "return_mean": 0.5, "entropy": 0.3, "kl": 0.1, "policy_kl": 0.01, "clip_fraction": 0.05,
    "grad_norm": 0.2, "loss": 0.01, "learning_rate": 1e-3, "invalid_share": 0.02, "cut_prompt_share": 0.0,
    "trained_rows": 900, "env_steps": 1000, "staleness_mean": 0.5, "importance_ess": 0.9,
    "current_mismatch_kl": 1e-9, "failed_attempts": 0,
}  # fmt: skip


def batches(count: int = 20, **columns: Any) -> list[dict[str, Any]]:
    """Records of a job that is well, success growing, but for the columns given: a value, or one a batch."""
    rows = [{"batch": at, **WELL, "success": 0.1 + 0.5 * at / count} for at in range(count)]
    for name, values in columns.items():
        for at, row in enumerate(rows):
            row[name] = values[at] if isinstance(values, list) else values
    return rows


def found(evidence: Evidence) -> dict[str, Finding]:
    return {one.code: one for one in findings(evidence)}


def codes(rows: list[dict[str, Any]], groups: list[Group] | None = None, **more: Any) -> set[str]:
    return set(found(Evidence(spec=more.pop("spec", SPEC), metrics=rows, groups=groups or [], **more)))


def figures(finding: Finding) -> dict[str, float | str]:
    return {one.name: one.value for one in finding.figures}


def measured(success: float, error: float = 0.02, **more: float) -> dict[str, float]:
    return {"success": success, "standard_error": error, "return_mean": success, "invalid_share": 0.0, **more}


@pytest.mark.parametrize("batches_done", [0, 1, 5, 20, 45, 80, 140, 220])
def test_a_healthy_job_has_no_finding_at_any_time(batches_done: int) -> None:
    evaluations = HEALTHY["evaluations"] if batches_done == 220 else {"before": HEALTHY["evaluations"]["before"]}
    evidence = Evidence(
        spec=HEALTHY["spec"], metrics=HEALTHY["metrics"][:batches_done], evaluations=evaluations, **HEALTHY["ledger"]
    )
    assert len(HEALTHY["metrics"]) == 220
    assert findings(evidence) == []


def test_a_job_without_any_figures_has_no_finding() -> None:
    assert findings(Evidence(spec={}, metrics=[])) == []
    assert findings(Evidence(spec=SPEC, metrics=[{"batch": 0}])) == []
    assert codes(batches()) == set()


def test_a_code_is_the_name_of_its_check() -> None:
    assert checked() == [check.__name__ for check in CHECKS]
    assert len(set(checked())) == len(CHECKS)


def test_every_finding_has_figures_a_meaning_and_an_advice() -> None:
    rows = batches(60, success=0.0, return_mean=0.0, invalid_share=1.0, cut_prompt_share=0.5, entropy=0.0)
    rows = [{**row, "policy_kl": 1.0, "kl": 9.0, "failed_attempts": 16, "learning_rate": 0.0} for row in rows]
    made = found(Evidence(spec=SPEC, metrics=rows, groups=[group_of([played(["a"] * 9)] * 4)]))
    assert len(made) >= 8
    for one in made.values():
        assert one.figures
        assert one.meaning.endswith(".")
        assert one.advice[0].isupper()
        assert one.advice.endswith(".")
    severities = [one.severity for one in made.values()]
    assert severities == sorted(severities, key=lambda one: one != "problem")


# Signal


def silent_and_telling(silent: int, telling: int, *, won: bool = False) -> list[Group]:
    alike = [played(["s", "t"], won=won)] * 4
    apart = [played(["s", "t"], won=k == 0) for k in range(4)]
    return [group_of(alike, advantage=0.0)] * silent + [group_of(apart, advantage=0.5)] * telling


def test_equal_groups_are_found_above_half_of_all() -> None:
    assert codes(batches(), silent_and_telling(2, 2)) == set()
    made = found(Evidence(spec=SPEC, metrics=batches(), groups=silent_and_telling(3, 2)))["equal_groups"]
    assert figures(made) == {"no_advantage_share": 0.6, "of_these_all_lost": 1.0, "of_these_all_won": 0.0}
    assert "num_generations" in made.advice
    easy = found(Evidence(spec=SPEC, metrics=batches(), groups=silent_and_telling(3, 2, won=True)))["equal_groups"]
    assert "harder tasks" in easy.advice


def test_equal_groups_of_a_job_that_has_learned_are_no_trouble() -> None:
    assert codes(batches(success=0.95), silent_and_telling(9, 1, won=True)) == set()


def test_without_stored_groups_the_share_of_trained_steps_tells() -> None:
    assert codes(batches(trained_rows=510)) == set()
    assert codes(batches(trained_rows=490)) == {"equal_groups"}


def counting(steps: int = 10, episodes: int = 8) -> Group:
    """States that recur but for a number that grows with every step and differs between episodes."""
    texts = [[f"at {at % 3} . step {100 * k + at}" for at in range(steps)] for k in range(episodes)]
    return group_of([played(anchors, won=k == 0) for k, anchors in enumerate(texts)], advantage=0.5)


def test_anchors_that_hold_a_counter_are_found_with_the_difference_of_two() -> None:
    made = found(Evidence(spec=SPEC, metrics=batches(), groups=[counting()]))["anchors_hold_a_counter"]
    shown = figures(made)
    assert (shown["met_again"], shown["met_without_numbers"]) == (0.0, 1.0)
    assert str(shown["anchor"]).startswith("at ")
    assert shown["difference"] == "1 → 4"


def stepping(name: str, *, places: int = 5, steps: int = 24, episodes: int = 3) -> Group:
    """States on which a number stands: `step` counts, `left` counts down, `room` names where one is."""

    def number(k: int, at: int) -> int:
        return {"step": at, "left": 30 - at, "room": (at * (k + 1)) % 7}[name]

    texts = [
        [f"room {chr(97 + (at * (k + 1)) % places)} {name} {number(k, at)} of 30" for at in range(steps)]
        for k in range(episodes)
    ]
    return group_of([played(anchors, won=k == 0) for k, anchors in enumerate(texts)], advantage=0.5)


@pytest.mark.parametrize("name", ["step", "left"])
def test_a_counter_of_steps_is_found_though_states_of_one_step_still_meet(name: str) -> None:
    group = stepping(name)
    made = found(Evidence(spec=SPEC, metrics=batches(), groups=[group]))
    assert set(made) == {"anchors_hold_a_counter"}
    assert float(figures(made["anchors_hold_a_counter"])["met_again"]) > 0.1


def test_a_number_that_belongs_to_the_state_is_no_counter() -> None:
    assert codes(batches(), [stepping("room")]) == set()


def test_a_counter_that_costs_no_state_is_no_trouble() -> None:
    same = [played([f"hall {at}" for at in range(12)], won=k == 0) for k in range(8)]
    assert codes(batches(), [group_of(same, advantage=0.5)]) == set()


def test_states_that_recur_hold_no_counter() -> None:
    recurring = group_of([played(["a", "b 1", "c"] * 4, won=k == 0) for k in range(8)], advantage=0.5)
    assert codes(batches(), [recurring]) == set()


def test_other_estimators_need_no_states() -> None:
    grpo = {**SPEC, "algorithm": {"advantage_estimator": "grpo"}}
    assert codes(batches(), [counting()], spec=grpo) == set()


def test_states_that_never_recur_for_another_cause_are_a_warning() -> None:
    words = "abcdefghij"
    alone = [played([f"{words[k]}{words[at]}" for at in range(10)], won=k == 0) for k in range(8)]
    made = found(Evidence(spec=SPEC, metrics=batches(), groups=[group_of(alone, advantage=0.5)]))
    assert set(made) == {"states_never_recur"}
    assert made["states_never_recur"].severity == "warning"


def test_a_few_steps_say_nothing_of_states() -> None:
    assert codes(batches(), [counting(steps=5, episodes=8)]) == set()


@pytest.mark.parametrize("code", ["invalid_actions", "success_stays_zero"])
def test_a_warm_start_is_advised_where_the_job_can_have_one(code: str) -> None:
    rows = batches(60, success=0.0, return_mean=0.0, invalid_share=1.0)
    pretrained = {**SPEC, "model": {"model": "models/qwen"}}
    assert "warm start" in found(Evidence(spec=SPEC, metrics=rows))[code].advice
    advice = found(Evidence(spec=pretrained, metrics=rows))[code].advice
    assert "warm start" not in advice
    assert "system message" in advice


def test_invalid_actions_are_a_warning_and_nearly_all_of_them_a_problem() -> None:
    assert codes(batches(invalid_share=0.29)) == set()
    made = found(Evidence(spec=SPEC, metrics=batches(invalid_share=0.31)))["invalid_actions"]
    assert made.severity == "warning"
    group = group_of([played(["s"] * 4, valid=False)] * 2, advantage=0.5)
    all_of_them = found(Evidence(spec=SPEC, metrics=batches(invalid_share=1.0), groups=[group]))["invalid_actions"]
    assert (all_of_them.severity, all_of_them.title) == ("problem", "Nearly all actions are invalid")
    assert figures(all_of_them)["action 'act 0'"] == 0.25


def cut(episode_: Episode) -> Episode:
    steps = [msgspec.structs.replace(step, finish_reason="length") for step in episode_.steps]
    return msgspec.structs.replace(episode_, steps=steps)


def test_replies_that_are_cut_before_their_action_are_found() -> None:
    whole, broken = played(["s"] * 4, valid=False), cut(played(["s"] * 4, valid=False))
    assert codes(batches(), [group_of([whole, whole, whole, broken], advantage=0.5)]) == set()
    assert codes(batches(), [group_of([whole, whole, broken, broken], advantage=0.5)]) == {"replies_cut"}
    assert codes(batches(), [group_of([cut(played(["s"] * 4))] * 4, advantage=0.5)]) == set()


def test_cut_prompts_are_found() -> None:
    assert codes(batches(cut_prompt_share=0.04)) == set()
    assert codes(batches(cut_prompt_share=0.06)) == {"prompts_cut"}


def test_episodes_that_run_out_of_turns_are_found_where_little_is_won() -> None:
    group = group_of([msgspec.structs.replace(played(["s"] * 4), terminated=False, truncated=True)] * 4, advantage=0.5)
    assert codes(batches(success=0.2), [group]) == set()
    assert codes(batches(success=0.05), [group]) == {"out_of_turns"}
    assert codes(batches(9, success=0.05), [group]) == set()


# Learning


def test_a_loss_that_is_no_number_is_found_with_its_batch() -> None:
    made = found(Evidence(spec=SPEC, metrics=batches(loss=[0.1] * 7 + [float("nan")] * 13)))["not_a_number"]
    assert made.figures[0].about == "first in batch 7"
    assert codes(batches(loss=1e30)) == set()


def test_a_collapse_is_found_when_most_of_the_success_is_gone() -> None:
    rise = [0.04 * at for at in range(20)]
    assert codes(batches(30, success=[*rise, *([0.5] * 10)])) == set()
    made = found(Evidence(spec=SPEC, metrics=batches(30, success=[*rise, *([0.3] * 10)])))["collapsed"]
    assert figures(made)["best_success"] == 0.68
    assert figures(made)["success"] == 0.3
    assert {"entropy", "kl"} <= figures(made).keys()
    assert codes(batches(30, success=[*([0.3] * 10), *([0.15] * 20)])) == set()


def test_success_that_stays_zero_is_found_after_twenty_batches() -> None:
    assert codes(batches(19, success=0.0)) == set()
    assert codes(batches(20, success=0.0)) == {"success_stays_zero"}
    assert codes(batches(20, success=[0.0] * 19 + [0.01])) == set()


def test_a_job_that_is_paid_without_winning_learns_all_the_same() -> None:
    assert codes(batches(40, success=0.0, return_mean=[0.1 * at for at in range(40)])) == set()


def test_success_that_does_not_move_is_found_after_forty_batches() -> None:
    wave = [0.3 + 0.02 * (at % 2) for at in range(60)]
    assert codes(batches(39, success=wave[:39], return_mean=0.3)) == set()
    assert codes(batches(40, success=wave[:40], return_mean=0.3)) == {"nothing_learned"}
    assert codes(batches(40, success=[0.3 + 0.005 * at for at in range(40)], return_mean=0.3)) == set()
    assert codes(batches(40, success=0.95, return_mean=0.95)) == set()


def test_an_entropy_that_is_gone_is_found_before_the_job_has_learned() -> None:
    falling = [0.3] * 10 + [0.04] * 10
    assert codes(batches(entropy=falling)) == {"entropy_gone"}
    assert codes(batches(entropy=[0.3] * 10 + [0.06] * 10)) == set()
    assert codes(batches(entropy=0.04)) == set()
    assert codes(batches(entropy=falling, success=0.95)) == set()


def test_a_policy_far_from_its_reference_is_found_where_there_is_one() -> None:
    assert codes(batches(kl=1.9)) == set()
    assert codes(batches(kl=2.1)) == {"drifts_away"}
    without = {**SPEC, "algorithm": {"advantage_estimator": "gigpo", "beta": 0.0}}
    assert codes(batches(kl=2.1), spec=without) == set()


def test_updates_that_are_too_large_are_found_but_not_by_one_batch() -> None:
    assert codes(batches(policy_kl=0.19)) == set()
    assert codes(batches(policy_kl=0.21)) == {"steps_too_large"}
    assert codes(batches(policy_kl=[0.01] * 19 + [9.0])) == set()
    assert codes(batches(clip_fraction=0.31)) == {"steps_too_large"}
    assert codes(batches(4, clip_fraction=0.31)) == set()


def test_a_learning_rate_of_zero_is_found_behind_the_warm_up() -> None:
    assert codes(batches(learning_rate=[0.0] * 3 + [1e-3] * 17)) == set()
    assert codes(batches(learning_rate=[1e-3] * 15 + [0.0] * 5)) == set()
    assert codes(batches(learning_rate=[1e-3] * 14 + [0.0] * 6)) == {"learning_rate_zero"}
    assert codes(batches(grad_norm=[0.1] * 15 + [0.0] * 5)) == {"learning_rate_zero"}
    assert codes(batches(grad_norm=[0.1] * 16 + [0.0] * 4)) == set()


# Pipeline


def test_a_warm_start_that_fails_is_found() -> None:
    def before(share: float) -> dict[str, Any]:
        return {"before": measured(0.0, invalid_share=share)}

    assert codes([], evaluations=before(0.03)) == set()
    assert codes([], evaluations=before(0.04)) == {"warm_start_fails"}
    assert codes([], evaluations=before(0.9), spec={**SPEC, "model": {"model": "/m"}}) == set()


def test_samples_that_are_too_old_are_found_by_their_weights_or_their_drops() -> None:
    assert codes(batches(staleness_mean=2.0, importance_ess=0.55)) == set()
    assert codes(batches(staleness_mean=2.0, importance_ess=0.45)) == {"samples_too_old"}
    assert codes(batches(staleness_mean=0.0, importance_ess=0.45)) == set()
    assert codes(batches(), opened=100, dropped={"stale": 9}) == set()
    assert codes(batches(), opened=100, dropped={"stale": 10}) == {"samples_too_old"}


def test_an_engine_that_disagrees_is_found_by_the_bound_of_its_numbers() -> None:
    half = {**SPEC, "model": {"torch_dtype": "bfloat16"}}
    assert codes(batches(current_mismatch_kl=9e-5)) == set()
    assert codes(batches(current_mismatch_kl=2e-4)) == {"engine_mismatch"}
    assert codes(batches(current_mismatch_kl=2e-4), spec=half) == set()
    assert codes(batches(current_mismatch_kl=0.02), spec=half) == {"engine_mismatch"}


PROMPTS: dict[str, Any] = {
    **SPEC,
    "model": {"scratch": {}, "torch_dtype": "float32"},
    "algorithm": {"advantage_estimator": "grpo"},
    "environment": {"max_turns": 1, "use_gym_env": False},
    "rewards": {"reward_funcs": ["file:ab/my_reward.py:score"]},
}


def test_a_reward_function_that_gives_every_reply_the_same_is_the_one_finding() -> None:
    flat = batches(30, success=0.0, return_mean=0.0, trained_rows=0, entropy=0.0, grad_norm=0.0)
    (one,) = findings(Evidence(spec=PROMPTS, metrics=flat))
    assert (one.code, one.severity) == ("reward_never_varies", "problem")
    assert "my_reward.score" in one.meaning
    assert "can say only the words of its own rows" in one.advice
    given = {**PROMPTS, "model": {"model": "/models/small"}}
    assert "can say only" not in findings(Evidence(spec=given, metrics=flat))[0].advice
    varied = batches(30, success=0.0, return_mean=[0.0] * 29 + [0.1])
    assert "reward_never_varies" not in codes(varied, spec=PROMPTS)
    assert "reward_never_varies" not in codes(flat)  # the environment's own reward


def test_success_means_nothing_where_no_row_has_a_solution() -> None:
    rising = batches(60, success=0.0, return_mean=[at / 60 for at in range(60)], trained_rows=100)
    assert codes(rising, spec=PROMPTS) == set()  # every group may be equally good by now


def test_what_was_not_measured_is_no_zero() -> None:
    """Earlier records have 0 for the means over optimizer steps of a batch that trained nothing."""
    untrained = batches(20, entropy=0.0, grad_norm=0.0, trained_rows=0, success=0.3)
    assert codes(untrained) == {"equal_groups"}
    assert codes(batches(20, entropy=[0.5] * 10 + [0.01] * 10)) == {"entropy_gone"}


def test_a_policy_that_is_no_better_than_chance_is_not_said_to_ignore_its_task() -> None:
    measures = {"after": measured(0.4), "task_hidden": measured(0.4), "random_actor": measured(0.38)}
    assert codes(batches(), evaluations=measures) == {"no_better_than_chance"}
    assert codes(batches(), evaluations={**measures, "random_actor": measured(0.1)}) == {"task_not_read"}


def test_lost_groups_are_found_but_not_those_of_a_cancelled_job() -> None:
    assert codes(batches(), opened=100, dropped={"infra": 4, "cancelled": 60}) == set()
    assert codes(batches(), opened=100, dropped={"infra": 5}) == {"groups_lost"}
    assert codes(batches(failed_attempts=1)) == set()
    assert codes(batches(failed_attempts=2)) == {"groups_lost"}


def test_an_environment_that_fails_is_named_with_its_own_error_and_not_called_infrastructure() -> None:
    told = ["an attempt to play a group failed: environment env_bug: KeyError: 'door' (house.py, line 7, in step)"]
    few = found(Evidence(spec=SPEC, metrics=batches(), opened=100, dropped={"env_bug": 4}, warnings=told))
    assert {code: one.severity for code, one in few.items()} == {"environment_fails": "warning"}
    assert figures(few["environment_fails"]) == {
        "dropped_env_bug": 4.0, "share": 0.04, "error": "KeyError: 'door' (house.py, line 7, in step)",
    }  # fmt: skip
    many = found(Evidence(spec=SPEC, metrics=batches(failed_attempts=9), opened=100, dropped={"env_bug": 5}))
    assert {code: one.severity for code, one in many.items()} == {"environment_fails": "problem"}
    assert codes(batches(), opened=100, dropped={"env_bug": 4, "infra": 5}) == {"environment_fails", "groups_lost"}


def test_training_tasks_learned_by_heart_are_found() -> None:
    rows = batches(success=0.9)
    assert codes(rows, evaluations={"after": measured(0.75)}) == set()
    assert codes(rows, evaluations={"after": measured(0.65)}) == {"learned_by_heart"}
    assert codes(rows, evaluations={"after": measured(0.65, error=0.2)}) == set()


def test_a_policy_no_better_than_chance_is_found() -> None:
    assert codes(batches(), evaluations={"after": measured(0.4), "random_actor": measured(0.3)}) == set()
    close = {"after": measured(0.4), "random_actor": measured(0.36)}
    assert codes(batches(), evaluations=close) == {"no_better_than_chance"}
    paid = {"after": measured(0.0, return_mean=5.0), "random_actor": measured(0.0, return_mean=1.0)}
    assert codes(batches(success=0.0, return_mean=[float(at) for at in range(20)]), evaluations=paid) == set()
    assert codes(batches(10), evaluations=close) == {"no_better_than_chance"}
    assert codes(batches(9), evaluations=close) == set()


def test_a_policy_that_does_not_read_its_task_is_found() -> None:
    assert codes(batches(), evaluations={"after": measured(0.6), "task_hidden": measured(0.2)}) == set()
    assert codes(batches(), evaluations={"after": measured(0.6), "task_hidden": measured(0.58)}) == {"task_not_read"}
    assert codes(batches(success=0.1), evaluations={"after": measured(0.1), "task_hidden": measured(0.1)}) == set()
