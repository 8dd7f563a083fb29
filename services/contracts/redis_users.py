"""A Redis user for each service: what its keys are, and no command that administers or empties the server.

`python -m services.contracts.redis_users` prints the lines of an ACL file; replace each PASSWORD.
"""

from __future__ import annotations

import sys

from services.contracts.keys import ACTIVE_JOBS, ALARMS, QUEUE_PLACES, REPLICAS, TRAINER_QUEUE, WRITABLE

_SHARED = ("{j*}:*", ACTIVE_JOBS, f"{{{ACTIVE_JOBS}}}:*", "services:alive:*")
_INFERENCE = ("{inference:*}:*", "{rollout:*}:*", REPLICAS, f"{{{REPLICAS}}}:*")
_AGENTS = "{api:*}:*"
"""Answers to calls of outside agents."""
_CELERY = (f"{TRAINER_QUEUE}*", "unacked*", "_kombu.*")
_QUEUE = (*_CELERY, *(f"{{{pattern}}}:*" for pattern in _CELERY))
"""Keys of Celery, and where those of another type are set aside."""
KEYS = {
    "advantage": _SHARED,
    "rollout": (*_SHARED, *_INFERENCE, _AGENTS),
    "inference": (*_SHARED, *_INFERENCE),
    "trainer": (*_SHARED, *_INFERENCE, *_QUEUE),
    "api": (*_SHARED, *_INFERENCE, _AGENTS, *_QUEUE, ALARMS, f"{{{ALARMS}}}:*", WRITABLE, QUEUE_PLACES, "rates*"),
}
"""Service -> patterns of the keys that it may use."""
COMMANDS = "+@all -@admin -@dangerous +info"
_CHANNELS = {"trainer": " &*", "api": " &*"}
"""Celery's."""


def acl_line(service: str, password: str) -> str:
    """The line of an ACL file."""
    patterns = " ".join(f"~{pattern}" for pattern in KEYS[service])
    return f"user {service} on >{password} resetkeys resetchannels {patterns}{_CHANNELS.get(service, '')} {COMMANDS}"


if __name__ == "__main__":
    sys.stdout.write("".join(f"{acl_line(service, 'PASSWORD')}\n" for service in KEYS))
