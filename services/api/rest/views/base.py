"""What all documents share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """The strings below its fields are their descriptions in the OpenAPI document."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Request(Document):
    """A body that is sent to us: unknown keys are refused, never ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
