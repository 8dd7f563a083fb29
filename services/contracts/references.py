"""References to another job's policy in a spec: `job:<job id>/<checkpoint>`."""

from __future__ import annotations

import re

_REFERENCE = re.compile(r"job:([A-Za-z0-9][A-Za-z0-9._-]{0,31})/([A-Za-z0-9][A-Za-z0-9._-]{0,127})")
SCHEME = "job:"


def checkpoint_reference(job: str, checkpoint: str) -> str:
    """What `model.model` says for a job's checkpoint."""
    return f"{SCHEME}{job}/{checkpoint}"


def referenced_checkpoint(model: str) -> tuple[str, str] | None:
    """The job and the checkpoint that `model.model` names; None: it is a folder.

    Raises:
        ValueError: it begins as a reference and is none.
    """
    if not model.startswith(SCHEME):
        return None
    if (parts := _REFERENCE.fullmatch(model)) is None:
        raise ValueError(f"want job:<job id>/<checkpoint>, got {model!r}")
    return parts[1], parts[2]
