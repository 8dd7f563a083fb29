"""The tables of docs/migrating.md: `python -m tests.unit.contracts.migrating_page` writes them anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from services.contracts.foreign import SOURCES, Source

PAGE = Path(__file__).parents[3] / "docs" / "migrating.md"
BEGIN = "<!-- made from services/contracts/foreign; python -m tests.unit.contracts.migrating_page -->\n"


def tables() -> str:
    """The part that follows the page's own words."""
    return BEGIN + "\n".join(line for source in SOURCES.values() for line in _of(source)) + "\n"


def _of(source: Source) -> Iterator[str]:
    yield f"\n## {source.title}\n"
    if source.same:
        yield f"**The same here:** {', '.join(f'`{name}`' for name in source.same)}.\n"
    pairs = [f"`{name}` {json.dumps(value)}" for name, value in source.defaults.items()]
    yield f"**Defaults that differ from ours** (under our names): {', '.join(pairs)}.\n"
    taken = [f"`{row.name}` (`{row.ours}`)" for row in source.rows if row.taken]
    if taken:
        yield f"**Taken as they stand:** {', '.join(taken)}.\n"
    yield "| there | here | what differs |\n|---|---|---|"
    for row in source.rows:
        if row.ours and not row.taken:
            yield f"| `{row.name}` | `{row.ours}` | {row.words} |"
    yield "\n**Not here, and what to do instead:**\n"
    reasons: dict[str, list[str]] = {}
    for row in source.rows:
        if row.ours is None:
            reasons.setdefault(row.words, []).append(f"`{row.name}`")
    for words, names in reasons.items():
        yield f"- {words[:1].upper()}{words[1:]}: {', '.join(names)}."


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().partition(BEGIN)[0] + tables())
