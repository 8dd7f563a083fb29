"""The header of a safetensors file: which tensors it holds, without reading them."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeGuard

from services.contracts.plain_errors import kind_of

_MOST_HEADER_BYTES = 100 << 20
"""Longest header that safetensors itself reads."""
_LENGTH_BYTES = 8
_LFS_POINTER = b"version https://git-lfs"
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
    "U16": 16, "BOOL": 8, "I8": 8, "U8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""Bytes of a number in each format that safetensors has."""


class WeightsProblem(ValueError):
    """A file of weights is no whole safetensors file; the message names it."""


@dataclass(frozen=True)
class Tensor:
    """One entry of a header."""

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int] = (0, 0)
    """Its first byte and the one behind its last, behind the header."""

    @property
    def numbers(self) -> int:
        return prod(self.shape)


def read_header(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a safetensors file.

    Raises:
        WeightsProblem: it is none, or its tensors' bytes are not those that the file has.
    """
    wanted = f"{path.name}: want a safetensors file"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            begin = file.read(max(_LENGTH_BYTES, len(_LFS_POINTER)))
            if begin.startswith(_LFS_POINTER):
                raise WeightsProblem(
                    f"{wanted}, got a Git LFS pointer of {size} bytes; `git lfs pull` fetches the file"
                )
            if len(begin) < _LENGTH_BYTES:
                raise WeightsProblem(f"{wanted}, got a file of {size} bytes")
            (length,) = struct.unpack("<Q", begin[:_LENGTH_BYTES])
            if length > min(_MOST_HEADER_BYTES, size - _LENGTH_BYTES):
                raise WeightsProblem(f"{wanted} with a header of {length} bytes, got a file of {size} bytes")
            file.seek(_LENGTH_BYTES)
            header = json.loads(file.read(length))
    except OSError as error:
        raise WeightsProblem(f"{path.name}: want a file that can be read, got {error.strerror}") from error
    except ValueError as error:
        if isinstance(error, WeightsProblem):
            raise
        raise WeightsProblem(f"{wanted}, got a header that is no JSON") from error
    if not isinstance(header, dict):
        raise WeightsProblem(f"{wanted} with a JSON object as its header, got {kind_of(header)}")
    return _tensors(header, path.name, size - _LENGTH_BYTES - length)


def data_begins(path: Path) -> int:
    """The offset of the tensors' bytes in a safetensors file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(_LENGTH_BYTES))
        return _LENGTH_BYTES + int(length)


def _tensors(header: dict[str, object], file: str, held_bytes: int) -> dict[str, Tensor]:
    found, ends = {}, []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        found[name], begin, end = _tensor(entry, f"{file}: {name}")
        ends.append((begin, end))
    last = 0
    for begin, end in sorted(ends):
        if begin != last:
            raise WeightsProblem(
                f"{file}: want tensors one behind the other, got one at byte {begin} instead of {last}"
            )
        last = end
    if last != held_bytes:
        raise WeightsProblem(f"{file}: want {last} bytes of tensors, as its header says, got {held_bytes}")
    return found


def _tensor(entry: object, where: str) -> tuple[Tensor, int, int]:
    """Read a tensor's entry; return it with its first byte and the byte behind its last."""
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or not _whole(shape) or not _whole(offsets) or len(offsets) != 2:
        raise WeightsProblem(f"{where}: want dtype, shape and data_offsets, got {str(entry)[:80]}")
    if dtype not in _BITS:
        raise WeightsProblem(f"{where}: want a dtype of safetensors such as F32 or BF16, got {dtype}")
    begin, end = offsets
    tensor = Tensor(dtype, tuple(shape), (begin, end))
    if (wanted := tensor.numbers * _BITS[dtype] // 8) != end - begin:
        raise WeightsProblem(f"{where}: want {wanted} bytes ({dtype}, shape {list(shape)}), got {end - begin}")
    return tensor, begin, end


def _whole(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(isinstance(value, int) and value >= 0 for value in values)


def file_parameters(path: Path) -> int:
    """Numbers in a safetensors file; 0 for a file that is none."""
    try:
        return sum(tensor.numbers for tensor in read_header(path).values())
    except WeightsProblem:
        return 0
