"""Files of users that jobs run with: kept on shared storage under the hash of their content.

`file:<hash>/<name>` is the folder of that hash, with a file or a copy of a folder of that name in it; a function in one
is `file:<hash>/<name>.py:<function>`. So a job that is repeated or resumed has the very same files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

SCHEME = "file:"
ARRIVING = ".arriving-"
"""Beginning of a folder's name while files are copied into it."""
_REFERENCE = re.compile(r"file:([0-9a-f]{64})/([^/\0]{1,255})")
_FUNCTION = re.compile(r"(.+\.py):([A-Za-z_][A-Za-z0-9_]*)", re.DOTALL)


def files_root(data_dir: Path) -> Path:
    """The folder in which an installation keeps them."""
    return data_dir / "files"


def content_hash(digests: Mapping[str, str]) -> str:
    """Names a set of files by their names and SHA-256."""
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def file_reference(sha: str, name: str) -> str:
    """How a spec names what is kept."""
    return f"{SCHEME}{sha}/{name}"


def referenced_file(text: str) -> tuple[str, str] | None:
    """Hash and name; None: it is no reference."""
    found = _REFERENCE.fullmatch(text)
    return None if found is None else (found[1], found[2])


def split_function(name: str) -> tuple[str, str] | None:
    """File and function of `my_reward.py:score`; None: the name of a reward function that is installed."""
    found = _FUNCTION.fullmatch(name)
    return None if found is None else (found[1], found[2])


def reward_label(name: str) -> str:
    """The name of a reward function in the metrics: its own, `my_reward.score` for one in a file."""
    if (parts := split_function(name)) is None:
        return name
    return f"{Path(parts[0]).stem}.{parts[1]}"
