"""The largest difference between the engine's and the trainer's log-probabilities that equal weights allow."""

from __future__ import annotations

from typing import Literal

Dtype = Literal["float32", "bfloat16"]

WARN_ABOVE: dict[Dtype, float] = {"float32": 1e-4, "bfloat16": 0.015}
"""Mean k3 KL, nats per token. In float32 sums in another order give 1e-9 (differences up to 5e-5 were measured), so
1e-4 (differences of 0.014) has another cause; in bfloat16 rounding gives about 0.002."""

END_ABOVE: dict[Dtype, float] = {"float32": 5e-3, "bfloat16": 0.15}
"""The same. Wrong experts in one layer of a small mixture gave 0.01, with single tokens off by 0.4 nats; in bfloat16
ten times the warning's bound. What such a batch teaches is not this policy's."""
