"""Columns of numbers as little-endian bytes, without numpy or torch (the standard library's `array`)."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from typing import TypeVar

_SWAP = sys.byteorder == "big"
T = TypeVar("T", int, float)


def _pack(packed: array[int] | array[float]) -> bytes:
    if _SWAP:
        packed.byteswap()
    return packed.tobytes()


def _unpack(values: array[T], payload: bytes) -> list[T]:
    values.frombytes(payload)
    if _SWAP:
        values.byteswap()
    return values.tolist()


def pack_int32(values: Iterable[int]) -> bytes:
    """[n] integers in int32's range -> 4n bytes. Raises OverflowError outside it."""
    return _pack(array("i", values))


def unpack_int32(payload: bytes) -> list[int]:
    """4n bytes -> [n] integers. Raises ValueError when the length is no multiple of 4."""
    return _unpack(array("i"), payload)


def pack_float32(values: Iterable[float]) -> bytes:
    """[n] numbers -> 4n bytes, rounded to float32."""
    return _pack(array("f", values))


def unpack_float32(payload: bytes) -> list[float]:
    """4n bytes -> [n] numbers. Raises ValueError when the length is no multiple of 4."""
    return _unpack(array("f"), payload)


def pack_int64(values: Iterable[int]) -> bytes:
    """[n] integers in int64's range -> 8n bytes. Raises OverflowError outside it."""
    return _pack(array("q", values))


def unpack_int64(payload: bytes) -> list[int]:
    """8n bytes -> [n] integers. Raises ValueError when the length is no multiple of 8."""
    return _unpack(array("q"), payload)


def pack_float64(values: Iterable[float]) -> bytes:
    """[n] numbers -> 8n bytes."""
    return _pack(array("d", values))


def unpack_float64(payload: bytes) -> list[float]:
    """8n bytes -> [n] numbers. Raises ValueError when the length is no multiple of 8."""
    return _unpack(array("d"), payload)
