"""Maps seeds to tasks: a default split into training and test tasks, and a stable order of tasks."""

import json
from collections.abc import Callable, Iterable
from hashlib import blake2b
from operator import itemgetter
from typing import TypeVar

from gigpo.env.progress import report_each

T = TypeVar("T")

MAX_DRAWS = 64
"""A task of one in six is found in so many draws but once in 100,000 times."""
ENOUGH_TO_SEE_ONE_TASK = 7
"""Draws that all gave the same task: there is only the one."""


def held_out(number: int) -> bool:
    """Whether the task of this number is for testing only: one in six."""
    return number % 6 == 0


def in_test_split(task: str) -> bool:
    """Whether what names a task belongs to the test split: about one in six, the same ones everywhere."""
    return held_out(blake2b(task.encode(), digest_size=8).digest()[0])


def in_order_of_content(records: Iterable[T], content: Callable[[T], object]) -> list[T]:
    """Sorted by a digest of what they hold, so that a user's files name the same tasks however their lines are ordered.

    Records of equal content stand side by side, in the order in which they came.

    Args:
        content: what JSON can hold; the keys of its objects count without order.
    """
    keyed = [(_digest(content(record)), record) for record in report_each(records)]
    return [record for _, record in sorted(keyed, key=itemgetter(0))]


def reset_within(split: str, seed: int, reset: Callable[[int], str]) -> None:
    """Call `reset` with numbers that follow from split and seed until what it names belongs to the split.

    Where the tasks hardly differ, as on a map with one start, no such number may be found: then the splits share tasks.

    Args:
        reset: takes a number from 0 to 2**32 - 1 and names the task that it started.
    """
    numbers = [task_number(f"{split}/{seed}/{draw}") for draw in range(MAX_DRAWS)]
    met = set()
    for draw, number in enumerate(numbers):
        task = reset(number)
        if in_test_split(task) == (split == "test"):
            return
        met.add(task)
        if draw >= ENOUGH_TO_SEE_ONE_TASK and len(met) == 1:
            break
    reset(numbers[0])


def task_number(text: str) -> int:
    """A number from 0 to 2**32 - 1, which is what generators take as a seed, that follows from the text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "little")


def _digest(content: object) -> bytes:
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).digest()
