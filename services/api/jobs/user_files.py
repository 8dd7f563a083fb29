"""Files that a user names in a job: copied to shared storage, so that the job has the same ones for ever.

The API reads them, so they must lie on its machine; whose may be taken is the caller's and the operator's matter
(`API_USER_FILES`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from gigpo.env.columns import as_ours, columns_of, texts_in
from gigpo.env.environment import KwargsError
from gigpo.env.tables import is_table, read_rows
from services.contracts.job import JobSpec
from services.contracts.rewards import BUILT_IN_REWARDS
from services.contracts.user_files import (
    ARRIVING,
    content_hash,
    file_reference,
    files_root,
    referenced_file,
    split_function,
)
from services.kit.files import NO_ROOM

DATA = "data"
"""The key by which environments are told where their data lies."""
SETS = "sets"
"""The key of several data sets, each with its own data."""
DATA_FIELD = f"environment.environment_kwargs.{DATA}"
MOST_BYTES = 4 << 30
"""Bytes of one job's data, at most."""
MOST_WORDS = 20_000
"""Words of a tokenizer that is made from a user's prompts, at most."""
_CHUNK = 1 << 20
ASKED = frozenset({"prompt", "messages", "solution", "choices"})
"""Columns that the environment reads itself."""
_CANNOT_BE_SAID = (
    "model.scratch: the column {0} has too many words for its tokenizer of {1:,}, so the policy cannot say them; a "
    "reward function that wants them in a reply gives every reply the same"
)

Problems = list[tuple[str, str]]


class FileProblem(Exception):
    """A file cannot be taken; holds (field, sentence)."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.problem = (field, sentence)


def names_files(spec: JobSpec) -> list[str]:
    """The fields in which the job names files of its user, also such that are kept already."""
    by_field = {
        "rewards.reward_funcs": any(split_function(name) for name in spec.rewards.reward_funcs),
        DATA_FIELD: any(_is_path(one.get(DATA)) for kwargs in _kwargs(spec).values() for _, one in _named_in(kwargs)),
    }
    return [field for field, named in by_field.items() if named]


def with_kept_files(spec: JobSpec, data_dir: Path, roots: Sequence[Path] | None) -> JobSpec:
    """The spec with each file copied, and named by its content.

    Args:
        roots: folders that files may lie in, links followed; None: any.

    Raises:
        FileProblem: there is no such file, it may not be taken, or it is too large.
    """
    store, document = files_root(data_dir), spec.model_dump(mode="json", exclude_unset=True)
    document.setdefault("rewards", {})["reward_funcs"] = [
        _kept_function(name, store, roots) for name in spec.rewards.reward_funcs
    ]
    for field in _kwargs(spec):
        named: Any = document
        for name in field.split("."):
            # a section that was not set is not there
            named = named[int(name)] if isinstance(named, list) else named.get(name) or {}
        for place, one in _named_in(named):
            if _is_path(value := one.get(DATA)):
                one[DATA] = _kept(str(value), f"{field}.{place}{DATA}", store, roots)
    return JobSpec.model_validate(document)


@dataclass(frozen=True)
class OwnWords:
    """The vocabulary of a policy from scratch on prompts that the job brings."""

    words: list[str]
    """Sorted."""
    warnings: list[str]
    """A sentence for each column that a reward function may read and whose words are not among them."""


def own_words(spec: JobSpec, data_dir: Path) -> OwnWords | None:
    """Every word of the prompts, solutions and choices that the job brings; None: it brings none.

    With reward functions of the user's also those of all other columns, as far as they fit: what such a function wants
    in a reply, the policy must be able to say.

    Raises:
        FileProblem: they cannot be read here, or are too many for a tokenizer of words.
    """
    field, kwargs = "environment.environment_kwargs", spec.environment.environment_kwargs
    given = kwargs.get("rows")
    sources: list[tuple[Path, Mapping[str, str]]] = []
    for place, one in _named_in(kwargs):
        if isinstance(data := one.get(DATA), str):
            if (reference := referenced_file(data)) is None:
                why = "a policy from scratch needs a file of yours here, for its words"
                raise FileProblem(f"{field}.{place}{DATA}", why)
            sources.append((files_root(data_dir) / reference[0], _columns(one)))
    if not sources and not isinstance(given, list):
        return None

    def rows() -> Iterator[tuple[Any, Mapping[str, str]]]:
        yield from ((row, {}) for row in (given if isinstance(given, list) else ()))
        yield from ((row, named) for folder, named in sources for row in _rows(folder))

    words = {word for row, named in rows() for text in texts_in(_ours(row, named)) for word in text.split()}
    if len(words) > MOST_WORDS:
        many = f"{len(words):,} different words, a policy from scratch learns at most {MOST_WORDS:,}; want `model`"
        raise FileProblem("model.scratch", many)
    own_functions = not {*spec.rewards.reward_funcs} <= {*BUILT_IN_REWARDS}
    return _with_further_columns(words, (row for row, _ in rows()) if own_functions else iter(()))


def _with_further_columns(words: set[str], rows: Iterator[Any]) -> OwnWords:
    columns: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items() if isinstance(row, dict) else ():
            if name not in ASKED:
                columns.setdefault(str(name), set()).update(word for text in _texts(value) for word in text.split())
    left_out = []
    for name, of_column in sorted(columns.items()):
        if len(words | of_column) > MOST_WORDS:
            left_out.append(name)
        else:
            words = words | of_column
    return OwnWords(sorted(words), [_CANNOT_BE_SAID.format(name, MOST_WORDS) for name in left_out])


def _texts(value: Any) -> Iterator[str]:
    """Every text and number in a JSON value."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)


