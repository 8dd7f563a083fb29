"""The base class of every section of a job spec."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator

from services.contracts.effectless_options import Effect, without_effect


class Section(BaseModel):
    """A part of the spec: frozen, and closed to unknown keys and to options without effect."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )
    effects: ClassVar[tuple[Effect, ...]] = ()
    """Its options that have an effect only beside others of it."""

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Self:
        if (problem := without_effect(self.effects, dict(self), self.changed)) is not None:
            raise ValueError(problem)
        return self

    def changed(self, option: str) -> bool:
        """Whether the option differs from its default."""
        field = type(self).model_fields[option]
        return bool(getattr(self, option) != field.get_default(call_default_factory=True))


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a field of this type holds; None: it is a leaf."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)
