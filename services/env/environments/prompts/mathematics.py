"""Compares two answers, as mathematics (math-verify, sympy) or word by word."""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from services.env.environments.prompts.wording import CODE, CURRENCY_NAME, changes, is_neutral, with_codes

if TYPE_CHECKING:
    from sympy import Basic

TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
NUMBER = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?|[+-]?\.\d+")
LONGEST_NUMBER = 1_000
"""Characters of a number that is compared as one; longer ones are text. Python refuses those of 4,301 digits."""
MOST_DIGITS, LARGEST_FACTORIAL, LARGEST_EXPANSION = 20_000, 5_000, 30
"""Most digits of a power's value, largest argument of a factorial and largest power of a sum that are still computed;
9^(9^9) would take all time and memory."""
MOST_PARTS = 50
"""Elements of a list that are compared in any order; each with each costs its square."""
FUNCTIONS = frozenset(("sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "sqrt", "pi", "max", "min"))
"""Words of mathematics that plain text writes without a backslash."""
SIGNS = str.maketrans({
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "π": r"\pi ", "∞": r"\infty ", "²": "^2", "³": "^3",
    "≤": r"\le ", "≥": r"\ge ", "∪": r"\cup ", "°": " ", "±": r"\pm ", "≠": r"\ne ", "½": r"\frac{1}{2}",
})  # fmt: skip
DROPPED = re.compile(
    r"\\left(?![a-z])|\\right(?![a-z])|\\displaystyle|(?<!\\)\\[!,;:]|\{,\}|\^\s*\{?\\circ\}?|(?<!\\)\\[()\[\]]|\$"
)
DROPPED_SPACE = re.compile(r"(?<!\\)\\ |~|\\q?quad")
SCIENTIFIC = re.compile(r"(?<![\w.])([+-]?\d+(?:\.\d+)?)[eE]([+-]?\d+)(?!\w|\.\d)")
UNIT = re.compile(r"(?<=\d)(cm|mm|km|kg|mg|ml|mph|ft|lbs?|hrs?|min|sec|USD|EUR|GBP)(?![A-Za-z])")
"""Those that are written at once behind a number and could be variables."""
WORD = re.compile(r"\\[A-Za-z]+|[^\W\d_]{2,}(?:['’][^\W\d_]+)?")
QUANTITY = re.compile(r"[+-]?[\d.,]+\s+([A-Za-z])")
"""`3 m`: its letter is a unit; that of `3m` may be a variable."""
JOINED = re.compile(r"(?<=[\d}])\s*,?\s+(?:and|or)\s+(?=[-+\d\\]|[A-Za-z]\s*=)")
NO_EXPRESSION = re.compile(r"\d\s+[-+]?\d|\d:\d|^\d+-\d+$|(?:\d+[/.-]){2,}\d+|\d{1,4}/\d{1,2}/\d{1,4}")
"""Grids, times, ranges, dates, versions: their numbers are no sum or product."""
IDENTIFIER = re.compile(r"[+-]?0\d{3,}")
LITERAL = re.compile(r"\d\s*_|(?<!\w)0[xXbBoO][\dA-Fa-f]+|(?<![\d.,])0\d{3,}|(?<![\\A-Za-z])[A-Za-z]\d+\.\d|^[A-Z]\d+$")
"""`11010_2`, `0x1E`, `02134`, `v1.10`, `A1`: no decimal number, and no product. Three digits may begin with 0, as the
AIME writes 033."""
NAMED = re.compile(
    r"\s*(?:(?:\\angle\s*)?\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([^()=]*\))?|\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])*\s*\))\s*=\s*"
)
"""`x =`, `AB =`, `f(2) =`, `(x, y) =`."""
PLUS_MINUS = re.compile(r"\\pm\s*([^-+,;=<>]+)")
MIXED = re.compile(r"([+-]?\d+)\s+(\d+)/(\d+)")
BETWEEN = re.compile(r"(.+?)\s*(<|\\leq?(?![a-z]))\s*[A-Za-z]\s*(<|\\leq?(?![a-z]))\s*(.+)")
"""`0 < x \\le 1`."""
RELATION = re.compile(r"=|<|>|\\(?:ne|neq|le|leq|ge|geq|lt|gt|not)(?![a-z])")
TOKEN = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?|\\?[^\W\d_]+|[^\s\w]")
RECURRING = re.compile(r"(\d{1,9})\.(\d{0,9})\\(?:overline|bar|dot)\s*\{?(\d{1,9})\}?")
BRACKETS = {"(": ")", "[": "]", "{": "}"}


def clean(text: str) -> str:
    """One way to write what LaTeX, plain text and Unicode write in several."""
    text = with_codes(TEXT_COMMAND.sub(r" \1 ", text.translate(SIGNS)))
    text = re.sub(r"\b(?:negative|minus)\s+(?=[\d.\\])", "-", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=\d)\s*per ?cent\b", r"\\%", text)
    text = re.sub(r"√\s*(\w+|\([^()]*\))", r"\\sqrt{\1}", text)
    text = DROPPED_SPACE.sub(" ", DROPPED.sub("", text.replace(r"\$", "")))
    text = re.sub(r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<![\\A-Za-z])(?:infinity|inf|infty)(?![A-Za-z])", r"\\infty ", text)
    text = re.sub(r"(?<![\\A-Za-z])(pi|sin|cos|tan|log|ln|exp)(?![A-Za-z])", r"\\\1 ", text)
    text = UNIT.sub(r" \1", re.sub(r"_\{(\w)\}", r"_\1", text))
    text = re.sub(r"(?<![\d)}\w])\s*(?:!=|=/=)", r"\\ne ", text)
    text = re.sub(r"(?<=[\d}])\s*degrees?\b", "", text)
    text = SCIENTIFIC.sub(r"\1\\times 10^{\2}", text)
    text = re.sub(r"^\s*[A-Za-z]\s*(?:\\in\b|∈)", "", text)
    if mixed := MIXED.fullmatch(text.strip()):
        text = r"{}\frac{{{}}}{{{}}}".format(*mixed.groups())
    text = re.sub(r"^\s*(?:\\?\{\s*\\?\}|\\varnothing|∅)\s*$", r"\\emptyset", text)
    return re.sub(r"[\s.,;:?]+$", "", RECURRING.sub(_recurring, text)).strip()


def _recurring(decimal: re.Match[str]) -> str:
    """`0.1\\overline{6}` as a fraction."""
    whole, before, period = decimal.groups()
    shifted = Fraction(int(whole + before + period) - int(whole + before), 10 ** len(before))
    value = shifted / (10 ** len(period) - 1)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def is_expression(text: str) -> bool:
    """Whether a cleaned text is mathematics alone: it has a digit or a command, and no word."""
    if not re.search(r"\d|\\[A-Za-z]", text) or _words(text) or LITERAL.search(text):
        return False
    return "\\" in text or not NO_EXPRESSION.search(text)


class Chunk(NamedTuple):
    """An expression of a text, and what stands before and behind it up to the next ones."""

    expression: str
    before: str
    after: str


def chunks(text: str) -> list[Chunk]:
    """The expressions of a cleaned text, between its words; numbers joined by `and` or `or` are one list."""
    text = JOINED.sub(", ", text)
    ends = [0, *(end for word in _words(text) for end in word), len(text)]
    signs = " \n\t,;:?'\"" + "!" * (len(ends) > 2)  # 3! is a factorial, `it is 3!` is none
    found = []
    for begin, end in zip(ends[::2], ends[1::2], strict=True):
        part = text[begin:end].lstrip(signs)
        begin, part = end - len(part), part.rstrip(signs + ".")
        if re.search(r"\d|\\[A-Za-z]", part) or re.fullmatch(r"[A-Za-z]", part):
            found.append((begin, begin + len(part)))
    bounds = [0, *(place for span in found for place in span), len(text)]
    gaps = [text[begin:end] for begin, end in zip(bounds[::2], bounds[1::2], strict=True)]
    return [Chunk(text[begin:end], *gaps[i : i + 2]) for i, (begin, end) in enumerate(found)]


def same_answer(wanted: str, given: str, *, marked: bool) -> bool:
    """Whether an answer says the same as a solution: as mathematics where that is an expression, else word by word.

    Args:
        marked: the answer was pointed out, so only neutral words may stand beside its one expression; else the last
            expression of the prose counts, unless the words around it change its value.
    """
    solution, answer = clean(wanted), clean(given)
    code = CODE.search(solution)
    sign = code[1] if code and not CURRENCY_NAME.search(wanted) else ""
    if sign:
        solution = CODE.sub("", solution).strip()
    if is_expression(solution):
        return _same_expression(solution, answer, sign, marked=marked)
    if sign and not set(CODE.findall(answer)) <= {sign}:
        return False
    return same_text(solution, CODE.sub("", answer).strip() if sign else answer)


def _same_expression(wanted: str, given: str, currency: str, *, marked: bool) -> bool:
    """Whether a cleaned answer's expression equals the solution's, in its currency where both have one."""
    name = NAMED.match(wanted)
    if name and PLUS_MINUS.fullmatch(wanted[name.end() :]):
        wanted = wanted[name.end() :]
    named = None if "=" in wanted else NAMED.match(given)
    found = chunks(given[named.end() :] if named else given)
    if not found or (marked and len(found) > 1):
        return False
    expression, before, after = found[-1]
    if currency and (code := CODE.match(expression[-1] + after, 1)):
        if code[1] != currency:
            return False
        after = after[code.end() - 1 :]
    if not is_neutral(f"{before} {after}") if marked else changes(before, after):
        return False
    return same_mathematics(wanted, expression)


def same_text(wanted: str, given: str) -> bool:
    """Whether two cleaned texts are the same word by word, and a quantity at their beginning by its value.

    `\\frac{1}{2} km` is `0.5 km` and `3 km` is `3.0 km`; `Python 3.10` and `zip 02134` name something.
    """
    a, b = TOKEN.findall(wanted), TOKEN.findall(given)
    if len(a) == len(b) > 0 and all(
        one.casefold() == other.casefold() or _same_digits(one, other) for one, other in zip(a, b, strict=True)
    ):
        return True
    ours, theirs = chunks(wanted), chunks(given)
    if not len(ours) == len(theirs) == 1 or ours[0].before or theirs[0].before or not is_expression(ours[0].expression):
        return False
    words = [chunk.after.casefold().split() for chunk in (ours[0], theirs[0])]
    return words[0] == words[1] and same_mathematics(ours[0].expression, theirs[0].expression)


def same_mathematics(wanted: str, given: str) -> bool:
    """Whether two cleaned expressions are equal: numbers, lists part by part, else as math-verify finds."""
    wanted, given = (PLUS_MINUS.sub(r"\1, -\1", one) if PLUS_MINUS.fullmatch(one) else one for one in (wanted, given))
    if not RELATION.search(wanted):
        given = _interval(_right_side(given))
    elif not RELATION.search(given):
        wanted = _interval(wanted)
    if wanted == given or _same_number(wanted, given):
        return True
    if NUMBER.fullmatch(wanted) and NUMBER.fullmatch(given):
        return False
    if given.count("{") != given.count("}"):
        return False
    a, b = _parts(wanted), _parts(given)
    if a is None and b is None:
        readable = is_expression(given) or re.fullmatch("[A-Za-z]", given) is not None
        related = RELATION.search(given) and not RELATION.search(wanted)
        return readable and not related and _verified(wanted, given)
    if a is None or b is None or len(a[1]) != len(b[1]):
        return False
    (opened, ours), (theirs_opened, theirs) = a, b
    kinds = {opened, theirs_opened}
    if len(kinds) > 1 and "" not in kinds:
        return False
    if kinds <= {"", "{}"} and len(ours) <= MOST_PARTS:
        return _same_in_any_order(ours, theirs)
    return all(same_mathematics(one, other) for one, other in zip(ours, theirs, strict=True))


def _right_side(text: str) -> str:
    """The right side of `x = 5`, `f(2) = 5` and `2 + 3 = 5`; `2x = 5` says nothing of its right side and stays."""
    *left, right = text.split("=")
    names = [
        NAMED.fullmatch(part + "=") or not re.search("[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", part)) for part in left
    ]
    return right.strip() if left and all(names) else text


def _interval(text: str) -> str:
    """`0 < x \\le 1` as `(0, 1]`; any other text as it is."""
    found = BETWEEN.fullmatch(text)
    if found is None or RELATION.search(found[1]) or RELATION.search(found[4]):
        return text
    return f"{'(' if found[2] == '<' else '['}{found[1]}, {found[4]}{')' if found[3] == '<' else ']'}"


def _same_in_any_order(ours: list[str], theirs: list[str]) -> bool:
    left = list(theirs)
    for one in ours:
        match = next((other for other in left if same_mathematics(one, other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _words(text: str) -> list[tuple[int, int]]:
    """The bounds of words: two letters or more that are no command, no function and no product of variables."""
    if quantity := QUANTITY.fullmatch(text):
        return [quantity.span(1)]
    found = []
    for match in WORD.finditer(text):
        beside = text[match.start() - 1 : match.start()] + text[match.end() : match.end() + 1]
        product = len(match.group()) <= 3 and re.search(r"[\d^_+*=\\{}]", beside)
        if not match.group().startswith("\\") and match.group().lower() not in FUNCTIONS and not product:
            found.append(match.span())
    begins = re.finditer(r"\\(?:begin|end)\s*\{\w+\*?\}", text)
    inside = [span.span() for span in begins]  # the name of a matrix is no word
    return [(begin, end) for begin, end in found if not any(a <= begin < b for a, b in inside)]


def _same_digits(one: str, other: str) -> bool:
    """Whether two numbers differ in their thousands' commas alone."""
    return all(NUMBER.fullmatch(number) for number in (one, other)) and one.replace(",", "") == other.replace(",", "")


def _same_number(one: str, other: str) -> bool:
    if not (NUMBER.fullmatch(one) and NUMBER.fullmatch(other)) or max(len(one), len(other)) > LONGEST_NUMBER:
        return False
    if IDENTIFIER.fullmatch(one) or IDENTIFIER.fullmatch(other):
        return False
    return Fraction(one.replace(",", "")) == Fraction(other.replace(",", ""))


def _parts(text: str) -> tuple[str, list[str]] | None:
    """Brackets and elements of a list, tuple, interval or set; "" for no brackets. None: it is a single thing."""
    if NUMBER.fullmatch(text):
        return None
    text = text.replace(r"\{", "{").replace(r"\}", "}").strip()
    if text.startswith("\\"):
        return None if not (found := _split(text))[1:] else ("", found)
    inner = text[1:-1]
    if text[:1] in BRACKETS and text[-1:] in BRACKETS.values() and len(_split(text)) == 1 and _balanced(inner):
        parts = _split(inner)
        if len(parts) > 1 or text[0] == "{":
            return text[0] + text[-1], parts
        return None
    parts = _split(text)
    return ("", parts) if len(parts) > 1 else None


def _balanced(text: str) -> bool:
    """Whether no bracket closes that was not opened."""
    depth = 0
    for sign in text:
        depth += (sign in BRACKETS) - (sign in BRACKETS.values())
        if depth < 0:
            return False
    return depth == 0


def _split(text: str) -> list[str]:
    """Split the text at commas and semicolons outside of brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in BRACKETS) - (sign in BRACKETS.values())
        if sign in ",;" and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def load() -> None:
    """Import what mathematics takes: 0.3 s and 50 MB, for those who need it."""
    import math_verify  # noqa: F401

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it would log whole answers that it gives up


def _verified(wanted: str, given: str) -> bool:
    from math_verify import verify

    gold, found = _parsed(wanted), _parsed(given)
    if not gold or not found:
        return False
    gold[0], found[0] = _constant(gold[0]), _constant(found[0])
    if gold[0] == found[0]:
        return True
    if _too_large(gold[0]) or _too_large(found[0]):
        return False
    if not verify(gold[0], found[0], timeout_seconds=None):
        return False
    return "%" in wanted + given or _close(gold[0], found[0])


def _parsed(text: str) -> list[Basic | str]:
    """The part that math-verify reads; its own limits would turn a slow text into a wrong answer."""
    from math_verify import LatexExtractionConfig, parse
    from math_verify.parser import NormalizationConfig

    reading = NormalizationConfig(units=False, malformed_operators=True, nits=True)  # 3m is not 3
    found: list[Basic | str] = parse(
        rf"\boxed{{{text}}}",
        [LatexExtractionConfig(normalization_config=reading)],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    return found


def _constant(expression: Basic | str) -> Basic | str:
    """An expression whose only variable is i, with the imaginary unit for it."""
    from sympy import Expr, I, Symbol

    if not isinstance(expression, Expr) or {one.name for one in expression.free_symbols} != {"i"}:
        return expression
    return expression.subs({one: I for one in expression.free_symbols if isinstance(one, Symbol)})


def _too_large(expression: Basic | str) -> bool:
    """Whether to compute it could take all time and memory: a tower of powers, a huge factorial, a sum to a billion."""
    from sympy import Abs, Add, E, Integral, Pow, Product, Sum, binomial, exp, factorial, log, postorder_traversal

    for part in postorder_traversal(expression):  # the inner ones first, so that the outer ones can be looked at
        if isinstance(part, Integral | Sum | Product):
            return True
        expands = isinstance(part, Pow) and part.base.has(Add) and part.base.free_symbols and part.exp.is_number
        if expands and not Abs(part.exp.evalf(5)) <= LARGEST_EXPANSION:
            return True
        if not getattr(part, "is_number", False):  # a matrix has no such thing
            continue
        if isinstance(part, factorial | binomial) and not part.args[0].evalf(5) <= LARGEST_FACTORIAL:
            return True
        if isinstance(part, Pow | exp):
            base, power = (E, part.args[0]) if isinstance(part, exp) else part.args
            digits = Abs(power.evalf(5)) * log(Abs(base.evalf(5)) + 2, 10)
            if not digits.evalf(5) <= MOST_DIGITS:
                return True
    return False


def _close(gold: Basic | str, found: Basic | str) -> bool:
    """Whether two constants are equal but for rounding: math-verify takes all below 1e-15 for zero."""
    from sympy import Expr, Float

    if not (isinstance(gold, Expr) and isinstance(found, Expr) and gold.is_number and found.is_number):
        return True
    gold, found = gold.doit(), found.doit()
    if gold == found:
        return True
    allowed = 1e-4 if gold.has(Float) or found.has(Float) else 1e-20  # 0.333333 is a third
    larger = max(abs(gold.evalf(40)), abs(found.evalf(40)))
    return bool(abs((gold - found).evalf(40)) <= allowed * larger)
