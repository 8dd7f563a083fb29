import pytest

from services.contracts.job import Training, WarmStart
from services.trainer.learner.schedule import learning_rate, supervised_learning_rate


def rates(**settings: object) -> list[float]:
    training = Training.model_validate({"learning_rate": 1.0, "total_batches": 5, **settings})
    return [learning_rate(training, batch) for batch in range(5)]


def test_linear_ends_at_its_share_at_the_last_batch() -> None:
    assert rates(lr_scheduler_type="linear", lr_end_ratio=0.2) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_cosine_is_halfway_in_the_middle() -> None:
    assert rates(lr_scheduler_type="cosine", lr_end_ratio=0.0) == pytest.approx(
        [1.0, 0.853553, 0.5, 0.146447, 0.0], abs=1e-6
    )


def test_constant_stays() -> None:
    assert rates(lr_scheduler_type="constant") == [1.0] * 5


def test_warm_up_ramps_on_top_of_the_schedule() -> None:
    assert rates(lr_scheduler_type="constant", warmup_batches=4) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates(lr_scheduler_type="linear", warmup_batches=2) == pytest.approx([0.5, 0.75, 0.5, 0.25, 0.0])


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
