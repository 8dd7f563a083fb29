"""The result as a table for people and as a document for machines."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from tests.chaos.checks import Check
from tests.chaos.faults import Bar
from tests.chaos.recovery import Struck

HELD, LATE, LOST = "held", "late", "lost"


@dataclass(frozen=True)
class Row:
    """All faults of one kind that struck one service."""

    kind: str
    service: str
    count: int
    recovered: tuple[float, ...]
    """Seconds, of those that recovered."""
    bar: Bar | None

    @property
    def verdict(self) -> str:
        """`held`; `late`: one took longer than the design promises; `lost`: one never recovered."""
        if len(self.recovered) < self.count:
            return LOST
        late = self.bar is not None and max(self.recovered) > self.bar.seconds
        return LATE if late else HELD


@dataclass(frozen=True)
class Machine:
    """Where it was measured."""

    cpus: int
    load_before: float
    load_after: float
    engine: str
    quiet_batch_s: float
    """Median time from one trained batch to the next in the run that nothing struck."""

    def __str__(self) -> str:
        load = f"load {self.load_before:.1f} before, {self.load_after:.1f} after"
        return f"{self.cpus} CPUs, {load}, engine {self.engine}; a quiet batch takes {self.quiet_batch_s:.1f} s"


def rows_of(struck: Sequence[Struck]) -> list[Row]:
    """One row for each kind and service, in order of first appearance."""
    together: dict[tuple[str, str], list[Struck]] = {}
    for one in struck:
        together.setdefault((one.fault.kind, one.fault.service), []).append(one)
    return [
        Row(
            kind,
            service,
            len(found),
            tuple(one.recovered_in_s for one in found if one.recovered_in_s is not None),
            found[0].fault.bar,
        )
        for (kind, service), found in together.items()
    ]


def succeeded(rows: Sequence[Row], checks: Sequence[Check], *, bars_count: bool) -> bool:
    """Whether all checks hold and every fault was recovered from; with `bars_count` in time, too."""
    good = (HELD,) if bars_count else (HELD, LATE)
    return all(check.holds for check in checks) and all(row.verdict in good for row in rows)


def drawn(rows: Sequence[Row]) -> Table:
    """The table of faults."""
    table = Table(title="Faults and recoveries")
    for heading in ("fault", "service", "count", "median", "max", "bar", "verdict"):
        table.add_column(heading, justify="right" if heading in ("count", "median", "max", "bar") else "left")
    for row in rows:
        table.add_row(row.kind, row.service, str(row.count), *_times(row), row.verdict)
    return table


def document(
    seed: int, struck: Sequence[Struck], checks: Sequence[Check], machine: Machine, *, ok: bool
) -> dict[str, object]:
    """The same as JSON."""
    rows: list[Mapping[str, object]] = [
        {**asdict(row), "bar": row.bar and row.bar.seconds, "verdict": row.verdict} for row in rows_of(struck)
    ]
    return {
        "ok": ok,
        "seed": seed,
        "machine": asdict(machine),
        "rows": rows,
        "faults": [{**asdict(one.fault), "recovered_in_s": one.recovered_in_s, "notes": one.notes} for one in struck],
        "checks": [{"name": check.name, "holds": check.holds, "found": check.found} for check in checks],
    }


def _times(row: Row) -> tuple[str, str, str]:
    bar = row.bar.wording if row.bar else "-"
    if not row.recovered:
        return "never", "never", bar
    longest = f"{max(row.recovered):.1f} s" if len(row.recovered) == row.count else "never"
    return f"{statistics.median(row.recovered):.1f} s", longest, bar
