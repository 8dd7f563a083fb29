"""The table of docs/metrics.md, which is made from `METRICS`.

Write it anew: python -m tests.unit.contracts.metrics_page
"""

from __future__ import annotations

from pathlib import Path

from services.contracts.metrics import metric_table

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
HEAD = "| field |"


def written(page: str) -> str:
    """The page with the table as it is now, at its end."""
    return page.partition(HEAD)[0] + metric_table()


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
