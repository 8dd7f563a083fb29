"""Rows of data files: JSON lines, JSON, CSV, Parquet and the Arrow files of Hugging Face `datasets`, gzipped or not.

Rows are read one by one, so that a file of any length takes little memory. Each comes with its place in words, such as
"train.csv, line 3"; what cannot be read is a KwargsError that names it.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from gigpo.env.environment import KwargsError
from gigpo.env.progress import report_each

Rows = Iterator[tuple[str, dict[str, Any]]]
BATCH_ROWS = 256
"""Rows of Parquet and Arrow that are in memory at once: a row may hold pictures."""
LONGEST_CELL = 1 << 26
"""Characters of one cell of CSV."""
NO_ROWS = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
"""Files that `datasets` writes beside its rows."""
TEST_NAMES = ("test", "validation", "valid", "val", "dev", "eval")
"""Splits that are held out, the first that there is."""
_SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?$")
_SHARDS = re.compile(r"\d+-of-(\d+)\.")
_SHOWN = 5


def read_rows(file: Path) -> Rows:
    """Each row of a file and its place. KwargsError: it cannot be read, or holds something else."""
    read = READERS[_kind(file)]
    rows = read(file.name, file)
    place = file.name
    while True:
        try:
            place, row = next(rows)
        except StopIteration:
            return
        except (gzip.BadGzipFile, EOFError) as error:
            raise KwargsError(f"data: {file.name} is no whole gzip file: {error}") from error
        except UnicodeDecodeError as error:
            raise KwargsError(f"data: {file.name}: want UTF-8 text, got {error.reason} after {place}") from error
        except OSError as error:
            raise KwargsError(f"data: {file.name} cannot be read: {error}") from error
        if not isinstance(row, dict):
            raise KwargsError(f"data: {place}: record: want an object of columns, got {row!r:.80}")
        yield place, row


def split_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files of training rows, and of rows that are held out, which may be none; each in the order of its shards.

    A file's split is what its name, or its folder's, begins with: train.jsonl, data/test-00000-of-00002.parquet,
    test/data-00000-of-00001.arrow. Without a name that says so a folder with one file, or the shards of one, trains on
    that. KwargsError: there is none, or it isn't clear which.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file() and is_table(path))
    train = _of_split(found, folder, "train")
    test = next((files for name in TEST_NAMES if (files := _of_split(found, folder, name))), [])
    others = [path for path in found if path not in test]
    train = train or (others if len({_unit(path) for path in others}) == 1 else [])
    if not train:
        names = sorted(str(path.relative_to(folder)) for path in found) or sorted(
            path.name for path in folder.iterdir()
        )
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise KwargsError(
            f"data: want one file of rows ({', '.join(READERS)}, or one of them with .gz), or a folder with "
            f"train.jsonl or the like, got {shown or 'an empty folder'}"
        )
    for files in (train, test):
        if len(units := sorted({str(_unit(path).relative_to(folder)) for path in files})) > 1:
            raise KwargsError(
                f"data: want the rows of a split in one file, or in shards of one, got {', '.join(units)}"
            )
        wanted = max((int(of[1]) for path in files if (of := _SHARDS.search(path.name))), default=len(files))
        if len(files) != wanted:
            raise KwargsError(f"data: {files[0].name}: want {wanted} shards, as its name says, got {len(files)}")
    return train, test


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a file of rows."""
    return _kind(path) in READERS and path.name not in NO_ROWS and not path.name.startswith(".")


def _kind(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _unit(path: Path) -> Path:
    """The file without the numbers of its shards."""
    name = path.name.removesuffix(".gz")
    stem, kind = name[: -len(Path(name).suffix)], Path(name).suffix
    return path.parent / f"{_SHARD.sub('', stem)}{kind}"


def _of_split(files: list[Path], folder: Path, split: str) -> list[Path]:
    begins = re.compile(rf"{split}(?![a-z])", re.IGNORECASE)
    exact = [path for path in files if path.parent == folder and path.name.partition(".")[0].lower() == split]
    return exact or [
        path for path in files if any(begins.match(part) for part in path.relative_to(folder).parts if part != "data")
    ]


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.name.endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _json_lines(name: str, path: Path) -> Rows:
    with _opened(path) as lines:
        for number, line in enumerate(report_each(lines), start=1):
            if line.strip():
                place = f"{name}, line {number}"
                try:
                    yield place, json.loads(line.removeprefix(b"\xef\xbb\xbf"))
                except (ValueError, RecursionError) as error:
                    raise KwargsError(f"data: {place} is no JSON: {error}") from error


def _json(name: str, path: Path) -> Rows:
    """A list of rows, or one row a line, as `datasets` reads files of this name."""
    with _opened(path) as file:
        begin = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if begin != b"[":
        yield from _json_lines(name, path)
        return
    import ijson

    with _opened(path) as file:
        rows, number = report_each(ijson.items(file, "item", use_float=True)), 0
        try:
            for number, row in enumerate(rows, start=1):
                yield f"{name}, row {number}", row
        except ijson.JSONError as error:
            raise KwargsError(f"data: {name} is no JSON after row {number}: {error}") from error


def _csv(name: str, path: Path) -> Rows:
    csv.field_size_limit(LONGEST_CELL)
    delimiter = "\t" if _kind(path) == ".tsv" else ","
    with _opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            columns = [name.strip() for name in next(rows, [])]
            if twice := next((column for column in columns if column and columns.count(column) > 1), None):
                raise KwargsError(f"data: {name}, line 1: want columns that differ, got {twice} twice")
            for cells in report_each(rows):
                place = f"{name}, line {rows.line_num}"
                if len(cells) != len(columns) and cells:
                    raise KwargsError(f"data: {place}: want {len(columns)} cells, as many as columns, got {len(cells)}")
                if cells:
                    yield place, {column: _cell(cell) for column, cell in zip(columns, cells, strict=True)}
        except csv.Error as error:
            raise KwargsError(f"data: {name}, line {rows.line_num} is no CSV: {error}") from error


def _cell(text: str) -> object:
    """Lists and objects are written as JSON in a cell; everything else is the text that it is."""
    if text[:2] in ("[{", '{"') or text[:2] == '["':
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _parquet(name: str, path: Path) -> Rows:
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield from _arrow_rows(name, file.iter_batches(BATCH_ROWS, use_threads=False))
    except arrow.ArrowException as error:
        raise KwargsError(f"data: {name} is no Parquet file: {error}") from error


def _arrow(name: str, path: Path) -> Rows:
    import pyarrow as arrow

    try:
        with path.open("rb") as file, arrow.ipc.open_stream(file) as stream:
            yield from _arrow_rows(name, iter(stream))
    except arrow.ArrowException as error:
        raise KwargsError(f"data: {name} is no Arrow file of `datasets`: {error}") from error


def _arrow_rows(name: str, batches: Iterator[Any]) -> Rows:
    number = 0
    for batch in report_each(batches):
        for begin in range(0, batch.num_rows, BATCH_ROWS):
            for row in batch.slice(begin, BATCH_ROWS).to_pylist():
                number += 1
                yield f"{name}, row {number}", _plain(row)


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: bytes by their number, dates and decimals as texts."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


READERS: dict[str, Callable[[str, Path], Rows]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".ndjson": _json_lines,
}
"""Readers by the ending of a file's name."""