def _kwargs(spec: JobSpec) -> dict[str, Mapping[str, Any]]:
    section = spec.environment
    found: dict[str, Mapping[str, Any]] = {"environment.environment_kwargs": section.environment_kwargs}
    found |= {f"environment.environment_rows.{at}": row for at, row in enumerate(section.environment_rows)}
    for at, member in enumerate(section.mixture):
        place = f"environment.mixture.{at}.environment_"
        found[f"{place}kwargs"] = member.environment_kwargs or {}
        found |= {f"{place}rows.{number}": row for number, row in enumerate(member.environment_rows or ())}
    if spec.model.warmstart:
        found["model.warmstart.warmstart_environment_kwargs"] = spec.model.warmstart.warmstart_environment_kwargs
    return found


def _named_in(kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The kwargs that may name data: the section's own, and each of several data sets among them, with its place."""
    sets = kwargs.get(SETS)
    several = enumerate(sets) if isinstance(sets, list) else ()
    return [("", kwargs), *((f"{SETS}.{at}.", one) for at, one in several if isinstance(one, dict))]


def _is_path(value: object) -> bool:
    return isinstance(value, str) and (value.startswith("/") or referenced_file(value) is not None)


def _kept_function(name: str, store: Path, roots: Sequence[Path] | None) -> str:
    if (parts := split_function(name)) is None:
        return name
    return f"{_kept(parts[0], 'rewards.reward_funcs', store, roots)}:{parts[1]}"


def _kept(name: str, field: str, store: Path, roots: Sequence[Path] | None) -> str:
    """The reference of a file or folder, whose copy is in the store then. OSError: the store takes no copy."""
    if (reference := referenced_file(name)) is not None:
        if not (store / reference[0]).is_dir():
            raise FileProblem(field, f"no file of this content is kept here, name the file itself: {name}")
        os.utime(store / reference[0])
        return name
    source = Path(name)
    if not source.is_absolute():
        raise FileProblem(field, f"want an absolute path on the machine of the API, got {name!r}")
    try:
        if roots is not None and not any(source.resolve().is_relative_to(root.resolve()) for root in roots):
            raise FileProblem(field, f"want a path in one of the model roots, got {name!r}")
        folder = source if source.is_dir() else source.parent
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        if not files:
            raise FileProblem(field, f"the folder holds no files: {name}")
        return file_reference(
            _copied({str(path.relative_to(folder)): path for path in files}, field, store), source.name
        )
    except OSError as error:
        if error.errno in NO_ROOM:  # the store's disk, not the user's file
            raise
        raise FileProblem(field, f"cannot be read: {name}: {error.strerror}") from error


def _copied(files: Mapping[str, Path], field: str, store: Path) -> str:
    """The hash of files, by their names within a folder, which lie in the store then."""
    store.mkdir(parents=True, exist_ok=True)
    arriving = Path(mkdtemp(prefix=ARRIVING, dir=store))
    try:
        left, digests = MOST_BYTES, {}
        for name, file in files.items():
            (arriving / name).parent.mkdir(parents=True, exist_ok=True)
            digests[name], size = _copy(file, arriving / name, left, field)
            left -= size
        sha = content_hash(digests)
        arriving.chmod(0o755)
        try:
            arriving.rename(store / sha)
        except OSError:
            if not (store / sha).is_dir():  # otherwise it is there already
                raise
            os.utime(store / sha)  # so that nobody removes it before the job is stored
        return sha
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _copy(source: Path, target: Path, most: int, field: str) -> tuple[str, int]:
    """SHA-256 and size."""
    digest, size = hashlib.sha256(), 0
    with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK), "rb") as file, target.open("wb") as copy:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe or a device would never end
            raise FileProblem(field, f"want a file, this is none: {source}")
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            if size > most:
                raise FileProblem(field, f"want at most {MOST_BYTES >> 30} GiB of files, {source} has more")
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest(), size


def _rows(folder: Path) -> Iterator[Any]:
    """The rows of every file, up to one that cannot be read: the environment refuses it by its place."""
    for file in sorted(path for path in folder.rglob("*") if is_table(path)):
        with suppress(KwargsError):
            yield from (row for _, row in read_rows(file))


def _columns(kwargs: Mapping[str, Any]) -> dict[str, str]:
    columns = kwargs.get("columns")
    return {ours: str(theirs) for ours, theirs in columns.items()} if isinstance(columns, dict) else {}


def _ours(row: Any, named: Mapping[str, str]) -> Mapping[str, Any]:
    """A row by our names; empty where it has no prompt."""
    try:
        return as_ours(row, columns_of(row, named)) if isinstance(row, dict) else {}
    except ValueError:
        return {}
