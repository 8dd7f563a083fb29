"""References to a policy: a folder, `job:<job id>/<checkpoint>`, or `<owner>/<name>` on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

_REFERENCE = re.compile(r"job:([A-Za-z0-9][A-Za-z0-9._-]{0,31})/([A-Za-z0-9][A-Za-z0-9._-]{0,127})")
_HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
SCHEME = "job:"


def checkpoint_reference(job: str, checkpoint: str) -> str:
    """The text of `model.model` for a job's checkpoint."""
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


def hub_name(model: str) -> str | None:
    """The name on the hub that `model.model` is; None: it can be none. A relative path may look like one."""
    return model if _HUB.fullmatch(model) and ".." not in model and "--" not in model else None


def hub_store(data_dir: Path) -> Path:
    """The folder of models of the hub that an installation's jobs share, in the layout of the hub's own cache."""
    return data_dir / "hub"


def how_to_get(name: str) -> str:
    """How a user gets a model of the hub himself."""
    return f"`hf download {name} --local-dir DIR` fetches it, then want model: DIR"


def hub_refusal(name: str) -> str:
    """Why a name on the hub is refused where the operator has not allowed it, and what to do."""
    return (
        f"{name} is no folder that a job may take, and names on the Hugging Face hub are not fetched here: "
        f"{how_to_get(name)}; or start the stack with API_HUB_MODELS=true"
    )


def no_folder(model: str) -> str:
    """Why `model.model`, which names no folder, is refused."""
    if "://" in model:
        return f"want a folder in Hugging Face format, got the address {model}; bring its files here first"
    return f"want a folder, got the file {model}" if os.path.isfile(model) else f"no such folder: {model}"
