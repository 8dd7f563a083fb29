"""Tasksets of the package verifiers. Skipped where it is not installed: pip install 'gigpo-platform[verifiers]'."""

from typing import Any

import pytest

from gigpo.env.environment import KwargsError, Observation
from services.env.environments.verifiers_tasks import Verifiers, VerifiersKwargs

WORDS = "verifiers_taskset:Words"
pytestmark = pytest.mark.filterwarnings("default")  # of the package's own


def environment(taskset: str = WORDS, allowed: tuple[str, ...] = (WORDS,), **kwargs: Any) -> Verifiers:
    found = type("Told", (Verifiers,), {"options": {"tasksets": list(allowed)}})
    made: Verifiers = found(VerifiersKwargs(taskset=taskset, **kwargs))
    return made


def test_a_taskset_that_the_operator_does_not_allow_is_not_imported() -> None:
    with pytest.raises(KwargsError, match="taskset: os:path is not one that the operator of this service allows"):
        environment("os:path").reset(0, "train")


def test_a_reply_gets_the_tasks_own_rewards() -> None:
    pytest.importorskip("verifiers.v1")
    env = environment(max_tasks=50, won_reward=1.5)
    first: Observation = env.reset(0, "train")
    word = first.task.removeprefix("Reverse: ")
    assert word.startswith("abc")
    assert first == environment(max_tasks=50, won_reward=1.5).reset(0, "train")
    right, wrong, long = (env.step(reply) for reply in (word[::-1], "x", "x" * 30))
    assert [(one.reward, one.won, one.terminated) for one in (right, wrong, long)] == [
        (1.5, True, True),
        (0.5, False, True),
        (0.0, False, True),
    ]


def test_splits_are_apart() -> None:
    pytest.importorskip("verifiers.v1")
    train, test = (
        {environment(max_tasks=50).reset(seed, split).task for seed in range(40)} for split in ("train", "test")
    )
    assert train
    assert test
    assert not train & test


@pytest.mark.parametrize(
    ("taskset", "kwargs", "said"),
    [
        ("verifiers_taskset:Boxes", {}, "verifiers_taskset:Boxes needs a container"),
        ("verifiers_taskset:Silent", {}, "has no prompt: its user begins"),
        ("verifiers_taskset:Nothing", {}, "taskset, config: verifiers_taskset:Nothing cannot be made"),
        ("no_such_module:Words", {}, "cannot be made: ModuleNotFoundError"),
        (WORDS, {"config": {"wrds": 1}}, "taskset, config: verifiers_taskset:Words cannot be made: .*wrds"),
    ],
)
def test_what_cannot_be_played_is_refused_with_its_reason(taskset: str, kwargs: dict[str, Any], said: str) -> None:
    pytest.importorskip("verifiers.v1")
    with pytest.raises(KwargsError, match=said):
        environment(taskset, (taskset,), max_tasks=5, **kwargs).reset(0, "train")
