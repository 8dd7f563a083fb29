"""Seeds and estimators of one job, each learned in one process without services.

    python -m benchmarks.learning [FILE] [--seeds 0-4] [--estimators gigpo,grpo] [--set algorithm.beta=0.01 ...]
                                  [--panel tuning] [--env_steps 100000] [--perturb 1] [--processes 2]
                                  [--out runs/learning] [--json out.json] [--plot out.png]

The mathematics, the learner, the environments, the prompts, tasks and sampling seeds are those of a job of the same
spec on the engine `transformers`, so its curves are that job's: but for the last digits of what was sampled together,
and to the bit with `--set inference.deterministic=true`. A run that was stopped goes on from its last
checkpoint when the same command is given again; `--json` holds the runs that have ended. An estimator may bring options
of its own: `gigpo+step_shrinkage=2+step_variance_gate=4`. With `--env_steps` all have equal budgets. `--perturb`
changes the last digit of the weights after the warm start, as another processor would. `--panel tuning` judges by
further tasks of the training split, which shares none with the held-out panel, so that nothing is chosen on that.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import yaml

from benchmarks.advantages import processor_name
from benchmarks.learning.cells import cell_folder, learned, made_spec, table
from benchmarks.learning.report import contrasts, plot, write_report

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
    parser.add_argument("--estimators", default="", help="with commas; NAME or NAME+KEY=VALUE; none: that of the file")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--panel", choices=("held-out", "tuning"), default="held-out")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--env_steps", type=int, help="a run ends with the first batch that reaches so many")
    parser.add_argument("--perturb", type=int, help="seed of the changes of last digits")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    document = yaml.safe_load(options.file.read_text(encoding="utf-8"))
    cells = [
        (made_spec(document, estimator, seed, options.set, options.panel), estimator)
        for seed in options.seeds
        for estimator in (options.estimators.split(",") if options.estimators else [None])
    ]
    facts = {
        "command": shlex.join(["python", "-m", "benchmarks.learning", *sys.argv[1:]]),
        "machine": processor_name(),
        "panel": options.panel,
    }
    rows, ends = [], {"env_steps": options.env_steps, "perturb": options.perturb}
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        running = [
            pool.submit(learned, spec, cell_folder(options.out, spec, options.perturb), label, **ends)
            for spec, label in cells
        ]
        for done in as_completed(running):
            rows.append(done.result())
            print(table(rows[-1:]).splitlines()[1], flush=True)
            if options.json:
                write_report(options.json, rows, **facts)
    print("\n".join([table(rows), *contrasts(rows)]))
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
