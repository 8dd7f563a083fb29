"""Products, and the goals of customers."""

import random
from collections.abc import Iterable, Mapping

import msgspec

NO_LIMIT = 1_000_000.0
"""The price limit of a goal that names none."""
PRICE_STEPS = tuple(10.0 * tens for tens in range(1, 100))


class Wish(msgspec.Struct, frozen=True):
    """The demands of instructions on one product."""

    text: str
    attributes: tuple[str, ...]
    options: tuple[str, ...] | None = None
    """Values to choose; None: each combination of the product's options makes a goal of its own."""


class Product(msgspec.Struct, frozen=True):
    """One product. Texts as they are shown; attributes are not shown, a purchase is judged by them."""

    asin: str
    title: str
    description: str
    bullet_points: tuple[str, ...]
    attributes: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    """Name -> values, lower case."""
    price: float
    price_tag: str
    query: str
    """The search under which the product was found: what kind of thing it is."""
    product_category: str
    """Path of categories, joined by " › "."""
    title_nouns: tuple[str, ...]
    """Nouns of the title, lower case, repeated where the title repeats them."""
    wishes: tuple[Wish, ...] = ()

    def document(self) -> str:
        """The search engine's text of it."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options.items())
        first = self.bullet_points[0] if self.bullet_points else ""
        return " ".join([self.title, self.description, first, options]).lower()

    def combinations(self) -> int:
        """Number of ways in which its options can be chosen."""
        count = 1
        for values in self.options.values():
            count *= len(values)
        return count

    def combination(self, number: int) -> dict[str, str]:
        """One of these ways, in order of the options' names; the last option varies fastest."""
        chosen = {}
        for name in sorted(self.options, reverse=True):
            number, place = divmod(number, len(self.options[name]))
            chosen[name] = self.options[name][place]
        return dict(reversed(chosen.items()))


class Goal(msgspec.Struct, frozen=True):
    """The wish of one customer. A purchase is compared with the product that the goal was made from."""

    product: Product
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    price_upper: float


def drawn_price(low: float, high: float, asin: str) -> float:
    """The price of a product whose tag is a range: drawn once, for all sessions."""
    return random.Random(f"webshop/price/{asin}").uniform(low, high)


def price_limit(price: float, rng: random.Random) -> float:
    """The larger of two of the next four tens above the price; NO_LIMIT where there are not two."""
    above = [step for step in PRICE_STEPS if step > price][:4]
    return max(rng.sample(above, 2)) if len(above) >= 2 else NO_LIMIT


def made_goal(product: Product, wish_number: int, combination: int) -> Goal:
    """The goal that a wish for a product, and one combination of its options, stand for."""
    wish = product.wishes[wish_number]
    limit = price_limit(product.price, random.Random(f"webshop/limit/{product.asin}/{wish_number}"))
    limit_text = f", and price lower than {limit:.2f} dollars" if limit != NO_LIMIT else ""
    if wish.options is not None:
        return Goal(product, wish.text.strip(".") + limit_text, wish.attributes, wish.options, limit)
    chosen = product.combination(combination)
    option_text = f" with {_joined(chosen.items())}" if chosen else ""
    return Goal(product, wish.text + option_text + limit_text, wish.attributes, tuple(chosen.values()), limit)


def _joined(options: Iterable[tuple[str, str]]) -> str:
    return ", and ".join(f"{name}: {value}" for name, value in options)
