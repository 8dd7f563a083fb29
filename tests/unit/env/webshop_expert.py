"""Buys what the goal was made from: an expert who knows the goal, not the shelf."""

from collections.abc import Iterator

from services.env.environments.webshop.environment import WebShop


def purchase(environment: WebShop) -> Iterator[str]:
    """Actions, one after the other; each must be taken before the next is asked for."""
    visit = environment._visit
    product = visit.goal.product
    yield f"search[{visit.goal.instruction}]"
    while product not in visit.listed() and visit.listed():
        yield "click[Next >]"
    if product not in visit.listed():
        return
    yield f"click[{product.asin}]"
    for value in visit.goal.options:
        yield f"click[{value}]"
    yield "click[Buy Now]"
