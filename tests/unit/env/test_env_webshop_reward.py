"""Rewards of a purchase, worked by hand and against a second way to compute them."""

import random
from difflib import SequenceMatcher

import msgspec
import pytest

from services.env.environments.webshop.nouns import title_nouns
from services.env.environments.webshop.product import Goal, Product
from services.env.environments.webshop.reward import (
    COLOURS,
    alike,
    judge,
    matched_attributes,
    matched_options,
    plain_colour,
    type_score,
)
from services.env.environments.webshop.shop import made_up_shop


def product(**fields: object) -> Product:
    base = {
        "asin": "B0",
        "title": "",
        "description": "",
        "bullet_points": (),
        "attributes": (),
        "options": {},
        "price": 35.0,
        "price_tag": "$35.0",
        "query": "query 1",
        "product_category": "a › b › c",
        "title_nouns": ("shoe",),
    }
    return Product(**(base | fields))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("essential oil", "essential oils", True),  # 96
        ("powder snow", "cool powder snow", True),  # one holds the other's words
        ("X-Large", "large x", True),  # case, punctuation, order
        ("tea bag", "tea tree", False),
        ("goal 1", "goal 2", False),  # 83
        ("small", "x-small", True),  # one holds the other's words: WebShop's own leniency
        ("red", "pink", False),
        ("", "", False),
    ],
)
def test_texts_are_alike_above_85(one, other, same):
    assert alike(one, other) is same


@pytest.mark.parametrize(
    ("option", "plain"),
    [
        ("dark blue", "blue"),  # blue comes before dark in the list
        ("black forest", "black"),
        ("4 ounce", "4 ounce"),
        ("standard", "tan"),  # anywhere in the text
        ("shredded", "red"),
    ],
)
def test_an_option_stands_for_the_first_colour_that_it_contains(option, plain):
    assert plain_colour(option) == plain


def test_the_colours_are_webshops_102_and_in_order():
    assert (len(COLOURS), COLOURS) == (102, sorted(COLOURS))


@pytest.mark.parametrize(
    ("bought", "expected"),
    [
        ({"attributes": ("tea tree", "essential oil", "natural ingredients")}, 3),
        ({"attributes": ("essential oil", "natural ingredients")}, 2),
        ({"bullet_points": ("It has essential oils",), "description": "made with Natural Ingredients"}, 2),
        ({"title": "Tea Tree Soap"}, 1),
        ({"attributes": ("tea bag", "earl gray"), "title": "English tea"}, 0),
    ],
)
def test_attributes_count_where_they_are_named_or_written(bought, expected):
    assert matched_attributes(product(**bought), ("tea tree", "essential oils", "natural ingredients")) == expected


@pytest.mark.parametrize(
    ("chosen", "wanted", "expected"),
    [
        (("pack of 12", "grey", "XL"), ("grey", "XL", "pack of 12"), 3),
        (("pack of 12", "blue", "XL"), ("grey", "XL", "pack of 12"), 2),
        (("pack of 12", "powder snow", "XL"), ("cool powder snow", "XL", "pack of 12"), 3),
        (("light red",), ("light blue",), 0),  # red is no blue
        ((), ("goal 1", "goal 2"), 0),
        (("goal 1",), (), 0),
    ],
)
def test_options_count_where_one_like_them_was_chosen(chosen, wanted, expected):
    assert matched_options(chosen, wanted) == expected


@pytest.mark.parametrize(
    ("query", "category", "nouns", "of", "expected"),
    [
        ("query 1", "x › y", ("shoe",), 10, 1.0),  # same query; one noun of ten is not below .1
        ("query 2", "a › z › b", ("shoe",), 2, 1.0),  # two categories shared, in any place
        ("query 2", "a › a › d", ("shoe", "n1"), 11, 0.5),  # one category; 2 nouns of 11 = .18
        ("query 2", "x", ("shoe", "n1", "n2"), 11, 1.0),  # 3 of 11 = .27 is above .2
        ("query 2", "x", ("shoe",), 11, 0.1),  # 1 of 11 = .09 is below .1
        ("query 1", "a › b › c", ("shoe",), 11, 0.1),  # even then, with all else the same
        ("query 1", "a › b › c", ("hat",), 2, 0.0),
    ],
)
def test_the_kind_is_judged_by_query_category_and_title(query, category, nouns, of, expected):
    wanted = product(title_nouns=("shoe", *(f"n{number}" for number in range(1, of))))
    assert type_score(product(query=query, product_category=category, title_nouns=nouns), wanted) == expected


def test_a_title_without_nouns_counts_as_a_fifth():
    wanted = product(title_nouns=())
    assert type_score(product(), wanted) == 1.0
    assert type_score(product(query="q", product_category="x"), wanted) == 0.5


def test_a_noun_that_the_goals_title_repeats_weighs_more_in_the_whole():
    wanted = product(title_nouns=("bar", "bar", "bar", "cord"))
    assert type_score(product(query="q", product_category="x", title_nouns=("bar",)), wanted) == 1.0  # 1/4 > .2
    wanted = product(title_nouns=("bar",) * 5)
    assert type_score(product(query="q", product_category="x", title_nouns=("bar",)), wanted) == 0.5  # 1/5


