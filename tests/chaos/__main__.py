"""Breaks a whole platform on purpose while it trains a job, and checks that nothing was lost or changed.

    python -m tests.chaos                               20 faults of every kind, about 15 minutes
    python -m tests.chaos --seed 3 --kills 5            another, shorter mix; the same seed gives the same faults
    python -m tests.chaos --only rollout --kills 6      one service (also: env,api,...)
    python -m tests.chaos --kinds kill,power --two      some kinds, on two processes of every service

It starts a stack of its own (free ports, a new folder), trains a small job that nothing strikes, and the same job
again with faults. A fault strikes when the job has trained a given number of batches, so the same seed strikes at the
same places on a fast and on a slow machine. Then the two jobs are compared to the last bit, and the ledger, the
archives, Redis and the processes are looked through. The recovery time of a fault is the time from its end until
everything that it touched is done: groups that were being played have all their episodes (env, rollout, inference),
are scored (advantage), the API answers, or the next batch is trained (trainer, Redis, poison, power cut).

Exit status: 0 everything holds; 1 a check failed, or a fault was not recovered from, or not within the time that the
design promises (`--ignore-bars` on a busy machine: only told); 2 a wrong option; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.chaos.faults import KINDS, SERVICES, STACK, schedule
from tests.chaos.run import Outcome, Plan, run
from tests.chaos.table import document, drawn, rows_of, succeeded

OK, FAILED, WRONG_CALL, INTERRUPTED = 0, 1, 2, 130


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = _parser()
    options = parser.parse_args(words)
    only, kinds = _listed(options.only), _listed(options.kinds)
    for option, given, known in (("--only", only, (*SERVICES, STACK)), ("--kinds", kinds, tuple(KINDS))):
        for unknown in [name for name in given if name not in known]:
            parser.error(f"{option}: want some of {', '.join(known)}, got {unknown}")
    try:
        faults = schedule(options.seed, options.kills, only, kinds)
    except ValueError as error:
        parser.error(str(error))
    if options.plan:
        for fault in faults:
            sys.stdout.write(f"batch {fault.at_batch:3} + {fault.after_s:.2f} s  {fault.kind:7} {fault.service}\n")
        return OK
    plan = Plan(options.seed, faults, options.engine, options.minutes, options.two)
    folder = Path(tempfile.mkdtemp(prefix="gigpo-chaos-"))
    _say(f"seed {options.seed}, {len(faults)} faults, everything in {folder}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the stack is ended and the small disk given back
    try:
        outcome = run(plan, folder, _say)
    except KeyboardInterrupt:
        _say(f"interrupted; every process is ended, logs and data stay in {folder}")
        return INTERRUPTED
    return _told(options, outcome, folder)


def _told(options: argparse.Namespace, outcome: Outcome, folder: Path) -> int:
    assert outcome.machine is not None
    rows = rows_of(outcome.struck)
    ok = succeeded(rows, outcome.checks, bars_count=not options.ignore_bars)
    if options.json:
        told = document(options.seed, outcome.struck, outcome.checks, outcome.machine, ok=ok)
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        console = Console()
        console.print(drawn(rows))
        for check in outcome.checks:
            console.print(
                f"{'ok  ' if check.holds else 'FAIL'} {check.name}", markup=False, highlight=False, soft_wrap=True
            )
            if check.found:
                console.print(f"     {check.found}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"{outcome.machine}; seed {options.seed}", markup=False, highlight=False, soft_wrap=True)
    if ok and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _say(f"logs and data stay in {folder}")
    return OK if ok else FAILED


def _parser() -> argparse.ArgumentParser:
    kinds = "\n".join(f"  {name:10}{meaning}" for name, meaning in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        epilog=f"kinds:\n{kinds}\n\nservices: {', '.join((*SERVICES, STACK))}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, help="decides which faults, where and how long (1)")
    parser.add_argument("--kills", type=_count, default=20, metavar="K", help="how many faults (20)")
    parser.add_argument("--minutes", type=float, default=30.0, metavar="M", help="longest either job may take (30)")
    parser.add_argument("--only", default="", metavar="SERVICE", help="services to strike, with commas between them")
    parser.add_argument("--kinds", default="", metavar="KIND", help="kinds of faults, with commas between them")
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers", help="(transformers)")
    parser.add_argument("--two", action="store_true", help="two processes of every service but Redis")
    parser.add_argument("--ignore-bars", action="store_true", help="a late recovery is told but fails nothing")
    parser.add_argument("--plan", action="store_true", help="print which faults the seed gives, and do nothing")
    parser.add_argument("--keep", action="store_true", help="keep the folder also when everything holds")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of the table")
    return parser


def _count(word: str) -> int:
    if not word.isdigit() or not 1 <= int(word) <= 500:
        raise argparse.ArgumentTypeError(f"want a whole number from 1 to 500, got {word}")
    return int(word)


def _listed(names: str) -> list[str]:
    return [name for name in names.split(",") if name]


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
