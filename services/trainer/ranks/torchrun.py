"""The command that starts the ranks of one machine, torchrun's where there are several; loads no torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from services.trainer.settings import Settings


@dataclass(frozen=True)
class Meeting:
    """Where the ranks of several machines meet.

    Args:
        address: host:port of node 0.
        node: this machine, below `nodes`.
    """

    address: str
    node: int
    nodes: int


def meeting_of(settings: Settings) -> Meeting | None:
    """None: one machine has all ranks."""
    return Meeting(settings.rendezvous, settings.node, settings.nodes) if settings.nodes > 1 else None


def ranks_command(ranks: int, socket: str, meeting: Meeting | None) -> list[str]:
    """Start this machine's share of all `ranks`; a lone one has nobody to meet, so it starts without torchrun.

    Args:
        socket: path of the trainer's socket, to which rank 0 connects; it is on node 0.
    """
    rank = ["-m", "services.trainer.ranks.process", socket]
    if ranks == 1:
        return [sys.executable, *rank]
    if meeting is None:  # on loopback, at a port of the system's choice
        share = ranks
        met = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    else:  # the static backend, because rank 0 has to be on node 0
        host, _, port = meeting.address.rpartition(":")
        share = ranks // meeting.nodes
        met = ["--nnodes", str(meeting.nodes), "--node-rank", str(meeting.node)]
        met += ["--master-addr", host, "--master-port", port]
    torchrun = ["torch.distributed.run", "--nproc-per-node", str(share), "--max-restarts", "0", *met]
    return [sys.executable, "-m", *torchrun, *rank]