def test_whole_purchases_worked_by_hand():
    bought = product(attributes=("tea tree", "essential oil", "natural ingredients"))
    goal = Goal(bought, "", ("tea tree", "essential oils", "natural ingredients"), ("grey", "XL"), 40.0)
    assert judge(bought, ("grey", "XL"), goal).score == 1.0
    assert judge(bought, ("grey", "L"), goal).score == 5 / 6
    assert judge(msgspec.structs.replace(bought, price=40.01), ("grey", "XL"), goal).score == 5 / 6
    assert judge(msgspec.structs.replace(bought, price=40.0), ("grey", "XL"), goal).score == 1.0
    bare = product(bullet_points=("has essential oils",), description="natural ingredients")
    three = Goal(bought, "", goal.attributes, ("grey", "XL", "pack of 12"), 40.0)
    assert judge(bare, ("grey", "XL"), three).score == 5 / 7
    other = msgspec.structs.replace(bare, query="q", product_category="a", title_nouns=("cord", "bar"))
    cords = msgspec.structs.replace(bought, title_nouns=("cord", *(f"n{number}" for number in range(5))))
    unlike = msgspec.structs.replace(three, product=cords)
    assert judge(other, ("grey", "XL"), unlike).score == pytest.approx(0.5 * 5 / 7)


def reference(bought: Product, chosen: list[str], goal: Goal) -> float:
    """The published formula once more, with difflib for the ratios."""

    def words(text: str) -> set[str]:
        return {*"".join(c if c.isalnum() else " " for c in text.lower()).split()}

    def like(a: str, b: str) -> bool:
        both = words(a) & words(b)
        if both and (both == words(a) or both == words(b)):
            return True
        one, other = (" ".join([*sorted(both), *sorted(words(text) - both)]) for text in (a, b))
        return round(100 * SequenceMatcher(None, one, other, autojunk=False).ratio()) > 85

    def colour(text: str) -> str:
        for name in COLOURS:
            if name in text:
                return name
        return text

    text = f"{bought.title}\n{' '.join(bought.bullet_points)}\n{bought.description}".lower()
    points = sum(1 for a in goal.attributes if a in text or [b for b in bought.attributes if like(a, b)])
    points += sum(1 for o in goal.options if [c for c in chosen if like(colour(c), colour(o))])
    points += 1 if bought.price <= goal.price_upper else 0
    target = goal.product
    shared = len(set(target.title_nouns).intersection(bought.title_nouns)) / len(target.title_nouns)
    paths = [{*p.product_category.split(" › ")} for p in (bought, target)]
    if shared == 0:
        factor = 0.0
    elif shared < 0.1:
        factor = 0.1
    else:
        factor = 1.0 if bought.query == target.query or len(paths[0] & paths[1]) > 1 or shared > 0.2 else 0.5
    return factor * points / (len(goal.attributes) + len(goal.options) + 1)


def test_two_thousand_random_purchases_come_out_as_by_the_formula():
    shop, rng = made_up_shop(1000, 0, goal_seed=233), random.Random(1)
    scores = []
    for _ in range(2000):
        goal = shop.goal(rng.randrange(len(shop)))
        near = [p for p in shop.products if p.query == goal.product.query]
        bought = rng.choice([goal.product, rng.choice(near), rng.choice(shop.products)])
        chosen = [rng.choice(values) for values in bought.options.values() if rng.random() < 0.8]
        scores.append(judge(bought, chosen, goal).score)
        assert scores[-1] == pytest.approx(reference(bought, chosen, goal)), (bought, chosen, goal)
    assert len({round(score, 6) for score in scores}) > 10
    assert min(scores) == 0.0
    assert max(scores) == 1.0


@pytest.mark.parametrize(
    ("wanted", "bought", "spacy"),
    [
        (
            "adidas Unisex-Adult D.o.n. Issue 2 Basketball Shoe",
            "adidas Unisex-Adult D.o.n. Issue 2 Indoor Court Shoe",
            0.85,
        ),
        (
            "Saireed UL Listed 2 Prong Power Cord for JBL Bar 3.1 Bar 2.1 Channel 4K Ultra HD Soundbar Home Theater "
            "System Subwoofer",
            "BRST AC Power Cord Outlet Socket Cable Plug Lead for Panasonic SC-HT830V DVD/VCR Combo Home Theater "
            "System",
            0.31,
        ),
        (
            "Saireed UL Listed 2 Prong Power Cord for JBL Bar 3.1 Bar 2.1 Channel 4K Ultra HD Soundbar",
            "BRST AC Power Cord Outlet Socket Cable Plug Lead for Panasonic SC-HT830V DVD/VCR Combo Home Theater "
            "System",
            0.17,
        ),
        (
            "Rusticware 921ORB Kitchen and Bath Cabinet Knob",
            "Minkissy 2pcs Stainless Steel Eyebrow Tweezers Blackhead Acne Remover Portable Makeup Tweezers (Silver)",
            0.0,
        ),
    ],
)
def test_nouns_without_a_tagger_overlap_as_spacys_do(wanted, bought, spacy):
    """The overlaps are those that WebShop's own tests state for spaCy's nouns."""
    nouns = title_nouns(wanted)
    assert len({*nouns} & {*title_nouns(bought)}) / len(nouns) == pytest.approx(spacy, abs=0.03)
