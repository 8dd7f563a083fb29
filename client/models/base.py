"""How every answer is read."""

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class OpenAnswer(Answer):
    """One whose further fields are kept as they come."""

    model_config = ConfigDict(extra="allow")
