"""Token ids and log-probabilities as little-endian bytes, without numpy or torch (the standard library's `array`)."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from typing import Any, Literal

_SWAP = sys.byteorder == "big"


def _pack(code: Literal["i", "f"], values: Iterable[float]) -> bytes:
    packed: array[Any] = array(code, values)
    if _SWAP:
        packed.byteswap()
    return packed.tobytes()


def _unpack(code: Literal["i", "f"], payload: bytes) -> list[Any]:
    values: array[Any] = array(code)
    values.frombytes(payload)
    if _SWAP:
        values.byteswap()
    return values.tolist()


def pack_int32(values: Iterable[int]) -> bytes:
    """[n] integers in int32's range -> 4n bytes. Raises OverflowError outside it."""
    return _pack("i", values)


def unpack_int32(payload: bytes) -> list[int]:
    """4n bytes -> [n] integers. Raises ValueError when the length is no multiple of 4."""
    return _unpack("i", payload)


def pack_float32(values: Iterable[float]) -> bytes:
    """[n] numbers -> 4n bytes, rounded to float32."""
    return _pack("f", values)


def unpack_float32(payload: bytes) -> list[float]:
    """4n bytes -> [n] numbers. Raises ValueError when the length is no multiple of 4."""
    return _unpack("f", payload)
