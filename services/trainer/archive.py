"""Trained groups as files, so that people can see why a step was rewarded after Redis has forgotten it.

Format of `rollouts/batch-00001.msgpack.zlib` (a trained batch) and `rollouts/eval-after-00060.msgpack.zlib` (an
evaluation by label and policy version): zlib over a msgpack array with one entry per group, in order of cursor:
[`ScoredGroup` payload, [`Episode` payload, ... in order of k]]. The payloads are the messages' bytes as they were in
the ledger; `services.contracts.messages.decode` reads them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.contracts.messages import Episode, ScoredGroup, decode
from services.trainer.folders import write_durably
from services.trainer.payloads import Payload

LEVEL = 1  # 103 kB -> 70 kB a rollout; higher levels cost more than they save

Archived = list[tuple[bytes, list[bytes]]]


def archive(groups: Sequence[Payload], path: Path) -> None:
    """Write groups; writing them again gives the same bytes."""
    archived: Archived = [(group.scores, group.episode_payloads) for group in groups]
    write_durably(path, zlib.compress(msgspec.msgpack.encode(archived), LEVEL))


def read_archive(path: Path) -> list[tuple[ScoredGroup, list[Episode]]]:
    """The groups of a batch. Raises OSError, zlib.error, msgspec.MsgspecError or ContractError."""
    groups = msgspec.msgpack.decode(zlib.decompress(path.read_bytes()), type=Archived)
    return [
        (decode(scores, ScoredGroup), [decode(episode, Episode) for episode in episodes]) for scores, episodes in groups
    ]
