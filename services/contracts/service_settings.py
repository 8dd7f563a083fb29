"""Reads a service's settings from its environment variables; a wrong one is a sentence, and the process ends."""

from __future__ import annotations

import os
import re
import sys
from typing import TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsError

from services.contracts.plain_errors import in_words, shown

REFUSED = 2
"""Exit status of a service whose settings are wrong."""
_SECRET = re.compile(r"key|secret|password|token|redis_url|database_url")
"""Fields whose values are never shown."""

S = TypeVar("S", bound=BaseSettings)


class _Unshown:
    def __repr__(self) -> str:
        return "a value that is not shown"


def read_settings(kind: type[S]) -> S:
    """The settings in this process's variables; ends the process with status 2 and a sentence for each wrong one."""
    prefix = kind.model_config.get("env_prefix", "")
    try:
        return kind()
    except ValidationError as error:
        wrong = "; ".join(_sentence(kind, prefix, one["loc"], dict(one)) for one in error.errors())
    except SettingsError as error:  # raised before a value is looked at
        (field,) = re.findall(r'field "(\w+)"', str(error))
        name = f"{prefix}{field.upper()}"
        wrong = f"{name}: want JSON, got {_Unshown() if _is_secret(kind, field) else shown(os.environ.get(name, ''))}"
    sys.stderr.write(f"{wrong}\n")
    sys.exit(REFUSED)


def _sentence(kind: type[BaseSettings], prefix: str, place: tuple[int | str, ...], problem: dict[str, object]) -> str:
    if not place:  # the error is about several settings together; it names them
        return in_words(problem)
    field = str(place[0])
    if _is_secret(kind, field):
        problem["input"] = _Unshown()
    return f"{prefix}{field.upper()}: {in_words(problem)}"


def _is_secret(kind: type[BaseSettings], field: str) -> bool:
    found = kind.model_fields.get(field)
    return bool(_SECRET.search(field)) or (found is not None and SecretStr.__name__ in str(found.annotation))
