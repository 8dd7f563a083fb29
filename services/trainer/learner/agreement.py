"""The largest difference between the engine's and the trainer's log-probabilities that equal weights allow."""

from __future__ import annotations

from services.trainer.learner.errors import MismatchError
from services.trainer.learner.weights import Dtype

WARN_ABOVE: dict[Dtype, float] = {"float32": 1e-4, "bfloat16": 0.015}
"""Mean k3 KL, nats per token. In float32 sums in another order give 1e-9 (differences up to 5e-5 were measured), so
1e-4 (differences of 0.014) has another cause; in bfloat16 rounding gives about 0.002."""

END_ABOVE: dict[Dtype, float] = {"float32": 5e-3, "bfloat16": 0.15}
"""The same. Wrong experts in one layer of a small mixture gave 0.01, with single tokens off by 0.4 nats; in bfloat16
ten times the warning's bound. What such a batch teaches is not this policy's."""


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
