"""Whether a reply gives the right answer."""

import re
from fractions import Fraction

ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
THOUGHT_END = "</think>"
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def answer_in(reply: str) -> str:
    """What the last <answer> encloses; without one what follows the thinking; without that the whole reply."""
    enclosed = ANSWER.findall(reply)
    return (enclosed[-1] if enclosed else reply.rpartition(THOUGHT_END)[2]).strip()


def is_right(reply: str, solution: str) -> bool:
    """Whether the answer in a reply is the solution.

    Equal texts are, whatever their case and spaces, and equal numbers. What else is compared as mathematics: the last
    expression in the answer with that in the solution, both plain or LaTeX (math-verify).
    """
    answer = answer_in(reply)
    if _plain(answer) == _plain(solution):
        return True
    if NUMBER.fullmatch(answer) and NUMBER.fullmatch(solution.strip()):
        return Fraction(answer) == Fraction(solution.strip())
    return _same_mathematics(answer, solution)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _same_mathematics(answer: str, solution: str) -> bool:
    from math_verify import parse, verify  # brings sympy: 0.3 s and 50 MB, for those who need it

    wanted = parse(solution) or parse(f"${solution}$")
    return bool(wanted) and bool(verify(wanted, parse(answer)))
