"""Checks that a reply gives the right answer."""

import json
import re
import signal
from collections.abc import Callable
from functools import lru_cache, partial

from gigpo.env.environment import InfraFault
from services.env.environments.prompts.limits import limited
from services.env.environments.prompts.mathematics import (
    TEXT_COMMAND,
    load,
    same_answer,
)

ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
THOUGHT_END = "</think>"
ANNOUNCED = re.compile(r"(?i).*\banswer\s*(?:is\b|:)\s*:?\s*(.+)", re.DOTALL)
HASHES = "####"
"""GSM8K's mark before its answers."""
LETTER = re.compile(r"[(\[]?([A-Z])[)\].:]?")
OPTION = re.compile(r"\(([A-Z])\)\s.*", re.DOTALL)
"""A solution that gives its choice's text too; a reply may name the letter alone."""
CHOICE = re.compile(r"(?:\(([A-Z])\)|([A-Z])[).:])\s(?!\s*(?:is|isn['’]t|or|and|nor)\b)(?!.*\([A-Z]\)).*", re.DOTALL)
"""`(B) Paris`, which names choice B; `(B) or (C)` and `(B) is wrong` do not."""
LONGEST_MATHEMATICS = 1_000
"""Characters from the end of an answer that are read as mathematics: 32,000 times "1 " kept the parser busy for 5 s."""
MATHEMATICS_TIMEOUT_S, MATHEMATICS_CPU_S = 5.0, 1.0
"""One that costs more CPU time (real ones cost up to 0.4 s) is given up as wrong; one that only takes longer says
nothing."""


class _TookTooLongError(BaseException):
    """Not an Exception, so that no handler on the way takes it for an answer that cannot be parsed."""


class _CostsTooMuchError(BaseException):
    """The same, of computing time: a busy machine has no part in it."""


def answer_in(reply: str) -> str:
    """The content of the last <answer>; without one the text behind the thinking; without that the whole reply."""
    enclosed = ANSWER.findall(reply)
    return (enclosed[-1] if enclosed else reply.rpartition(THOUGHT_END)[2]).strip()


@lru_cache(64)  # accuracy, cosine and `won` ask the same; what is raised is not kept
def is_right(reply: str, solution: str) -> bool:
    """Whether the answer in a reply is the solution; docs/prompts.md has the rules. Nothing answers an empty solution.

    Equal texts are right, whatever their case and spaces. Where the solution is an expression the two are compared as
    mathematics, else word by word. InfraFault: that takes longer than MATHEMATICS_TIMEOUT_S on a busy machine, which
    says nothing about the answer.
    """
    wanted, answer = _outcome(solution), answer_in(reply)
    if not _plain(wanted):
        return False
    given, pointed_out = _outcome(answer), ANSWER.search(reply) is not None
    pointed_out |= given != answer.strip()
    if not pointed_out and (announced := ANNOUNCED.fullmatch(given)):
        given = announced.group(1).strip()
    if _plain(given) == _plain(wanted) or _same_choice(given, wanted):
        return True
    if (document := _document(wanted)) is not None:
        return same_document(document, _document(given))
    if max(len(wanted), len(given) if pointed_out else 0) > LONGEST_MATHEMATICS:
        return False
    try:
        return _within_limits(partial(same_answer, wanted, _end(given), marked=pointed_out))
    except _TookTooLongError as error:
        raise InfraFault(f"comparing an answer with {solution!r:.80} took over {MATHEMATICS_TIMEOUT_S:g} s") from error


def _outcome(text: str) -> str:
    """The final statement of a text: in its last box, behind ####, or all of it; without Markdown's stars."""
    text = re.sub(r"\*\*(.+?)\*\*", r"\1", text)
    _, hashes, behind = text.rpartition(HASHES)
    if hashes:
        text = behind.strip().partition("\n")[0]
    begin = max(text.rfind(r"\boxed{"), text.rfind(r"\fbox{"))
    depth = 0
    for place in range(begin, len(text)) if begin >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if text[place] == "}" and depth == 0:
            return text[text.index("{", begin) + 1 : place].strip()
    return text.strip()


def _end(text: str) -> str:
    """The last characters, from the beginning of a word."""
    return text if len(text) <= LONGEST_MATHEMATICS else re.sub(r"^\S*", "", text[-LONGEST_MATHEMATICS:])


def _plain(text: str) -> str:
    """Remove case, dollar signs, LaTeX's ways to write words, and ends of sentences."""
    return " ".join(TEXT_COMMAND.sub(r" \1 ", text).replace("$", " ").casefold().split()).rstrip(".")


def _document(text: str) -> dict[str, object] | list[object] | None:
    """An object or a list of JSON that is more than numbers, which would be mathematics; None: it is none."""
    if text[:1] not in ("{", "["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) or re.search(r'["a-z]', text) else None


def same_document(one: object, other: object) -> bool:
    """Whether two values of JSON are equal: objects in any order of their keys; 1 is 1.0, and neither "1" nor true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_document(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_document, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _same_choice(given: str, wanted: str) -> bool:
    """Whether both name one choice, as `B`, `(B)`, `B)` or `(B) Paris`; a solution may be a letter alone."""
    solution, reply = (" ".join(TEXT_COMMAND.sub(r" \1 ", text).strip(" $").split()) for text in (wanted, given))
    letter = LETTER.fullmatch(solution)
    alone = LETTER.fullmatch(reply.rstrip("."))
    if option := OPTION.fullmatch(solution):
        return alone is not None and alone.group(1) == option.group(1)
    named = alone or CHOICE.fullmatch(reply)
    return letter is not None and named is not None and letter.group(1) in named.groups()


def _within_limits(same: Callable[[], bool]) -> bool:
    """Whether they are the same; those that cost over MATHEMATICS_CPU_S, or that sympy cannot read, are not.

    Raises _TookTooLongError after MATHEMATICS_TIMEOUT_S.
    """
    load()
    try:
        with (
            limited(signal.SIGALRM, MATHEMATICS_TIMEOUT_S, _TookTooLongError),
            limited(signal.SIGVTALRM, MATHEMATICS_CPU_S, _CostsTooMuchError),
        ):
            return same()
    except _CostsTooMuchError:
        return False
    except Exception:  # noqa: BLE001 - an answer is any text at all, and sympy raises anything
        return False
