"""Base classes of all REST documents."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

T = TypeVar("T")


class Document(BaseModel):
    """The strings below its fields are their descriptions in the OpenAPI document."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Request(Document):
    """A body that is sent to us: unknown keys are refused, never ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Page(Document, Generic[T]):
    """Some entries of a collection. Every collection is answered like this."""

    # Pydantic would look for docstrings of each Page[...] in every frame of the stack: a sixth of an API's start.
    # A page with fields of its own has `model_config = Document.model_config`.
    model_config = ConfigDict(use_attribute_docstrings=False)

    items: list[T]
    next_cursor: str | None = Field(
        description="Give it as `cursor` for the next page; null: this is the last. It means nothing else."
    )


DEPRECATED: dict[str, JsonValue] = {"deprecated": True}
"""Schema mark of a field that is kept for those who know the last version."""


def _known_or_text(value: object, known: ValidatorFunctionWrapHandler) -> object:
    try:
        return known(value)
    except ValidationError:
        if not isinstance(value, str):
            raise
        return value


Named = Annotated[T, WrapValidator(_known_or_text), PlainSerializer(lambda value: value)]
"""One of some names in an answer. A client also reads a name that only a newer API knows, as plain text."""
