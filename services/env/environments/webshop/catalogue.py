"""Invents a catalogue with any number of products, the same ones for the same seed."""

import random

from gigpo.env.progress import report_each
from services.env.environments.webshop.product import Product, Wish, drawn_price
from services.env.environments.webshop.words import (
    BRAND_ENDS,
    BRAND_STARTS,
    DEPARTMENTS,
    OCCASIONS,
    THINGS,
    WISHES,
    Department,
)

OPTION_CHANCE = 0.75
"""Share of each option that a department knows."""
PRICE_RANGE_CHANCE = 0.1


def made_up_products(count: int, seed: int) -> list[Product]:
    """`count` products; a longer catalogue of the same seed begins with the shorter one."""
    rng = random.Random(f"webshop/catalogue/{seed}")
    asins: dict[str, None] = {}
    while len(asins) < count:
        asins[f"B{rng.getrandbits(36):09X}"] = None
    return [_product(asin, random.Random(f"webshop/product/{seed}/{asin}")) for asin in report_each(asins)]


def _product(asin: str, rng: random.Random) -> Product:
    department = DEPARTMENTS[rng.choice(sorted(DEPARTMENTS))]
    group = rng.choice(sorted(department.groups))
    kind = rng.choice(department.groups[group])
    brand = rng.choice(BRAND_STARTS) + rng.choice(BRAND_ENDS)
    attributes = rng.sample(department.attributes, rng.randint(2, 5))
    shown, thing = attributes[: rng.randint(0, 2)], rng.choice(THINGS)
    occasions = rng.sample(OCCASIONS, 2)
    price, price_tag = _price(asin, rng)
    wanted = rng.sample(attributes, rng.randint(1, 2))
    return Product(
        asin=asin,
        title=" ".join([brand, kind, thing, *shown]).title(),
        description=f"This {kind} by {brand.title()} is {', '.join(attributes)}. Good for {' and '.join(occasions)}.",
        bullet_points=tuple(f"{attribute.capitalize()} for {rng.choice(OCCASIONS)}" for attribute in attributes[:3]),
        attributes=tuple(attributes),
        options=_options(department, rng),
        price=price,
        price_tag=price_tag,
        query=kind,
        product_category=f"{department.path} › {group} › {kind.title()}",
        title_nouns=(brand, *kind.split(), thing),
        wishes=(Wish(rng.choice(WISHES).format(" ".join(wanted), kind), tuple(wanted)),),
    )


def _options(department: Department, rng: random.Random) -> dict[str, tuple[str, ...]]:
    offered = {}
    for name, values in department.options.items():
        if rng.random() < OPTION_CHANCE:
            offered[name] = tuple(rng.sample(values, rng.randint(2, min(5, len(values)))))
    return offered


def _price(asin: str, rng: random.Random) -> tuple[float, str]:
    price = rng.randint(500, 12_000) / 100
    if rng.random() >= PRICE_RANGE_CHANCE:
        return price, f"${price}"
    high = round(price * rng.uniform(1.1, 1.5), 2)
    return drawn_price(price, high, asin), f"${price} to ${high}"
