"""The prompts, from a data folder, from the job itself, or generated sums, and their split into training and test."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, model_validator

from gigpo.env.data import checked, read_jsonl
from gigpo.env.environment import KwargsError
from services.env.environments.splits import in_order_of_content

TRAIN_FILE, TEST_FILE = "train.jsonl", "test.jsonl"
MAX_OPERAND = 50
_SHOWN = 5
"""Names of files that a refusal shows."""
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: max(a - b, 0),
    "larger": max,
    "smaller": min,
}
"""What the generated sums ask for; minus stops at 0."""


class Message(BaseModel):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Row(BaseModel):
    """One line of a data set. Further columns are kept for reward functions."""

    model_config = ConfigDict(extra="allow")

    prompt: str | None = None
    messages: list[Message] | None = None
    solution: bool | str | int | float | None = None
    choices: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_question(self) -> "Row":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("want exactly one of prompt and messages")
        roles = [message.role for message in self.messages or ()]
        asking = roles[:-1] if roles[-1:] == ["assistant"] else roles
        if self.messages is not None and asking not in (["user"], ["system", "user"]):
            raise ValueError(f"messages: want one user message, perhaps after a system message, got {roles}")
        if not self.question.strip():
            raise ValueError("want a prompt, got an empty one")
        return self

    def __hash__(self) -> int:
        return hash(self.question)

    def __eq__(self, other: object) -> bool:
        """As JSON: 1, 1.0 and true are other solutions."""
        return isinstance(other, Row) and self.model_dump_json() == other.model_dump_json()

    @property
    def question(self) -> str:
        """The prompt; a system message stands above it, an assistant's reply is left out."""
        if self.prompt is not None:
            return self.prompt
        return "\n\n".join(message.content for message in self.messages or () if message.role != "assistant")


@dataclass(frozen=True)
class Question:
    """One prompt to answer."""

    text: str
    solution: str | None = None
    choices: tuple[str, ...] = ()
    """Every reply that counts as valid; empty: any does."""
    row: Mapping[str, JsonValue] = field(default_factory=dict)

    @staticmethod
    def of(row: Row) -> "Question":
        return Question(row.question, _written(row.solution), row.choices, row.model_dump(exclude_unset=True))


class Arithmetic(BaseModel):
    """Generated questions such as `3 plus 4`: every pair of operands for every operation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operations: tuple[Literal["plus", "minus", "larger", "smaller"], ...] = Field(
        ("plus",), min_length=1, description="What is asked for."
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


def _written(solution: bool | str | int | float | None) -> str | None:
    """As JSON writes it: true is the word."""
    return str(solution).lower() if isinstance(solution, bool) else None if solution is None else str(solution)


class Splits(NamedTuple):
    """The questions of a data set. They stand in the order of their content: seeds draw the same ones however the lines
    of a file are ordered."""

    train: list[Question]
    test: list[Question]
    """What is held out."""
    unsolved: tuple[Question, ...] = ()
    """Those without a solution, or with an empty one."""
    warnings: tuple[str, ...] = ()
    """What whoever brings them should know."""

    def checked(self, *, apart: bool) -> "Splits":
        """With what there is to say of them.

        Args:
            apart: the two are meant to share nothing, and come from two files.
        """
        every = [*self.train, *self.test] if self.test is not self.train else self.train
        unsolved = tuple(question for question in every if not (question.solution or "").strip())
        truths = sum(isinstance(question.row.get("solution"), bool) for question in every)
        said = (
            [f"the solution of {truths:,} rows is true or false, no text: want it as the reply's word"]
            if truths
            else []
        )
        return self._replace(unsolved=unsolved, warnings=(*said, *(self._shared() if apart else ())))

    def _shared(self) -> Iterator[str]:
        """Held-out prompts that stand in training too: success there measures what was learned by heart."""
        exact = {question.text for question in self.train}
        alike = {_alike(text) for text in exact}
        same = sum(question.text in exact for question in self.test)
        near = sum(_alike(question.text) in alike for question in self.test) - same
        what = f"of {len(self.test):,} test prompts stand in the training prompts too"
        if same:
            yield f"{same:,} {what}"
        if near:
            yield f"{near:,} {what}, but for case and white space"


def _alike(text: str) -> str:
    """Equal for texts that differ in case and white space alone."""
    return " ".join(text.casefold().split())


def folder_splits(folder: Path, ratio: float) -> Splits:
    """The questions of a folder; those of its test.jsonl are held out, else a share of train.jsonl.

    A folder with one file of another name, `*.jsonl`, has its training questions in that.

    Read again only when a file changes. KwargsError names the file, the line and what is wrong with it.
    """
    train, test = folder / TRAIN_FILE, folder / TEST_FILE
    if not train.exists():
        train = _only_file(folder)
    return _read_splits(train, _stamp(train), test, _stamp(test) if test.exists() else None, ratio)


def _only_file(folder: Path) -> Path:
    """The folder's one file of JSON lines. KwargsError: it has none, or several."""
    found = sorted(folder.glob("*.jsonl"))
    if len(found) != 1:
        names = sorted(path.name for path in folder.iterdir())
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise KwargsError(f"data: want a file *.jsonl, or a folder with {TRAIN_FILE}, got {shown or 'an empty folder'}")
    return found[0]


@lru_cache(8)
def own_splits(rows: tuple[Row, ...], arithmetic: Arithmetic, ratio: float) -> Splits:
    """The rows that a job carries itself, or else the generated sums, and a share of them held out."""
    return held_out_apart(_in_order(map(Question.of, rows)) or arithmetic.questions(), ratio).checked(apart=False)


def held_out_apart(questions: list[Question], ratio: float) -> Splits:
    """Questions for training and held out: of the distinct texts that share, rounded up, drawn by their hash.

    Texts that differ in case and white space alone stay together. Ratio 0 holds nothing out: both are all questions.
    KwargsError: nothing would be left to train on.
    """
    if ratio == 0.0:
        return Splits(questions, questions)
    first: dict[str, str] = {}
    for text in sorted({question.text for question in questions}):
        first.setdefault(_alike(text), text)
    ranked = sorted((_hash(text), alike) for alike, text in first.items())
    held = {alike for _, alike in ranked[: math.ceil(ratio * len(ranked))]}
    train = [question for question in questions if _alike(question.text) not in held]
    if not train:
        raise KwargsError(f"split_dataset_ratio: {ratio:g} of {len(ranked)} prompts leaves none to train on")
    return Splits(train, [question for question in questions if _alike(question.text) in held])


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError as error:
        raise KwargsError(f"data: want a file {file.name} in {file.parent.name}: {error.strerror}") from error
    return status.st_mtime_ns, status.st_size


_row: TypeAdapter[Row] = TypeAdapter(Row)


@lru_cache(4)
def _read_splits(
    train: Path, _: tuple[int, int], test: Path, test_stamp: tuple[int, int] | None, ratio: float
) -> Splits:
    if test_stamp is None:
        return held_out_apart(_read(train), ratio).checked(apart=False)
    return Splits(_read(train), _read(test)).checked(apart=True)


def _read(file: Path) -> list[Question]:
    questions = _in_order(Question.of(checked(_row, row, place)) for place, row in read_jsonl(file))
    if not questions:
        raise KwargsError(f"data: {file.name} holds no rows")
    return questions


def _in_order(questions: Iterable[Question]) -> list[Question]:
    return in_order_of_content(questions, lambda question: dict(question.row))


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()
