"""Time of advantage estimation, as ratios within one run: `python -m benchmarks.advantages`.

Prints a table and one line of JSON; `--record` also writes it to `benchmarks/results/`. One core.
On a CUDA device (`--device cuda`) the exact estimator alone is timed, with the memory traffic it
cannot avoid (read every input once, write every output once) as a share of the bandwidth of a copy.
"""

from __future__ import annotations

import argparse
import difflib
import json
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gigpo_core import AdvantageConfig, StepBatch, anchor_digest, compute_advantages
from gigpo_core.similarity import cluster_texts

EPISODES, STEPS = 8, 32
REPEATED = 0.25
"""Share of the steps whose state occurs elsewhere in the group."""
WORDS = """you are in the middle of a room looking quickly around see cabinet countertop drawer fridge
microwave shelf stove sink basin toaster open closed on it apple knife bread plate pan mug egg lettuce spoon"""
SORT_LIMIT, DIGEST_LIMIT, SIMILARITY_LIMIT = 15.0, 0.5, 50.0


def best_ms(work: Callable[[], object], repeats: int, device: str = "cpu") -> float:
    """Return the shortest of several runs, milliseconds: the least disturbed one.

    CPU time of the thread on a CPU, so that other processes do not count; wall time on a device.
    """
    clock = time.perf_counter if device == "cuda" else time.thread_time
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return 1e3 * min(times)


