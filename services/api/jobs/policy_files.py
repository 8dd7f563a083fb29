"""The size of a policy, from the headers of its files."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path

_MOST_HEADER_BYTES = 100 << 20
"""Longest header that safetensors itself reads."""


def file_parameters(path: Path) -> int:
    """Numbers in a safetensors file, read from its header; 0 for a file that is none."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        try:
            header = json.loads(file.read(min(length, _MOST_HEADER_BYTES)) or b"{}")
        except ValueError:
            return 0
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
