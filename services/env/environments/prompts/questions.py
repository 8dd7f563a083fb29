"""The prompts, from a data folder, from the job itself, or generated sums, and their split into training and test."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gigpo.env.columns import Columns, as_ours, columns_of
from gigpo.env.data import checked
from gigpo.env.environment import KwargsError
from gigpo.env.tables import read_rows, split_files
from services.env.environments.prompts.rows import Row
from services.env.environments.prompts.shelf import Question, Questions, Shelf

MAX_OPERAND = 50
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: max(a - b, 0),
    "larger": max,
    "smaller": min,
}
"""The generated sums; minus stops at 0."""


class Arithmetic(BaseModel):
    """Generated questions such as `3 plus 4`: every pair of operands for every operation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operations: tuple[Literal["plus", "minus", "larger", "smaller"], ...] = Field(
        ("plus",), min_length=1, description="Kinds of sums."
    )
    max_operand: int = Field(9, ge=1, le=MAX_OPERAND, description="Operands are 0 to this.")

    def questions(self) -> list[Question]:
        """All of them, in order."""
        operands = range(self.max_operand + 1)
        asked = [(name, a, b) for name in self.operations for a in operands for b in operands]
        solutions = [OPERATIONS[name](a, b) for name, a, b in asked]
        choices = tuple(map(str, range(max(solutions) + 1)))
        return [
            Question(f"{a} {name} {b}", str(solution), choices)
            for (name, a, b), solution in zip(asked, solutions, strict=True)
        ]

    @staticmethod
    def vocabulary() -> list[str]:
        """Every word of questions and answers, whatever the settings."""
        return [*OPERATIONS, *map(str, range(2 * MAX_OPERAND + 1))]


class Splits(NamedTuple):
    """The questions of a data set. They stand in the order of their content: seeds draw the same ones however the lines
    of a file are ordered."""

    train: Sequence[Question]
    test: Sequence[Question]
    """The share that is held out."""
    unsolved: int = 0
    """How many have no solution, or an empty one."""
    first_unsolved: str = ""
    """The first question of these."""
    warnings: tuple[str, ...] = ()
    """Notes for the person who brings them."""


@lru_cache(8)
def own_splits(rows: tuple[Row, ...], arithmetic: Arithmetic, ratio: float) -> Splits:
    """The rows that a job carries itself, or else the generated sums, and a share of them held out."""
    shelf = Shelf()
    for question in [_question(row, row.model_dump(exclude_unset=True)) for row in rows] or arithmetic.questions():
        shelf.add(question)
    found = shelf.questions(in_order_of_content=bool(rows))
    return _with_warnings(held_out_apart(found, ratio), found)


def folder_splits(folder: Path, ratio: float, columns: Iterable[tuple[str, str]] = ()) -> Splits:
    """The questions of a folder: its training rows, and those that it holds out, otherwise a share of the others;
    see `split_files`. Read again only when a file changes.

    Args:
        columns: pairs of ours and theirs, as `columns_of` takes them.

    Raises:
        KwargsError: names the file, the line and what is wrong with it.
    """
    train, test = split_files(folder)
    files = tuple((path, _stamp(path)) for path in (*train, *test))
    return _folder_splits(files, len(train), ratio, tuple(sorted(columns)))


Stamp = tuple[int, int]
"""A file's time of change and its size."""


@lru_cache(4)
def _folder_splits(
    files: tuple[tuple[Path, Stamp], ...], train_files: int, ratio: float, columns: tuple[tuple[str, str], ...]
) -> Splits:
    paths, named = [path for path, _ in files], dict(columns)
    train, told = _read(paths[:train_files], named)
    if train_files == len(paths):
        return _with_warnings(held_out_apart(train, ratio), train, told=told)
    test, told_too = _read(paths[train_files:], named)
    return _with_warnings(Splits(train, test), train, test, told=(*told, *told_too))


def _stamp(file: Path) -> Stamp:
    try:
        status = file.stat()
    except OSError as error:
        raise KwargsError(f"data: want a file {file.name} in {file.parent.name}: {error.strerror}") from error
    return status.st_mtime_ns, status.st_size


_row: TypeAdapter[Row] = TypeAdapter(Row)


def _read(files: Sequence[Path], named: Mapping[str, str]) -> tuple[Questions, tuple[str, ...]]:
    """The questions of files, and what is said of the shapes in which they came."""
    shelf, shapes = Shelf(), dict[str, str]()
    for file in files:
        for place, row in read_rows(file):
            try:
                columns = columns_of(row, named)
            except ValueError as error:
                raise KwargsError(f"data: {place}: record: {error}") from error
            _note(shapes, columns, file.name)
            question = _question(checked(_row, as_ours(row, columns), place), row)
            try:
                shelf.add(question)
            except UnicodeEncodeError as error:
                raise KwargsError(f"data: {place}: want Unicode text, got half of a surrogate pair") from error
    if not len(shelf):
        raise KwargsError(f"data: {', '.join(file.name for file in files)} holds no rows")
    return shelf.questions(), tuple(f"{file}: rows are read {said}" for said, file in shapes.items())


def _note(shapes: dict[str, str], columns: Columns, file: str) -> None:
    """Note the first file of each shape that is not our own."""
    if columns.whose:
        shapes.setdefault(columns.said(), file)


def _question(row: Row, whole: Mapping[str, object]) -> Question:
    return Question(row.question, _written(row.solution), row.choices, whole)


def _written(solution: bool | str | int | float | None) -> str | None:
    """The text of a value as JSON writes it: true is the word; NaN, which other writers have for null, is none."""
    if solution != solution:
        return None
    return str(solution).lower() if isinstance(solution, bool) else None if solution is None else str(solution)


def _with_warnings(splits: Splits, *read: Questions, told: Sequence[str] = ()) -> Splits:
    """Add the warnings about them. The second of two that were read is held out, and is to share nothing."""
    truths = sum(questions.truths for questions in read)
    said = [f"the solution of {truths:,} rows is true or false, no text: want it as the reply's word"] if truths else []
    shared = _shared(*read) if len(read) == 2 else ()
    unsolved = [questions.unsolved for questions in read if questions.unsolved]
    return splits._replace(
        unsolved=sum(map(len, unsolved)),
        first_unsolved=unsolved[0][0].text if unsolved else "",
        warnings=(*told, *said, *shared),
    )


def _shared(train: Questions, test: Questions) -> Iterator[str]:
    """Held-out prompts that stand in training too: success there measures what was learned by heart."""
    exact, alike = set(train.exact), set(train.alike)
    same = sum(key in exact for key in test.exact)
    near = sum(key in alike for key in test.alike) - same
    what = f"of {len(test):,} test prompts stand in the training prompts too"
    if same:
        yield f"{same:,} {what}"
    if near:
        yield f"{near:,} {what}, but for case and white space"


def held_out_apart(questions: Questions, ratio: float) -> Splits:
    """Questions for training and held out: of the distinct texts that share, rounded up, drawn by their hash.

    Texts that differ in case and white space alone stay together. Ratio 0 holds nothing out: both are all questions.
    KwargsError: nothing would be left to train on.
    """
    if ratio == 0.0:
        return Splits(questions, questions)
    rank = questions.ranks()
    ranked = sorted((number, alike) for alike, number in rank.items())
    held = {alike for _, alike in ranked[: math.ceil(ratio * len(ranked))]}
    train = questions.chosen(lambda alike: alike not in held)
    if not train:
        raise KwargsError(f"split_dataset_ratio: {ratio:g} of {len(ranked)} prompts leaves none to train on")
    return Splits(train, questions.chosen(lambda alike: alike in held))
