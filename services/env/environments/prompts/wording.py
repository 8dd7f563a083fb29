"""The effect of words and currencies beside an expression."""

from __future__ import annotations

import re

NEUTRAL = frozenset((
    "the", "final", "answer", "result", "solution", "value", "is", "are", "equals", "equal", "to", "it", "its", "so",
    "therefore", "thus", "hence", "we", "get", "have", "find", "be", "that", "exactly",
    "usd", "eur", "gbp", "jpy", "inr",
))  # fmt: skip
"""Words that may stand beside a marked expression. Any other could change its value: `not`, `million`, `cm`."""
VERB = re.compile(r"\b(?:is|are|was|were|be|equals?|makes?|gives?|gets?|has|have|had|costs?|leaves?)\b")
NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|cannot|no|wrong|incorrect|false|except|without|nowhere|hardly|barely|doubt|far from"
    r"|anything but|exceeds?)\b|n['’]t\b"
)
"""Anywhere in the clause before the expression, or in the rest of its sentence."""
CHANGES_NEXT = re.compile(
    r"\b(?:half|twice|thrice|double|triple|quarter|third|tenth|percent|root|sqrt|squared?|cubed?|inverse|reciprocal"
    r"|opposite|than|least|most|under|over|above|below|beyond|between|times|plus|minus|by|hundred|thousand)\b"
)
"""Words that change the value when they stand between the clause's last verb and the expression: `3 plus 2 is 5` is 5,
`it is 2 plus 5` is not."""
CHANGES_LAST = re.compile(
    r"[^\w\\]*(?:(?:USD|EUR|GBP|JPY|INR)\b[^\w\\]*)?(?:hundreds?|thousands?|(?:[mb]|tr)illions?|[kKM]"
    r"|[mb]n|lakhs?|crores?|dozens?|score|gross"
    r"|squared|cubed|factorial|hal(?:f|ves)|thirds?|quarters?|fifths|tenths?|hundredths?|thousandths?"
    r"|cents?|or (?:more|less|fewer)|(?:at (?:least|most)))\b"
)
"""Right behind the expression."""
CODES = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "¢": "cents"}
NAMES = {"dollar": "USD", "usd": "USD", "euro": "EUR", "eur": "EUR", "gbp": "GBP", "yen": "JPY", "jpy": "JPY"}
NAMES |= {"rupee": "INR", "inr": "INR", "cent": "cents"}
PAIR = re.compile(r"(?<!\\)\$\$?([^$]*?)(?<!\\)\$\$?")
"""LaTeX's dollars, which are no currency."""
AMOUNT = r"[-+]?(?:\d[\d,]*)?\.?\d+"
SIGN_BEFORE = re.compile(rf"([-+]?)\s*(?:\bUS)?\\?([$€£¥₹])\s*({AMOUNT})")
SIGN_BEHIND = re.compile(r"(?<=\d)\s*\\?([$€£¥₹¢])")
NAME_BEFORE = re.compile(rf"\b(usd|eur|gbp|jpy|inr)\s*({AMOUNT})", re.IGNORECASE)
NAME_BEHIND = re.compile(r"(?<=\d)(\s*(?:[mb]illion|thousand|hundred)?\s*)(?:US )?"
                         r"\b(dollars?|usd|euros?|eur|gbp|yen|jpy|rupees?|inr|cents?)\b", re.IGNORECASE)  # fmt: skip
CURRENCY_NAME = re.compile(r"\b(?:dollars?|usd|euros?|eur|gbp|yen|jpy|rupees?|inr|cents?)\b", re.IGNORECASE)
CODE = re.compile(r"(?<=\d) +(USD|EUR|GBP|JPY|INR|cents)\b")


def with_codes(text: str) -> str:
    r"""The text with currencies behind their numbers: `\$5`, `$5`, `5 dollars` become `5 USD`; `$5$` is a formula."""
    text = PAIR.sub(r"\1 ", text)
    text = SIGN_BEFORE.sub(lambda found: f"{found[1]}{found[3]} {CODES[found[2]]} ", text)
    text = SIGN_BEHIND.sub(lambda found: f" {CODES[found[1]]} ", text)
    text = NAME_BEFORE.sub(lambda found: f"{found[2]} {found[1].upper()} ", text)
    return NAME_BEHIND.sub(lambda found: f" {NAMES[found[2].lower().rstrip('s')]} {found[1].strip()}".rstrip(), text)


def is_neutral(beside: str) -> bool:
    """Whether the words beside an expression leave it as it is."""
    words = re.findall(r"[^\W_]+|\\[A-Za-z]+|[^\s\w.,;:?!'\"]", beside)
    return all(word.lower() in NEUTRAL for word in words)


def changes(before: str, after: str) -> bool:
    """Whether the prose around its last expression changes the value: `is not 5`, `less than 5`, `5 million`."""
    clause = re.split(r"[.,;:!?\n]", before.rstrip())[-1].lower()
    sentence = re.split(r"[.;!?\n]", after, maxsplit=1)[0]
    return bool(
        before.strip() == "of"  # `log of 5`, `3 of 5`
        or NEGATION.search(clause)
        or NEGATION.search(sentence.lower())
        or CHANGES_NEXT.search(VERB.split(clause)[-1])
        or CHANGES_LAST.match(sentence)
    )
