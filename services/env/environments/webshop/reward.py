"""WebShop's reward of a purchase, from 0 to 1.

r = r_type * (n_attributes + n_options + [price within the limit]) / (|attributes| + |options| + 1)
"""

from collections.abc import Iterable

import msgspec

from services.env.environments.webshop.product import Goal, Product

ALIKE = 85
"""Texts count as the same above this token set ratio, which is compared as a whole number."""
COLOUR_WORDS = (
    "alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo "
    "caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream "
    "crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather "
    "indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha "
    "multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal "
    "rust sand sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise "
    "violet walnut wheat white wine yellow"
)
COLOURS = COLOUR_WORDS.split()
"""WebShop's list, in its order: the first that an option contains stands for the option."""


class Verdict(msgspec.Struct, frozen=True):
    """A purchase, judged part by part."""

    score: float
    type_score: float
    attributes: int
    """How many of the goal's attributes the product has."""
    options: int
    """How many of the goal's options were chosen."""
    price_fits: bool


def alike(one: str, other: str) -> bool:
    """Whether two texts count as the same: order, repetition, case, punctuation and extra words matter little."""
    from rapidfuzz import fuzz, utils

    return round(fuzz.token_set_ratio(one, other, processor=utils.default_process)) > ALIKE


def plain_colour(option: str) -> str:
    """The first colour of the list that the text contains, anywhere in it; otherwise the text."""
    return next((colour for colour in COLOURS if colour in option), option)


def matched_attributes(product: Product, wanted: Iterable[str]) -> int:
    """How many wanted attributes the product has, by its attributes or literally in its texts."""
    texts = [product.title.lower(), " ".join(product.bullet_points).lower(), product.description.lower()]
    return sum(
        any(alike(attribute, name) for attribute in product.attributes) or any(name in text for text in texts)
        for name in wanted
    )


def matched_options(chosen: Iterable[str], wanted: Iterable[str]) -> int:
    """How many wanted options some chosen one is like."""
    plain = [plain_colour(option) for option in chosen]
    return sum(any(alike(option, plain_colour(name)) for option in plain) for name in wanted)


def type_score(bought: Product, wanted: Product) -> float:
    """Whether it is the same kind of thing: 1, .5, .1 or 0."""
    same_query = bought.query == wanted.query
    same_category = len(_categories(bought) & _categories(wanted)) >= 2
    nouns = wanted.title_nouns
    title_score = len({*bought.title_nouns} & {*nouns}) / len(nouns) if nouns else 0.2
    if title_score == 0.0:
        return 0.0
    if title_score < 0.1:
        return 0.1
    return 1.0 if same_query or same_category or title_score > 0.2 else 0.5


def judge(bought: Product, chosen: Iterable[str], goal: Goal) -> Verdict:
    """The worth of buying `bought` with the option values `chosen`."""
    kind = type_score(bought, goal.product)
    attributes = matched_attributes(bought, goal.attributes)
    options = matched_options(chosen, goal.options)
    fits = bought.price <= goal.price_upper
    whole = len(goal.attributes) + len(goal.options) + 1
    return Verdict(kind * (attributes + options + fits) / whole, kind, attributes, options, fits)


def _categories(product: Product) -> set[str]:
    return {part.strip() for part in product.product_category.split("›")}
