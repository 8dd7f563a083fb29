"""How every answer is read."""

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Base of all answers; what is unknown in them is left out: a newer API says more."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())
