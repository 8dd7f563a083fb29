"""Checkpoints: everything that a successor needs to continue bit for bit. Incomplete or unverified ones are never used.

checkpoints/b000010/   Hugging Face folder of the policy (config, tokenizer, weights)
    trainer/           the learner's state and progress.json
    hashes.json        sha256 of every file
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.contracts.versions import ContractError
from services.trainer.errors import CheckpointBroken, JobFailed
from services.trainer.learner.files import file_hash, file_hashes, whole_folder
from services.trainer.learner.port import TrainsPolicy
from services.trainer.storage.folders import write_durably
from services.trainer.storage.progress import Progress, decode_progress, encode_progress

HASHES, STATE, PROGRESS = "hashes.json", "trainer", "progress.json"


def write_checkpoint(
    folder: Path, learner: TrainsPolicy, progress: Progress, describe: Callable[[Path], None] = lambda _: None
) -> None:
    """Make `folder` a checkpoint; it is complete or not there at all. `describe` adds the files for its readers."""
    with whole_folder(folder) as unfinished:
        learner.export(unfinished)
        describe(unfinished)
        learner.save(unfinished / STATE)
        write_durably(unfinished / STATE / PROGRESS, encode_progress(progress))
        write_hashes(unfinished)


def replayable_from(folder: Path, newest: int, keep: int) -> int:
    """The first batch that may have to be trained again should the newest checkpoint turn out broken.

    That is where the one before it stands, or the beginning; with `keep` 1 there is none to go back to.
    """
    if keep == 1:
        return newest
    return max((number for path in checkpoint_folders(folder) if (number := int(path.name[1:])) < newest), default=0)


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for old in checkpoint_folders(folder)[:-keep]:
        shutil.rmtree(old)


def set_broken_aside(folder: Path) -> None:
    """Rename a checkpoint so that nobody takes it for one, and it takes no good one's place; its files stay."""
    aside = folder.with_name(f"broken-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)


def checkpoint_folders(folder: Path) -> list[Path]:
    """All that look like checkpoints, oldest first."""
    return sorted(path for path in folder.glob("b" + "[0-9]" * 6) if path.is_dir())


def verified_progress(folder: Path) -> Progress:
    """The progress in a complete checkpoint.

    Raises:
        CheckpointBroken: a file is missing or not the one that was written.
        JobFailed: a newer release wrote it; it is whole, so nothing older takes its place.
    """
    try:
        wanted: dict[str, str] = json.loads((folder / HASHES).read_text(encoding="utf-8"))
        for name, digest in wanted.items():
            if file_hash(folder / name) != digest:
                raise CheckpointBroken(f"{folder.name}: {name} is not the file that was saved")
        return decode_progress((folder / STATE / PROGRESS).read_bytes())
    except ContractError as error:
        raise JobFailed(f"checkpoint {folder.name}: {error}") from error
    except (OSError, ValueError, AttributeError, msgspec.MsgspecError) as error:
        if isinstance(error, CheckpointBroken):
            raise
        raise CheckpointBroken(f"{folder.name}: incomplete: {error}") from error


def newest_complete(folder: Path) -> tuple[Path | None, Progress, dict[Path, str]]:
    """The newest checkpoint that is complete, its progress, and the newer ones that were skipped with the reason.

    Returns:
        (None, a new `Progress`, ...) when there is none.

    Raises:
        JobFailed: see `verified_progress`.
    """
    skipped: dict[Path, str] = {}
    for candidate in reversed(checkpoint_folders(folder)):
        try:
            return candidate, verified_progress(candidate), skipped
        except CheckpointBroken as error:
            skipped[candidate] = str(error)
    return None, Progress(), skipped


def write_hashes(folder: Path) -> None:
    """Note the digest of every file in it, for whoever takes them away."""
    hashes = {name: digest for name, digest in file_hashes(folder).items() if name != HASHES}
    write_durably(folder / HASHES, json.dumps(hashes, indent=2).encode())