def made_batch(steps: int, *, shuffled: bool, device: str = "cpu", seed: int = 0) -> StepBatch:
    """Return groups of 8 episodes of 32 steps; a quarter of the states are copies of one in their group."""
    made = torch.Generator().manual_seed(seed)
    row = torch.arange(steps)
    size = EPISODES * STEPS
    key = torch.randint(-(2**62), 2**62, (steps, 2), generator=made)
    copied = torch.rand(steps, generator=made) < REPEATED
    source = row // size * size + torch.randint(0, size, (steps,), generator=made)
    key[copied] = key[source[copied]]
    order = torch.randperm(steps, generator=made) if shuffled else row
    columns = (row // size, row // STEPS, row % STEPS, key, torch.rand(steps, generator=made, dtype=torch.float64))
    return StepBatch(*(column[order].to(device) for column in columns))


def time_exact(sizes: list[int], device: str) -> list[dict[str, object]]:
    """Return one record per size and row order: exact GiGPO against one sort of as many int64."""
    records: list[dict[str, object]] = []
    for steps in sizes:
        repeats = 60 if steps < 500_000 else 5
        numbers = torch.randint(-(2**62), 2**62, (steps,)).to(device)
        for shuffled in (False, True):
            batch = made_batch(steps, shuffled=shuffled, device=device)
            for norm in ("mean", "mean_std"):
                config = AdvantageConfig("gigpo", norm=norm)
                compute_advantages(batch, config)  # warm-up
                ours, sort = [], []
                for _ in range(repeats):  # taken in turn, so that both see the same disturbances
                    sort.append(best_ms(lambda: torch.sort(numbers), 1, device))  # noqa: B023
                    ours.append(best_ms(lambda: compute_advantages(batch, config), 1, device))  # noqa: B023
                name = f"gigpo exact {norm}{' shuffled' if shuffled else ''}"
                record = {"what": name, "size": steps, "ms": min(ours), "reference_ms": min(sort)}
                records.append(record | {"ratio": min(ours) / min(sort), "limit": SORT_LIMIT})
                if device == "cuda":
                    records[-1] |= {"bandwidth_share": bandwidth_share(steps, min(ours))}
    return records


def bandwidth_share(steps: int, ms: float) -> float:
    """Return the bytes that must move, over the time, over the bandwidth of a device copy."""
    must_move = steps * (3 * 8 + 16 + 8 + 5 * 8)
    block = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(block)
    copy_ms = best_ms(lambda: other.copy_(block), 10, "cuda")
    return (must_move / ms) / (2 * block.numel() / copy_ms)


def time_digests() -> list[dict[str, object]]:
    """Return throughput of the anchor digest, GB/s of UTF-8, on long and on typical texts."""
    records: list[dict[str, object]] = []
    for name, text in (
        ("100 kB", "x = 1\n" * 16_667),
        ("4 kB", "You see a shelf 1. " * 210),
        ("400 B", "shelf 1 " * 50),
    ):
        rounds = max(1, 4_000_000 // len(text))
        ms = best_ms(lambda: [anchor_digest(text) for _ in range(rounds)], 7)  # noqa: B023
        records.append({"what": f"digest {name}", "size": len(text), "gb_per_s": rounds * len(text) / ms / 1e6})
    return records


def observations(count: int, *, rooms: int = 48, length: int = 400, seed: int = 0) -> list[str]:
    """Return distinct texts of `length` characters: room descriptions in which a few words differ."""
    rng = random.Random(seed)
    words = WORDS.split()
    bases = [[rng.choice(words) for _ in range(length // 4)] for _ in range(rooms)]
    texts: dict[str, None] = {}
    while len(texts) < count:
        room = list(rng.choice(bases))
        for _ in range(rng.randrange(1, 8)):
            room[rng.randrange(length // 8)] = rng.choice(words)
        texts[" ".join(room)[:length]] = None
    return list(texts)


def plain_clusters(texts: list[str], threshold: float) -> list[int]:
    """Return greedy first-fit clusters with difflib alone."""
    leaders: list[str] = []
    labels = []
    for text in texts:
        ratios = (difflib.SequenceMatcher(None, text, leader, autojunk=False).ratio() for leader in leaders)
        labels.append(next((label for label, ratio in enumerate(ratios) if ratio >= threshold), len(leaders)))
        if labels[-1] == len(leaders):
            leaders.append(text)
    return labels


def time_similarity(count: int, threshold: float) -> dict[str, object]:
    """Return our time and that of plain difflib on the same texts; fails if the clusters differ."""
    texts = observations(count)
    ours_ms = best_ms(lambda: cluster_texts(texts, threshold), 3)
    start = time.thread_time()
    plain = plain_clusters(texts, threshold)
    plain_ms = 1e3 * (time.thread_time() - start)
    if plain != cluster_texts(texts, threshold):
        raise SystemExit("similarity: clusters differ from those of difflib")
    record = {"what": f"similarity {threshold}", "size": count, "ms": ours_ms, "reference_ms": plain_ms}
    return record | {"ratio": plain_ms / ours_ms, "limit": SIMILARITY_LIMIT, "clusters": max(plain) + 1}


def processor_name() -> str:
    """Return what the kernel calls the processor, else the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def show(records: list[dict[str, object]]) -> None:
    """Print the records as a table."""
    columns = ("what", "size", "ms", "reference_ms", "ratio", "limit", "gb_per_s", "bandwidth_share")
    print("".join(f"{name:>16}" if name != "what" else f"{name:<30}" for name in columns))
    for record in records:
        cells = [record.get(name, "") for name in columns]
        print(
            "".join(
                f"{c:>16.3f}" if isinstance(c, float) else f"{c:>16}" if i else f"{c:<30}" for i, c in enumerate(cells)
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--texts", type=int, default=2048, help="texts in the similarity test; 0 leaves it out")
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/advantages-<machine>.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = time_exact([131_072, 1_048_576, 4_194_304], options.device)
    if options.device == "cpu":
        records += time_digests()
        if options.texts:
            records.append(time_similarity(options.texts, options.threshold))
    show(records)
    machine = torch.cuda.get_device_name() if options.device == "cuda" else processor_name()
    report = {"benchmark": "advantages", "machine": machine, "torch": torch.__version__, "records": records}
    print(json.dumps(report))
    if options.record:
        name = "".join(c if c.isalnum() else "-" for c in machine.lower())
        path = Path(__file__).parent / "results" / f"advantages-{name}.json"
        path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
