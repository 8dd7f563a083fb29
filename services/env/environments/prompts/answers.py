"""Whether a reply gives the right answer."""

import logging
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache

from gigpo.env.environment import InfraFault

ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
THOUGHT_END = "</think>"
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
LONGEST_NUMBER = 1_000
"""Characters of a number that is compared as one; longer ones are text. Python refuses those of 4,301 digits."""
LONGEST_MATHEMATICS = 1_000
"""Characters from the end of an answer that are read as mathematics: 32,000 times "1 " kept the parser busy for 5 s."""
MATHEMATICS_TIMEOUT_S = 5.0


class _TookTooLongError(BaseException):
    """No Exception, so that nothing on the way takes it for an answer that cannot be parsed."""


def answer_in(reply: str) -> str:
    """What the last <answer> encloses; without one what follows the thinking; without that the whole reply."""
    enclosed = ANSWER.findall(reply)
    return (enclosed[-1] if enclosed else reply.rpartition(THOUGHT_END)[2]).strip()


@lru_cache(64)  # accuracy, cosine and `won` ask the same; what is raised is not kept
def is_right(reply: str, solution: str) -> bool:
    """Whether the answer in a reply is the solution.

    Equal texts are, whatever their case and spaces, and equal numbers. What else is compared as mathematics: the last
    expression in the answer with that in the solution, both plain or LaTeX (math-verify). InfraFault: that takes
    longer than MATHEMATICS_TIMEOUT_S; on a busy machine it might, so it says nothing about the answer.
    """
    answer = answer_in(reply)
    if _plain(answer) == _plain(solution):
        return True
    if NUMBER.fullmatch(answer) and NUMBER.fullmatch(solution.strip()):
        longest = max(len(answer), len(solution.strip()))
        return longest <= LONGEST_NUMBER and Fraction(answer) == Fraction(solution.strip())
    return _same_mathematics(answer, solution)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _same_mathematics(answer: str, solution: str) -> bool:
    from math_verify import parse, verify  # brings sympy: 0.3 s and 50 MB, for those who need it

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it would log whole answers that it gives up
    try:
        with _time_limit():  # its own limits turn what takes too long into a wrong answer
            wanted = parse(solution, parsing_timeout=None) or parse(f"${solution}$", parsing_timeout=None)
            found = parse(answer[-LONGEST_MATHEMATICS:], parsing_timeout=None)
            return bool(wanted) and bool(verify(wanted, found, timeout_seconds=None))
    except _TookTooLongError as error:
        raise InfraFault(f"comparing an answer with {solution!r:.80} took over {MATHEMATICS_TIMEOUT_S:g} s") from error


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raise _TookTooLongError inside after MATHEMATICS_TIMEOUT_S. For the main thread, where environments run."""

    def stop(*_: object) -> None:
        raise _TookTooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MATHEMATICS_TIMEOUT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
