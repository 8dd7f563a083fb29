"""How fast the dashboard's pages open on a large job, and what it costs the process that serves the API.

    python -m benchmarks.dashboard [--groups 1000] [--groups-per-batch 16] [--episodes 10] [--steps 10] [--batches 500]
                                   [--times 5] [--json out.json]

A real API process on real archives, and a headless Chromium with an empty cache for every opening. A page is open when
its load event has ended; `first` is the first look at the job in the life of the process, which has to read the
archives. The memory of the process is looked at before and after the pages were made.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil
from playwright.sync_api import Browser, sync_playwright

from services.stack.valkey import embedded_redis
from tests.integration.api.api_process import ApiProcess, environment_service, running_api
from tests.integration.dashboard.conftest import FLAGS
from tests.integration.dashboard.walks import group_id, write_walks

IMPORT = """
import time, psutil
import services.api.http.app_parts, services.api.http.system
from services.api.http.routes import jobs, rollouts
began, before = time.process_time(), psutil.Process().memory_info().rss
import services.api.dashboard.mounting
print(time.process_time() - began, (psutil.Process().memory_info().rss - before) / 2**20)
"""
"""CPU seconds and MiB of importing the dashboard after everything of the API that it uses."""
OPEN_MS = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def large_job(api: ApiProcess, options: argparse.Namespace) -> tuple[str, int]:
    """A job with archives and curves of the wanted size; its id, and how many steps it has."""
    spec = {"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}
    job = str(httpx.post(f"{api.url}/v1/jobs", json=spec, timeout=30).raise_for_status().json()["id"])
    steps = write_walks(
        api.data_dir / "jobs" / job,
        groups=options.groups,
        groups_per_batch=options.groups_per_batch,
        episodes=options.episodes,
        steps=options.steps,
    )
    for batch in range(options.batches):
        api.say(job, "metrics", batch=batch, success=batch / options.batches, episodes=128, kl=0.1, entropy=1.0)
    while (
        len(httpx.get(f"{api.url}/v1/jobs/{job}/metrics", params={"limit": 1000}, timeout=30).json()["items"])
        < options.batches
    ):
        pass
    return job, steps


def opening_ms(browser: Browser, url: str) -> float:
    """Measure from the request to the end of the load event, with an empty cache."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(url)
        while not page.evaluate(f"{OPEN_MS} > 0"):  # `wait_for_function` evaluates a string, which the page forbids
            page.wait_for_timeout(1)
        return float(page.evaluate(OPEN_MS))


def openings(browser: Browser, api: ApiProcess, job: str, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds by page."""
    group = group_id(options.groups // 2)
    paths = {
        "rollouts": f"/jobs/{job}/rollouts",
        "rollouts by none": f"/jobs/{job}/rollouts?won=none",
        "group": f"/jobs/{job}/rollouts/{group}",
        "anchors": f"/jobs/{job}/anchors/{group}",
        "curves": f"/jobs/{job}",
        "jobs": "/",
    }
    found: dict[str, Any] = {}
    for name, path in paths.items():
        first, *others = [opening_ms(browser, api.url + path) for _ in range(1 + options.times)]
        found[name] = {"first_ms": round(first), "median_ms": round(median(others)), "worst_ms": round(max(others))}
        print(f"{name:18} first {first:6.0f} ms   median {median(others):6.0f} ms   worst {max(others):6.0f} ms")
    return found


def import_cost() -> dict[str, float]:
    """Medians over five fresh interpreters."""
    runs = [subprocess.check_output([sys.executable, "-c", IMPORT], text=True).split() for _ in range(5)]
    seconds, mib = (median(float(run[column]) for run in runs) for column in (0, 1))
    return {"import_cpu_s": seconds, "import_mib": mib}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("groups", 1_000), ("groups-per-batch", 16), ("episodes", 10), ("steps", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batches", type=int, default=500)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    record: dict[str, Any] = {**import_cost()}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        with (
            embedded_redis(Path(folder) / "valkey") as url,
            environment_service() as env,
            running_api(Path(folder) / "data", url, env) as api,
        ):
            job, record["steps"] = large_job(api, options)
            process = psutil.Process(api.process.pid)
            before = process.memory_info().rss
            record["pages"] = openings(browser, api, job, options)
            record["grown_mb"] = round((process.memory_info().rss - before) / 1e6)
            record["process_mb"] = round(process.memory_info().rss / 1e6)
        browser.close()
    record["load"] = psutil.getloadavg()[0]
    print(json.dumps(record))
    if options.json:
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
