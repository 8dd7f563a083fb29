"""The questions of a data set on disk: in memory are a few numbers of each, so that a million take little."""

import json
import pickle
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from tempfile import SpooledTemporaryFile
from threading import Lock
from typing import Any, overload
from weakref import finalize

IN_MEMORY_BYTES = 8 << 20
"""A data set up to this size is not written to disk."""


@dataclass(frozen=True)
class Question:
    """One prompt to answer."""

    text: str
    solution: str | None = None
    choices: tuple[str, ...] = ()
    """Every reply that counts as valid; empty: any does."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The row as it stands in the data, all its columns."""


class Shelf:
    """Takes questions, and puts them on disk."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - it lives as long as its questions
        self._begins = array("Q")
        self._reader = _Reader(self._file, self._begins)
        self._digests: list[bytes] = []
        self._exact, self._alike = array("Q"), array("Q")
        self._unsolved = array("Q")
        self._truths = 0

    def __len__(self) -> int:
        return len(self._begins)

    def add(self, question: Question) -> None:
        """Put one more on it."""
        if not (question.solution or "").strip():
            self._unsolved.append(len(self))
        self._truths += isinstance(question.row.get("solution"), bool)
        self._digests.append(_digest(json.dumps(question.row, sort_keys=True), 16))
        self._exact.append(_number(question.text))
        self._alike.append(_number(without_case_and_space(question.text)))
        self._begins.append(self._file.tell())
        whole = (question.text, question.solution, question.choices, question.row)
        self._file.write(pickle.dumps(whole, pickle.HIGHEST_PROTOCOL))

    def questions(self, *, in_order_of_content: bool = True) -> "Questions":
        """All of them: sorted by a digest of what they hold, equal ones as they came; or all as they came."""
        order: Sequence[int] = range(len(self))
        if in_order_of_content:
            order = sorted(order, key=self._digests.__getitem__)
        self._digests = []
        number = {place: rank for rank, place in enumerate(order)} if self._unsolved else {}
        keys = (array("Q", (self._exact[at] for at in order)), array("Q", (self._alike[at] for at in order)))
        unsolved = Places(self._reader, array("Q", sorted(self._unsolved, key=number.__getitem__)))
        return Questions(self._reader, array("Q", order), keys, unsolved, self._truths)


class _Reader:
    """Reads single questions from the file."""

    def __init__(self, file: "SpooledTemporaryFile[bytes]", begins: "array[int]") -> None:
        self._file, self._begins = file, begins
        self._turn = Lock()
        finalize(self, file.close)

    def __call__(self, place: int) -> Question:
        with self._turn:
            self._file.seek(self._begins[place])
            return Question(*pickle.load(self._file))


class Places(Sequence[Question]):
    """Some questions of a file, read when they are asked for."""

    def __init__(self, read: Callable[[int], Question], places: "array[int]") -> None:
        self._read, self._places = read, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Question: ...
    @overload
    def __getitem__(self, at: slice) -> "Places": ...
    def __getitem__(self, at: int | slice) -> "Question | Places":
        if isinstance(at, slice):
            return Places(self._read, self._places[at])
        return self._read(self._places[at])


class Questions(Places):
    """All questions of a file.

    Attributes:
        exact, alike: a number of 64 bits for each text, and for the text without case and white space.
        unsolved: those without a solution, or with an empty one.
        truths: how many solutions are no text but true or false.
    """

    def __init__(
        self, read: Callable[[int], Question], places: "array[int]", keys: "Keys", unsolved: Places, truths: int
    ) -> None:
        super().__init__(read, places)
        self.exact, self.alike = keys
        self.unsolved, self.truths = unsolved, truths

    def ranks(self) -> dict[int, int]:
        """Give each text without case and white space a number to draw by: that of its first form in the alphabet."""
        forms: dict[int, int] = {}
        several: dict[int, str] = {}
        for at, (exact, alike) in enumerate(zip(self.exact, self.alike, strict=True)):
            known = forms.setdefault(alike, exact)
            if alike in several or known != exact:
                first = several.setdefault(alike, "") or self[self.exact.index(known)].text
                several[alike] = min(first, self[at].text)
                forms[alike] = _number(several[alike])
        return forms

    def chosen(self, wanted: Callable[[int], bool]) -> Places:
        """Those whose text without case and white space has a number that is wanted, in their order."""
        places = zip(self._places, self.alike, strict=True)
        return Places(self._read, array("Q", (place for place, alike in places if wanted(alike))))


Keys = tuple["array[int]", "array[int]"]
"""`exact` and `alike` of each question."""


def without_case_and_space(text: str) -> str:
    """Equal for texts that differ in case and white space alone."""
    return " ".join(text.casefold().split())


def _digest(text: str, size: int) -> bytes:
    return blake2b(text.encode(), digest_size=size).digest()


def _number(text: str) -> int:
    return int.from_bytes(_digest(text, 8), "big")
