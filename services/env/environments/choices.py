"""Kwargs with several values, one of which is drawn for each task."""

from typing import Annotated, TypeVar

from pydantic import Field

T = TypeVar("T")

Choices = Annotated[tuple[T, ...], Field(min_length=1)]
"""`Choices[Annotated[int, Field(ge=2, le=9)]]`: numbers from 2 to 9, at least one."""
