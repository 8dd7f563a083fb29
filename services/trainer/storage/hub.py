"""Fetches a model of the Hugging Face hub for a job: the job's commit, safetensors only, no code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils.tqdm import disable_progress_bars

from services.contracts.references import how_to_get
from services.trainer.errors import JobFailed

FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE*",
)
"""Patterns of files to fetch; files in folders of the repository are other formats of the same weights."""
_TELL_S = 2.0
_TRANSPORT_ERROR: type[BaseException] = HfHubHTTPError.__bases__[0]
"""Base of all errors of the HTTP library that the hub's client speaks with, which differs by its version."""

Tell = Callable[[int, int], Awaitable[None]]
"""Bytes that are there, and of how many."""


async def fetched(name: str, revision: str, store: Path, tell: Tell) -> Path:
    """The model's folder in `store`, which jobs share; what is there already is not fetched again.

    Args:
        revision: a commit.
        store: in the layout of the hub's own cache.
        tell: is told every two seconds how far it is.

    Raises:
        JobFailed: the hub does not give it.
    """
    loading = asyncio.create_task(asyncio.to_thread(_snapshot, name, revision, store))
    missing = asyncio.create_task(asyncio.to_thread(_missing_bytes, name, revision, store))
    begin = _bytes_in(store)
    try:
        total, told = await missing, -1
        while not loading.done():
            if total and (done := min(_bytes_in(store) - begin, total)) != told:
                await tell(done, total)
                told = done
            await asyncio.wait([loading], timeout=_TELL_S)
        return await loading
    except (_TRANSPORT_ERROR, OSError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JobFailed(f"model: the hub does not give {name}: {why:.300}; {how_to_get(name)}") from error


def _snapshot(name: str, revision: str, store: Path) -> Path:
    disable_progress_bars()  # a service writes logs, not bars
    wanted, others = [*FILES], "*/*"
    return Path(
        snapshot_download(name, revision=revision, cache_dir=store, allow_patterns=wanted, ignore_patterns=others)
    )


def _missing_bytes(name: str, revision: str, store: Path) -> int:
    planned = snapshot_download(
        name, revision=revision, cache_dir=store, allow_patterns=[*FILES], ignore_patterns="*/*", dry_run=True
    )
    return sum(file.file_size or 0 for file in planned if not isinstance(file, str) and file.will_download)


def _bytes_in(store: Path) -> int:
    return sum(file.stat().st_size for file in store.rglob("*") if file.is_file() and not file.is_symlink())
