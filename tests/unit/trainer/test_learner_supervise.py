import random
from pathlib import Path

import pytest
import torch
from learner_cases import EOS, job_spec, naive_logits, random_rows, same_bits, scratch_folder, weights_of

from gigpo_core import Turn, lone_turn
from services.contracts.job import WarmStart
from services.trainer.learner.errors import RowsError
from services.trainer.learner.learner import Learner
from services.trainer.learner.supervise import Supervising

WARMSTART = WarmStart(warmstart_steps=120, warmstart_batch_size=32, warmstart_learning_rate=1e-2)
VERBS, PLACES = (4, 5, 6), (9, 10, 11)


def replies(number: int) -> list[Turn]:
    """A reply is a verb, one of the two places that the prompt names, and the end."""
    draw = random.Random(0)
    turns: list[Turn] = []
    for _ in range(number):
        places = draw.sample(PLACES, 2)
        turns.append(lone_turn((3, *places, 14), (draw.choice(VERBS), draw.choice(places), EOS)))
    return turns


def whole(warming: Supervising, seen: list[tuple[int, float]] | None = None) -> dict[str, float]:
    """Drive the warm start to its end; its report."""
    while True:
        try:
            step = next(warming)
        except StopIteration as end:
            report: dict[str, float] = end.value
            return report
        if seen is not None:
            seen.append(step)


def test_the_warm_start_teaches_the_form_of_a_reply(tmp_path: Path) -> None:
    learner = Learner(job_spec(), scratch_folder(tmp_path / "base"))
    seen: list[tuple[int, float]] = []
    report = whole(learner.supervise(replies(400), WARMSTART), seen)
    assert [step for step, _ in seen] == list(range(1, 121))
    assert report["warmstart_steps"] == 120
    assert report["warmstart_rows"] == 400
    assert report["warmstart_nll"] < 0.7 < 1.5 < seen[0][1]
    # What can't be foreseen is the verb (1 of 3) and the place (1 of 2): (ln 3 + ln 2 + 0) / 3 nats per token.
    assert seen[-1][1] == pytest.approx(0.597, abs=0.06)
    places = PLACES[:2]
    with torch.no_grad():
        chances = torch.softmax(naive_logits(learner.model, (3, *places, 14), (VERBS[0], places[0], EOS)), -1)
    assert float(chances[0, list(VERBS)].sum()) > 0.97
    assert float(chances[1, list(places)].sum()) > 0.9
    assert float(chances[2, EOS]) > 0.97


def test_one_seed_warms_to_the_same_bits(tmp_path: Path) -> None:
    base = scratch_folder(tmp_path / "base")
    few = WARMSTART.model_copy(update={"warmstart_steps": 3})
    learners = [Learner(job_spec(seed=seed), base) for seed in (1, 1, 2)]
    for learner in learners:
        whole(learner.supervise(replies(50), few))
    one, same, other = (weights_of(learner.model) for learner in learners)
    assert same_bits(one, same)
    assert not same_bits(one, other)


def test_training_starts_afresh_from_the_warm_policy(tmp_path: Path) -> None:
    learner = Learner(job_spec(beta=0.1, minibatches=1), scratch_folder(tmp_path / "base"))
    whole(learner.supervise(replies(50), WARMSTART.model_copy(update={"warmstart_steps": 5})))
    assert learner.optimizer_steps == 0
    assert learner.train_batch(random_rows(6), 0)["kl"] == pytest.approx(0.0, abs=1e-6)
    assert learner.optimizer_steps == 1


@pytest.mark.parametrize("turns", [[], [lone_turn((3,), ())], [lone_turn((), (3,))]])
def test_nothing_to_learn_from_is_refused(tmp_path: Path, turns: list[Turn]) -> None:
    learner = Learner(job_spec(), scratch_folder(tmp_path / "base"))
    with pytest.raises(RowsError, match="want turns of a prompt and a response"):
        whole(learner.supervise(turns, WARMSTART))
