"""Where one run of the default job stands among the recorded ones.

    python -m benchmarks.learning.standing RESULTS... [--recorded benchmarks/results/learning-default.json]

Prints one sentence about the newest of the results folders.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RECORDED = Path("benchmarks/results/learning-default.json")


def standing(summary: dict[str, Any], recorded: dict[str, Any]) -> str:
    """The sentence about a run.

    Args:
        summary: of a job, as `summary.json` has it.
        recorded: what `python -m benchmarks.learning --json` wrote.
    """
    after = next((one for one in summary["evaluations"] if one["label"] == "after"), None)
    runs: Sequence[dict[str, Any]] = recorded["runs"]
    if after is None:
        return "the job ended before its last evaluation: there is nothing to compare with the recorded seeds"
    if {run["panel"] for run in runs} != {after["panel"]}:
        return "the job was judged by other tasks than the recorded seeds: their success is not comparable"
    successes = sorted(run["success"] for run in runs)
    below = sum(success < after["success"] for success in successes)
    where = f"above {below} of them"
    if after["success"] < successes[0]:
        where = "below all of them: `gigpo diagnose` tells what keeps a job from learning"
    return (
        f"held-out success {after['success']:.3f} ± {after['standard_error']:.3f}; {len(successes)} recorded seeds "
        f"reached {successes[0]:.3f} to {successes[-1]:.3f} ({recorded['machine']}); this run is {where}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning.standing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="+", type=Path, help="folders that hold a summary.json")
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    options = parser.parse_args()
    summaries = [folder / "summary.json" for folder in options.results if (folder / "summary.json").is_file()]
    if not summaries:
        parser.error(f"want a folder with summary.json, got {', '.join(map(str, options.results))}")
    newest = max(summaries, key=lambda path: path.stat().st_mtime)
    print(standing(json.loads(newest.read_text()), json.loads(options.recorded.read_text())))


if __name__ == "__main__":
    main()
