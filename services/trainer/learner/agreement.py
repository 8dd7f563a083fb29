"""The largest difference between the engine's and the trainer's log-probabilities that equal weights allow."""

from __future__ import annotations

from services.contracts.mismatch import END_ABOVE, WARN_ABOVE, Dtype
from services.trainer.learner.errors import MismatchError


def disagreement(mismatch_kl: float, dtype: Dtype) -> str | None:
    """A sentence when engine and trainer differ by more than rounding; None when they agree.

    Args:
        mismatch_kl: mean k3 KL over tokens that the current version sampled, nats per token.

    Raises:
        MismatchError: they differ by more than END_ABOVE, or the difference is not a number.
    """
    if mismatch_kl <= WARN_ABOVE[dtype]:
        return None
    measured = (
        f"engine and trainer differ by {mismatch_kl:.3g} nats a token (mean KL) on what the current version sampled"
    )
    if mismatch_kl <= END_ABOVE[dtype]:
        return f"{measured}, want at most {WARN_ABOVE[dtype]:g} in {dtype}: the engine may serve other weights"
    raise MismatchError(
        f"{measured}, want at most {END_ABOVE[dtype]:g}: the engine does not serve this version's weights"
    )
