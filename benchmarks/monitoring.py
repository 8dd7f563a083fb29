"""What being watched costs: metrics, probes, scrapes and switched-off traces, in CPU time.

    python -m benchmarks.monitoring [--seconds 10] [--probes 200] [--json out.json]

An update of a metric is timed in this process, labels and buckets as the services have them. A real rollout worker and
environment service play against a policy that costs nothing (benchmarks/rollout.py), so that their CPU time per step is
as small as it gets; the updates of one step are set against it. Then an embedded stack is started, and each process's
side port is asked again and again: its CPU time is compared with that of as long a time without a question.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from benchmarks.rollout import run as run_rollout
from services.env.metrics import step_seconds
from services.kit.tracing import begun
from services.rollout.episode import PROMPT_TOKENS, RESPONSE_TOKENS
from services.rollout.metrics import GENERATE_SECONDS, STEP_SECONDS
from tests.chaos.stack import Stack

CALLS = 100_000
WORKER_STEP = STEP_SECONDS.labels("grid")
PATHS = ("/livez", "/readyz", "/metrics")
PROBE_EVERY_S, SCRAPE_EVERY_S = 10.0, 15.0
"""The chart has these intervals."""


def updates_of_a_step() -> None:
    """Every metric that one environment step changes: two of the worker's latencies, its tokens, one of env."""
    GENERATE_SECONDS.observe(0.02)
    WORKER_STEP.observe(0.002)
    PROMPT_TOKENS.inc(40)
    RESPONSE_TOKENS.inc(4)
    step_seconds("grid").observe(0.002)


def spans_of_a_step() -> None:
    """Every span that one step begins; none is made, because tracing is off."""
    for name in ("step", "generate", "env", "sample"):
        begun(name).end()


def cost_ms(work: Callable[[], None]) -> float:
    """CPU milliseconds of one call."""
    began = time.process_time()
    for _ in range(CALLS):
        work()
    return 1000 * (time.process_time() - began) / CALLS


def share_of_a_step(seconds: float) -> dict[str, float]:
    """The updates of a step beside the CPU time that worker and environment service need for it."""
    options = argparse.Namespace(seconds=seconds, n=8, in_flight=256, latency_ms=0.0, coalesce_ms=1.0, actor="policy")
    with tempfile.TemporaryDirectory() as folder:
        played = asyncio.run(run_rollout(options, Path(folder)))
    step_ms = played["rollout_cpu_s_per_1000_steps"] + played["env_cpu_s_per_1000_steps"]
    metrics_ms, traces_ms = cost_ms(updates_of_a_step), cost_ms(spans_of_a_step)
    told = {"step_ms": step_ms, "metrics_ms": metrics_ms, "traces_off_ms": traces_ms}
    told |= {"metrics_share": metrics_ms / step_ms, "traces_off_share": traces_ms / step_ms}
    return told | {name: value for name, value in played.items() if name.startswith("redis_")}


def cost_of_asking(pid: int, url: str, probes: int) -> dict[str, float]:
    """Path -> CPU milliseconds of one answer, beyond what the process uses by itself."""
    process, told = psutil.Process(pid), {}

    def used_s() -> float:
        return sum(process.cpu_times()[:2])

    with httpx.Client(timeout=60) as client:
        for path in PATHS:
            before, began = used_s(), time.monotonic()
            for _ in range(probes):
                client.get(url + path, headers={"Connection": "close"})  # as a kubelet asks
            busy_s, lasted_s = used_s() - before, time.monotonic() - began
            before = used_s()
            time.sleep(lasted_s)
            told[path] = max(1000 * (busy_s - (used_s() - before)) / probes, 0.0)
    return told


def cost_of_probes(probes: int) -> dict[str, dict[str, float]]:
    """Service -> path -> CPU milliseconds, on an idle stack; and the share of a core that the usual intervals take."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), "transformers")
        try:
            stack.start()
            services = json.loads((stack.data / "stack.json").read_text())["services"]
            found = {
                name: cost_of_asking(one["pid"], one["metrics"], probes)
                for name, one in services.items()
                if one["metrics"]
            }
            stack.stop()
        finally:
            stack.release()
    for told in found.values():
        asked_ms = (told["/livez"] + told["/readyz"]) / PROBE_EVERY_S + told["/metrics"] / SCRAPE_EVERY_S
        told["share_of_a_core"] = asked_ms / 1000
    return found


def main() -> None:
    """Measure, print, and write where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long episodes are played")
    parser.add_argument("--probes", type=int, default=200, help="questions of each kind to each process")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    step = {name: round(value, 6) for name, value in share_of_a_step(options.seconds).items()}
    asked = {
        name: {path: round(value, 5) for path, value in told.items()}
        for name, told in cost_of_probes(options.probes).items()
    }
    text = json.dumps({"step": step, "probes_cpu_ms": asked}, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
