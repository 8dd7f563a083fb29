"""A shop: products, the index over them, and the goals in their order. Read only, so that sessions share it."""

import random
from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

from gigpo.env.environment import KwargsError
from gigpo.env.progress import report_each
from services.env.environments.ranking import Ranking
from services.env.environments.webshop.catalogue import made_up_products
from services.env.environments.webshop.files import GoalOrder, Goals, read_products
from services.env.environments.webshop.product import Goal, Product, made_goal

HITS = 50
"""The most products that a search finds."""
TEST_GOALS = 500
"""The first goals are for testing, the others for training."""
SHOPS_KEPT = 2
"""Shops that a worker holds ready; one of 20,000 products takes about 100 MB."""


class Shop:
    """Products in the order of the catalogue; goals shuffled by `goal_seed`."""

    def __init__(self, products: Sequence[Product], goal_seed: int) -> None:
        self.products = products
        self.by_asin = {product.asin.lower(): product for product in products}
        self._ranking = Ranking(product.document() for product in products)
        places = [
            (number, wish, combination)
            for number, product in enumerate(report_each(products))
            for wish in range(len(product.wishes))
            for combination in range(product.combinations() if product.wishes[wish].options is None else 1)
        ]
        random.Random(goal_seed).shuffle(places)
        self._places = array("i", chain.from_iterable(places))
        if len(places) <= TEST_GOALS:
            raise KwargsError(
                f"products: want more than {TEST_GOALS} goals, {len(products)} products give {len(places)}"
            )

    def __len__(self) -> int:
        """How many goals there are."""
        return len(self._places) // 3

    def goal(self, number: int) -> Goal:
        """A goal by its place in the shuffled order."""
        product, wish, combination = self._places[3 * number : 3 * number + 3]
        return made_goal(self.products[product], wish, combination)

    def goal_number(self, seed: int, split: str) -> int:
        """The goal that a seed names: one of the first TEST_GOALS in the test split, one of the others in train."""
        if split == "test":
            return seed % TEST_GOALS
        return TEST_GOALS + seed % (len(self) - TEST_GOALS)

    def search(self, keywords: str) -> tuple[int, ...]:
        """Numbers of the products found, best first."""
        return tuple(self._ranking.best(keywords, HITS))


@lru_cache(maxsize=SHOPS_KEPT)
def made_up_shop(products: int, catalogue_seed: int, *, goal_seed: int) -> Shop:
    """A shop of made-up products, built once in a process."""
    return Shop(made_up_products(products, catalogue_seed), goal_seed)


@lru_cache(maxsize=SHOPS_KEPT)
def shop_from_files(folder: Path, products: int, *, goals: Goals, goal_order: GoalOrder, goal_seed: int) -> Shop:
    """A shop of the user's own products, read once in a process. KwargsError: a file is missing or spoilt."""
    return Shop(read_products(folder, products, goals, goal_order), goal_seed)
