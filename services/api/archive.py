"""Copies finished checkpoints to an object store, and brings them back: python -m services.api.archive.

    python -m services.api.archive save [JOB ...]         all ended jobs, or these; what is there already is left
    python -m services.api.archive list JOB
    python -m services.api.archive restore JOB [NAME ...]   all that are gone here, or these

Settings: API_ARCHIVE_URL (s3://bucket/prefix) and API_DATA_DIR. Credentials are the store's own environment variables,
such as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.api.artifacts.object_store import ObjectStore, StoreError
from services.api.artifacts.storage import checkpoint_folder, checkpoint_names, job_folder
from services.api.rest.problems import Problem
from services.contracts.jobfolder import FINAL, JobFolder, all_jobs
from services.contracts.service_settings import read_settings

OK, FAILED = 0, 1


class Settings(BaseSettings):
    """What the command reads of the environment."""

    model_config = SettingsConfigDict(env_prefix="API_", frozen=True)

    archive_url: str = Field(min_length=1, pattern=r"^[a-z0-9+]+://\S+$")
    """No default: where copies go must be said."""
    data_dir: Path = Path("runs/.platform")


def save(store: ObjectStore, data_dir: Path, jobs: Sequence[str]) -> Iterator[str]:
    """Copy the checkpoints of these jobs, of all ended ones where none is named; yields a line for each."""
    for job in jobs or _ended(data_dir):
        folder = job_folder(data_dir, job)
        for name in checkpoint_names(folder):
            copied = store.save(job, name, checkpoint_folder(folder, name))
            yield f"{job} {name} {f'saved, {copied} bytes' if copied else 'is there'}"


def restore(store: ObjectStore, data_dir: Path, job: str, names: Sequence[str]) -> Iterator[str]:
    """Bring checkpoints of a job back, all that are gone where none is named; yields a line for each."""
    folder, stored = job_folder(data_dir, job), store.names(job)
    if missing := sorted(set(names) - set(stored)):
        raise StoreError(
            f"{job}: want checkpoints that the store holds ({', '.join(stored) or 'none'}), got {missing[0]}"
        )
    for name in names or sorted(set(stored) - set(checkpoint_names(folder))):
        place = JobFolder(folder).final if name == FINAL else JobFolder(folder).checkpoints / name
        place.parent.mkdir(parents=True, exist_ok=True)
        yield f"{job} {name} restored, {store.restore(job, name, place)} bytes"


def _ended(data_dir: Path) -> list[str]:
    return sorted(path.parent.name for path in all_jobs(data_dir).glob("*/summary.json"))


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a sentence on stderr; wrong settings and options end with 2."""
    parser = argparse.ArgumentParser(
        prog="python -m services.api.archive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("save").add_argument("jobs", nargs="*", metavar="JOB")
    commands.add_parser("list").add_argument("job", metavar="JOB")
    restoring = commands.add_parser("restore")
    restoring.add_argument("job", metavar="JOB")
    restoring.add_argument("names", nargs="*", metavar="NAME")
    options, settings = parser.parse_args(words), read_settings(Settings)
    try:
        for line in _lines(options, ObjectStore(settings.archive_url), settings.data_dir):
            sys.stdout.write(f"{line}\n")
    except (StoreError, OSError) as error:
        sys.stderr.write(f"archive: {error}\n")
        return FAILED
    except Problem as problem:
        sys.stderr.write(f"archive: {problem.detail}\n")
        return FAILED
    return OK


def _lines(options: argparse.Namespace, store: ObjectStore, data_dir: Path) -> Iterator[str]:
    if options.command == "save":
        yield from save(store, data_dir, options.jobs)
    elif options.command == "list":
        yield from (f"{options.job} {name}" for name in store.names(options.job))
    else:
        yield from restore(store, data_dir, options.job, options.names)


if __name__ == "__main__":
    sys.exit(main())
