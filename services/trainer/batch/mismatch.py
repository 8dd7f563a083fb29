"""Warns, or ends the job, when the engine's log-probabilities differ from the trainer's on equal weights."""

from __future__ import annotations

from services.trainer.errors import JobFailed
from services.trainer.learner.agreement import disagreement
from services.trainer.learner.errors import MismatchError
from services.trainer.session.session import Session


async def warn_of_mismatch(session: Session, what: str, mismatch_kl: float | None) -> None:
    """Tell the owner, once per session, when engine and trainer differ by more than rounding.

    Args:
        what: where it was measured, for the sentence.
        mismatch_kl: over tokens that the current version sampled, nats per token; None: there are none.

    Raises:
        JobFailed: they differ by more than any rounding.
    """
    if mismatch_kl is None:
        return
    try:
        sentence = disagreement(mismatch_kl, session.spec.model.torch_dtype)
    except MismatchError as error:
        raise JobFailed(f"{what}: {error}") from error
    if sentence is not None:
        await session.events.warn_once("mismatch", f"{what}: {sentence}")
