"""Options that have an effect only beside certain values of others. Each rule is one row of its section's table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Effect:
    """An option changes something only where others have certain values."""

    option: str
    reads: tuple[str, ...]
    """The other options that decide."""
    holds: Callable[..., bool]
    """Whether the option has an effect, from their values in the order of `reads`."""
    wanted: str
    """The condition of `holds`, in words that go on after `want`."""


def effective_with(option: str, choice: str, having: Iterable[str]) -> Effect:
    """The option belongs to these values of `choice` alone."""
    owners = frozenset(having)
    return Effect(option, (choice,), owners.__contains__, f"{choice}: {either(owners)}")


def without_effect(
    effects: Iterable[Effect], values: Mapping[str, object], changed: Callable[[str], bool]
) -> str | None:
    """Describe the changed options without effect that share the first reason; None: every change has an effect.

    A default value never counts as a change, so a spec may write every default out.

    Args:
        values: option -> its value, of all that `effects` name.
        changed: whether an option differs from its default.
    """
    reasons: dict[str, list[str]] = {}
    for effect in effects:
        read = {name: values[name] for name in effect.reads}
        if changed(effect.option) and not effect.holds(*read.values()):
            got = " and ".join(f"{name}: {_as_written(value)}" for name, value in read.items())
            reasons.setdefault(f"want {effect.wanted} with %s, got {got}", []).append(effect.option)
    for reason, options in reasons.items():
        return f"{', '.join(options)}: {reason % ('it' if len(options) == 1 else 'them')}"
    return None


def either(names: Iterable[str]) -> str:
    """`a, b or c`, in alphabetical order."""
    *others, last = sorted(names)
    return f"{', '.join(others)} or {last}" if others else last


def _as_written(value: object) -> str:
    """A value as it stands in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
