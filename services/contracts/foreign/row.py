"""One row of the tables of foreign names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Foreign:
    """A setting of another trainer."""

    name: str
    """The name as it is spelt there, without dashes: `save_steps`, `data.train_batch_size`."""
    ours: str | None = None
    """Our key for it, `MAPPING.KEY` for one inside a mapping; None: there is none."""
    words: str = ""
    """The difference, or the reason of its absence and the substitute; goes on after a colon, without a full stop."""
    taken: bool = False
    """Its value means the same, so `gigpo train --NAME` takes it for ours."""

    @property
    def sentence(self) -> str:
        """A note for a user who wrote it as a flag."""
        return self.told(f"--{self.ours}")

    def told(self, place: str) -> str:
        """The same, where our key is called `place`."""
        if self.ours is None:
            return self.words
        return f"here {place}" + (f", {self.words}" if self.words else "")


def synonym(name: str, ours: str) -> Foreign:
    """A name for ours that is taken."""
    return Foreign(name, ours, taken=True)


def instead(name: str, ours: str, words: str = "") -> Foreign:
    """A setting that another one of ours takes the place of; `words` say what differs."""
    return Foreign(name, ours, words)


def absent(words: str, names: str) -> tuple[Foreign, ...]:
    """Names, separated by spaces, that share the reason why they are not here."""
    return tuple(Foreign(name, None, words) for name in spaced(names))


def spaced(names: str) -> tuple[str, ...]:
    """The names of a text."""
    return tuple(names.split())
