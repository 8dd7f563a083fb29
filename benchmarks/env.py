"""The environment service: steps per second and latency beside OpenEnv, sessions held, and a day of sessions.

    python -m benchmarks.env [--seconds 20] [--hold 60] [--json out.json]
    python -m benchmarks.env --soak 100000 [--json out.json]

The first is `gigpo env bench` at the published sizes (alfworld, 512 and 64 sessions, 256 held a core). The second
opens, steps and closes so many sessions, each by calls of its own, while workers are recycled, and looks at what stays
behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from services.env.tools.bench import Plan, measure
from services.env.tools.soak import soak


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each measurement takes")
    parser.add_argument("--hold", type=float, default=60.0, help="seconds that sessions are held; 0: not")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the service")
    parser.add_argument("--soak", type=int, metavar="CYCLES", help="open and close so many sessions instead")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if options.soak:
        figures = asyncio.run(soak(options.soak))
    else:
        plan = Plan("alfworld", None, 512, 64, options.seconds, options.hold, options.workers)
        figures = asyncio.run(measure(plan))
    for name, value in figures.items():
        print(f"{name:28} {value}")
    if options.json:
        options.json.write_text(json.dumps({"benchmark": "env", **figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
