"""The table of alarms in docs/reliability.md, which is made from `ALARMS`.

Write it anew: python -m tests.unit.contracts.alarms_page
"""

from __future__ import annotations

from pathlib import Path

from services.contracts.alarms import alarm_table

PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"
MARK, NEXT = "<!-- the table is made: python -m tests.unit.contracts.alarms_page -->\n", "\n## Equal runs"


def written(page: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = page.partition(MARK)
    return before + MARK + alarm_table() + NEXT + rest.partition(NEXT)[2]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
