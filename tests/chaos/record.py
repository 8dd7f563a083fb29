"""The table of docs/reliability.md: each row of the fault table, its bar, and what recovery took on a quiet machine.

    python -m tests.chaos --seed 1 --json > one.json
    python -m tests.chaos.record one.json [more.json ...] [--write]

Takes what `--json` printed, of one run or several, and prints the table; with `--write` it goes into the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.faults import ROWS

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
BEGIN, END = "<!-- the table is made: python -m tests.chaos.record FILE... --write -->\n", "<!-- end of the table -->\n"
NO_FIGURE = "not struck in these runs"


def table(documents: Sequence[Mapping[str, Any]]) -> str:
    """One line for each row of the fault table, and a sentence about the machine.

    Raises:
        ValueError: a fault was not recovered from.
    """
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    for fault in (fault for document in documents for fault in document["faults"]):
        if fault["recovered_in_s"] is None:
            raise ValueError(
                f"want runs whose faults all recovered, got {fault['kind']} {fault['service']} that did not"
            )
        took[fault["kind"], fault["service"]].append(fault["recovered_in_s"])
    lines = ["| fault | within | took |", "|---|---|---|"]
    for (kind, service), bar in ROWS.items():
        lines.append(f"| {kind} {service} | {bar.wording if bar else '-'} | {_range(took[kind, service])} |")
    return "\n".join(lines) + f"\n\n{_machine(documents)}\n"


def written(page: str, made: str) -> str:
    """The page with this table in the place of its own."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{made}{END}{after}"


def _range(seconds: Sequence[float]) -> str:
    if not seconds:
        return NO_FIGURE
    shortest, longest = min(seconds), max(seconds)
    return f"{longest:.1f} s" if shortest == longest else f"{shortest:.1f} to {longest:.1f} s"


def _machine(documents: Sequence[Mapping[str, Any]]) -> str:
    machines = [document["machine"] for document in documents]
    loads = [load for one in machines for load in (one["load_before"], one["load_after"])]
    seeds = sorted({str(document["seed"]) for document in documents})
    named = f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"
    faults = sum(len(document["faults"]) for document in documents)
    where = f"{machines[0]['cpus']} CPUs at a load of {min(loads):.1f} to {max(loads):.1f}"
    return f"{named}, {faults} faults, {where}, engine `{machines[0]['engine']}`."


def main() -> None:
    """Print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    made = table([json.loads(file.read_text()) for file in options.files])
    if options.write:
        PAGE.write_text(written(PAGE.read_text(), made))
    else:
        sys.stdout.write(made)


if __name__ == "__main__":
    main()
