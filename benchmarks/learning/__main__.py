"""Seeds and estimators of one job, each learned in one process without services.

    python -m benchmarks.learning [FILE] [--seeds 0-4] [--estimators gigpo,grpo] [--set algorithm.beta=0.01 ...]
                                  [--panel tuning] [--processes 2] [--out runs/learning] [--json out.json]

The mathematics, the learner, the environments, the prompts, tasks and sampling seeds are those of a job of the same
spec on the engine `transformers`, so its curves are that job's: but for the last digits of what was sampled together,
and to the bit with `--set inference.deterministic=true`. A run that was stopped goes on from its last
checkpoint when the same command is given again. `--panel tuning` judges by further tasks of the training split, which
shares none with the held-out panel, so that nothing is chosen on that.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import yaml

from benchmarks.advantages import processor_name
from benchmarks.learning.cells import cell_folder, learned, made_spec, table

EXAMPLE = Path("examples/default.yaml")


def seeds_of(text: str) -> list[int]:
    """`0-4` or `0,3,7`."""
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else [int(one) for one in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path, default=EXAMPLE)
    parser.add_argument("--seeds", type=seeds_of, default=[0])
    parser.add_argument("--estimators", default="", help="with commas; none: that of the file")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--panel", choices=("held-out", "tuning"), default="held-out")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    document = yaml.safe_load(options.file.read_text(encoding="utf-8"))
    estimators = options.estimators.split(",") if options.estimators else [None]
    specs = [
        made_spec(document, estimator, seed, options.set, options.panel)
        for seed in options.seeds
        for estimator in estimators
    ]
    rows = []
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(learned, spec, cell_folder(options.out, spec)) for spec in specs]):
            rows.append(done.result())
            print(table(rows[-1:]).splitlines()[1], flush=True)
    print(table(rows))
    if options.json:
        rows.sort(key=lambda row: (row["estimator"], row["seed"]))
        command = shlex.join(["python", "-m", "benchmarks.learning", *sys.argv[1:]])
        report = {"command": command, "machine": processor_name(), "panel": options.panel, "runs": rows}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
