"""Looks for NaN and infinity in weights, without a library for numbers: the exponent's bits tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from services.api.policies.safetensors_header import Tensor, data_begins, read_header
from services.api.policies.weights import is_weight

BLOCK_BYTES = 1 << 20
LOOKED_AT_BYTES = 256 << 20
"""Bytes that are read of a model: the whole of a smaller one, evenly spread blocks of a larger one, at least one of
each tensor."""
_HALF_EXPONENTS = bytes(byte for byte in range(256) if byte & 0x7C == 0x7C)


def not_finite(files: list[Path]) -> list[str]:
    """A sentence for the first tensor that holds NaN or infinity, or a number that would become infinite in training;
    none where no block that was read does."""
    every = max(1, -(-sum(file.stat().st_size for file in files) // LOOKED_AT_BYTES))
    for file in files:
        for name, tensor in read_header(file).items():
            if not is_weight(name):
                continue  # a mask may hold infinity
            if (look := _LOOKS.get(tensor.dtype)) and any(map(look, _blocks(file, tensor, every))):
                return [f"{file.name}: {name}: want finite numbers, got NaN, infinity or numbers above 1.7e38"]
    return []


def _blocks(file: Path, tensor: Tensor, every: int) -> Iterator[bytes]:
    """Each `every`-th block of the tensor's bytes."""
    begin, end = (data_begins(file) + offset for offset in tensor.offsets)
    with file.open("rb") as opened:
        for at in range(begin, end, every * BLOCK_BYTES):
            opened.seek(at, os.SEEK_SET)
            yield opened.read(min(BLOCK_BYTES, end - at))


def _largest_exponent(width: int) -> Callable[[bytes], bool]:
    """Return a test of numbers of `width` bytes whose topmost byte is the sign and 7 bits of the exponent: all 7 are
    set only above 1.7e38 (float64: 1e304)."""

    def look(block: bytes) -> bool:
        top = block[width - 1 :: width]
        return b"\x7f" in top or b"\xff" in top

    return look


def _half(block: bytes) -> bool:
    top = block[1::2]
    return len(top.translate(None, _HALF_EXPONENTS)) < len(top)


_LOOKS: dict[str, Callable[[bytes], bool]] = {
    "F64": _largest_exponent(8),
    "F32": _largest_exponent(4),
    "BF16": _largest_exponent(2),
    "F16": _half,
}
