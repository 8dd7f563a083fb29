"""The second scoring stage, at the cut of a batch: advantages whose scale spans the batch or whose rewards hold the KL.

A complete group is first scored alone; only here all groups of a batch and the reference policy are together. The
result replaces the groups' scores, so the manifest holds its hash, a successor that replays the manifest must compute
the same bytes, and the archive shows the trained advantages.
"""

from __future__ import annotations

from collections.abc import Sequence

from gigpo_core import AdvantageConfig
from services.contracts.algorithm import advantage_values
from services.contracts.job import JobSpec
from services.contracts.messages import encode
from services.trainer.groups.payloads import Payload
from services.trainer.learner.port import Divergences, Rescoring


def scored_together(
    groups: Sequence[Payload], spec: JobSpec, rescored: Rescoring, kl: Divergences | None = None
) -> list[Payload]:
    """The groups of a batch with the advantages that they have in it; unchanged where nothing is left to this stage.

    A pure function of the stored episodes, the spec and `kl`: equal groups in equal order give equal bytes.

    Args:
        rescored: see `learner.second_stage.rescored`.
        kl: wanted where the spec takes the KL from the rewards.

    Raises:
        LearnerError: a group's rows are wrong, or the KL is wanted and not there.
    """
    config = AdvantageConfig(**advantage_values(spec.algorithm, spec.rewards))
    if not (config.spans_batch or config.subtracts_kl):
        return list(groups)
    found = rescored([(group.scored, group.episodes) for group in groups], spec, kl)
    return [
        Payload(encode(scored), group.episode_payloads, scored, group.episodes)
        for group, scored in zip(groups, found, strict=True)
    ]
