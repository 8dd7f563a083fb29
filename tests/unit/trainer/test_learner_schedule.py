import pytest

from services.contracts.job import Training, WarmStart
from services.trainer.learner.schedule import learning_rate, supervised_learning_rate


def rates(**settings: object) -> list[float]:
    training = Training.model_validate({"learning_rate": 1.0, "total_batches": 5, **settings})
    return [learning_rate(training, batch) for batch in range(5)]


def test_linear_ends_at_its_share_right_after_the_last_batch() -> None:
    assert rates(lr_scheduler_type="linear", lr_end_ratio=0.5) == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6])


def test_no_batch_of_the_default_schedule_is_trained_at_rate_0() -> None:
    assert rates() == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    two = Training(learning_rate=1.0, total_batches=2)
    assert [learning_rate(two, batch) for batch in range(2)] == [1.0, 0.5]


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_the_path_is_that_of_transformers(kind: str) -> None:
    import torch
    from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

    made = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}[kind]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler, theirs = made(optimizer, 0, 5), []
    for _ in range(5):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(lr_scheduler_type=kind) == pytest.approx(theirs)


def test_constant_stays() -> None:
    assert rates(lr_scheduler_type="constant") == [1.0] * 5


def test_warm_up_ramps_on_top_of_the_schedule() -> None:
    assert rates(lr_scheduler_type="constant", warmup_batches=4) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates(lr_scheduler_type="linear", warmup_batches=2) == pytest.approx([0.5, 0.8, 0.6, 0.4, 0.2])


def test_batches_past_the_end_keep_its_rate() -> None:
    training = Training(learning_rate=1.0, total_batches=5, lr_end_ratio=0.1)
    assert learning_rate(training, 9) == pytest.approx(0.1)


def test_one_batch_alone_gets_the_full_rate() -> None:
    assert learning_rate(Training(learning_rate=1.0, total_batches=1), 0) == 1.0


def test_warm_start_ramps_thirty_steps_and_decays_to_a_tenth() -> None:
    warmstart = WarmStart(warmstart_steps=300, warmstart_learning_rate=1.0)
    assert supervised_learning_rate(warmstart, 0) == pytest.approx(1 / 30)
    assert supervised_learning_rate(warmstart, 29) == pytest.approx(1 - 0.9 * 29 / 300)
    assert supervised_learning_rate(warmstart, 299) == pytest.approx(0.103)
