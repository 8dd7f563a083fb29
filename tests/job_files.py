"""Files that a trainer leaves in a job's folder, small."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel

TOKENIZER = Tokenizer(WordLevel({"<eos>": 0, "north": 1}, unk_token="<eos>")).to_str()
BATCHES = {"b000002": 2, "b000004": 4}


def safetensors(*shape: int) -> bytes:
    """A file with one tensor of zeros."""
    size = 4
    for one in shape:
        size *= one
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def write_policy(folder: Path, rows: int) -> None:
    """A folder in Hugging Face format; `rows` tells one from another."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 5}')
    (folder / "tokenizer.json").write_text(TOKENIZER)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    (folder / "model.safetensors").write_bytes(safetensors(rows, 8))


def write_job_files(folder: Path) -> None:
    """Two checkpoints, a published policy version, records and evaluations of a job that came to batch 5."""
    write_policy(folder / "base", 1)
    for name, batch in BATCHES.items():
        checkpoint = folder / "checkpoints" / name
        write_policy(checkpoint, batch)
        (checkpoint / "trainer").mkdir()
        (checkpoint / "trainer" / "progress.json").write_text(json.dumps({"batch": batch}))
        (checkpoint / "hashes.json").write_text("{}")
    (folder / "policy" / "v000005").mkdir(parents=True)
    (folder / "policy" / "v000005" / "model.safetensors").write_bytes(safetensors(5, 8))
    (folder / "metrics.jsonl").write_text("".join(f'{{"batch": {batch}}}\n' for batch in range(5)))
    results = [{"label": "during", "version": version} for version in (2, 4, 5)]
    (folder / "evaluations.json").write_text(json.dumps(results))
    (folder / "rollouts").mkdir()
    for name in ("batch-00003", "batch-00004", "eval-during-00002", "eval-during-00004"):
        (folder / "rollouts" / f"{name}.msgpack.zlib").write_bytes(b"")


def files_below(folder: Path) -> set[str]:
    """Every file, by its path in the folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
