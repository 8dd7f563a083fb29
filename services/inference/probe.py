"""Checks that an engine serves the published weights: it must continue the manifest's probe as the trainer did."""

from __future__ import annotations

import math

from services.contracts.arrays import pack_int32, unpack_float32, unpack_int32
from services.contracts.policy import PolicyManifest, PolicyProbe
from services.contracts.sampling import Prompt, Sampling
from services.inference.engine import Engine, Outcome, Refusal

LARGEST = {"float32": 0.02, "bfloat16": 0.5}
"""Mean difference of log-probabilities, nats. Between vLLM and the trainer at most 5e-5 were measured in float32, and
in bfloat16 a mean of 0.035 with single tokens up to 0.5."""


async def wrong_weights(engine: Engine, manifest: PolicyManifest) -> str | None:
    """A sentence when the engine does not serve `manifest`'s weights; None when it does, or no probe came with them.

    Raises:
        EngineFailed: it broke while it was asked.
    """
    probe = manifest.probe
    if probe is None:
        return None
    sampling = Sampling(temperature=0.0, max_tokens=len(probe.response_ids[0]), stop_token_ids=())
    differences: list[float] = []
    async for outcomes in engine.generate([Prompt(pack_int32(ids), 0) for ids in probe.prompts], sampling):
        for index, outcome in outcomes:
            differences += _differences(outcome, probe, index)
    mean = math.fsum(differences) / len(differences)
    if mean <= LARGEST[manifest.torch_dtype]:
        return None
    return (
        f"the {engine.name} engine does not serve version {manifest.version}'s weights: its log-probabilities differ "
        f"from the trainer's by {mean:.3g} nats on average, want at most {LARGEST[manifest.torch_dtype]:g}"
    )


def _differences(outcome: Outcome, probe: PolicyProbe, index: int) -> list[float]:
    """Compare the likeliest tokens' log-probabilities up to the first token that is not the trainer's.

    That one counts too: where two tokens are nearly as likely, rounding decides which, but not how likely it is.
    """
    if isinstance(outcome, Refusal):
        return [math.inf]
    ids, logprobs = unpack_int32(outcome.response_ids), unpack_float32(outcome.logprobs)
    found = []
    for token, logprob, wanted_token, wanted in zip(
        ids, logprobs, probe.response_ids[index], probe.logprobs[index], strict=False
    ):
        found.append(abs(logprob - wanted))
        if token != wanted_token:
            break
    return found
