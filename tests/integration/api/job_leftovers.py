"""What a trained job leaves on shared storage, as far as the API reads it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.api.test_api_rollouts import episode, scored, write

GROUP = "tabc"


def leave_results(data_dir: Path, job_id: str) -> None:
    """A base, two checkpoints and an archived batch with the group `GROUP`."""
    folder = data_dir / "jobs" / job_id
    for name in ("base", "checkpoints/b000001", "final"):
        place = folder / name
        place.mkdir(parents=True)
        for file in ("config.json", "tokenizer.json"):
            (place / file).write_text("{}")
        (place / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (folder / "summary.json").write_text(json.dumps({"batches": 1}))
    write(folder, 0, [(scored(GROUP, [0, 1, 0]), [episode(0, [0.0, 1.0]), episode(1, [0.0])])])
