"""A seed names one task of the user's own data, whatever the order of its lines, records and files."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from household_games import publish
from webshop_files import ABOUT, ASKED, item, written

from gigpo.env.environment import Environment, Observation
from services.env.environments.alfworld.environment import Alfworld
from services.env.environments.alfworld.game import TASK_TYPES
from services.env.environments.alfworld.generator import Layout, draw_game
from services.env.environments.prompts.environment import Prompts
from services.env.environments.search_qa.environment import SearchQa
from services.env.environments.splits import in_order_of_content
from services.env.environments.webshop.environment import WebShop
from services.env.workers.registry import valid_kwargs

SEEDS = range(40)
ORDERS = (0, 1)
"""Two ways in which the same records are shuffled."""


def shuffled(records: list[Any], order: int) -> list[Any]:
    return random.Random(order).sample(records, len(records))


def lines(file: Path, records: list[Any], order: int) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{json.dumps(record)}\n" for record in shuffled(records, order)))


def session(found: type[Environment], root: Path, **kwargs: object) -> Environment:
    return found(valid_kwargs(found, json.dumps(kwargs), str(root)))


def panel(found: type[Environment], root: Path, split: str, **kwargs: object) -> list[Observation]:
    return [session(found, root, **kwargs).reset(seed, split) for seed in SEEDS]


ROWS = [{"prompt": f"question {n % 50}", "solution": n, "tag": [n]} for n in range(60)]  # ten prompts stand twice


@pytest.mark.parametrize("split", ["train", "test"])
def test_prompts_of_a_file_and_of_a_job(split, tmp_path):
    seen, solutions = [], []
    for order in ORDERS:
        lines(tmp_path / f"set {order}" / "train.jsonl", ROWS, order)
        given = {"data": f"set {order}"}, {"rows": shuffled(ROWS, order)}
        for kwargs in given:
            prompts = [session(Prompts, tmp_path, **kwargs) for _ in SEEDS]
            seen.append([one.reset(seed, split).task for seed, one in zip(SEEDS, prompts, strict=True)])
            solutions.append([one.state() for one in prompts])  # of two rows with one prompt it must be the same one
    assert seen[0] == seen[1] == seen[2] == seen[3]
    assert solutions[0] == solutions[1] == solutions[2] == solutions[3]
    assert len(set(seen[0])) > 4


@pytest.mark.parametrize("split", ["train", "test"])
def test_questions_and_what_a_search_finds_among_equals(split, tmp_path):
    corpus = [{"title": f"Town {n}", "text": "a town by the sea"} for n in range(50)]
    found = []
    for order in ORDERS:
        folder = tmp_path / f"corpus {order}"
        lines(folder / "corpus.jsonl", corpus, order)
        for name in ("train", "test"):
            lines(folder / f"{name}.jsonl", [{"question": f"{name} {n}?", "answer": n} for n in "abcdefghij"], order)
        asked = panel(SearchQa, tmp_path, split, data=folder.name)
        towns = session(SearchQa, tmp_path, data=folder.name)
        towns.reset(0, split)
        found.append((asked, towns.step("<search>town sea</search>").observation.text, towns.state()))
    assert found[0] == found[1]
    assert len({seen.task for seen in found[0][0]}) == 10


def shop(root: Path, order: int) -> str:
    """Records, of which some have one asin; as many as the job reads, and more."""
    items = [item(n % 700, name=f"Acme Shirt Model{n}") for n in range(750)]
    about = {record["asin"]: ABOUT for record in items}
    asked = {asin: [ASKED | {"instruction": f"i want shirt {asin} {n}."} for n in range(3)] for asin in about}
    human = {asin: shuffled(records, order) for asin, records in asked.items()}
    written(root / f"shop {order}", shuffled(items, order), about, human)
    return f"shop {order}"


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("goals", ["synthetic", "human"])
def test_goals_of_a_shop(goals, split, tmp_path):
    kwargs = {"goals": goals, "products": 600, "queries": "canned"}
    names = [shop(tmp_path, order) for order in ORDERS]
    panels = [panel(WebShop, tmp_path, split, data=name, **kwargs) for name in names]
    assert panels[0] == panels[1]
    assert len({seen.task for seen in panels[0]}) > 20 or goals == "synthetic"  # which all ask for a soft shirt
    searches = []
    for name in names:
        shopping = session(WebShop, tmp_path, data=name, **kwargs)
        shopping.reset(0, split)
        searches.append((shopping.step("search[shirt]").observation, shopping.state()))
    assert searches[0] == searches[1]


def test_goals_stand_in_the_files_own_order_where_a_job_wants_webshops(tmp_path):
    kwargs = {"goals": "human", "products": 600, "goal_order": "file"}
    panels = [panel(WebShop, tmp_path, "test", data=shop(tmp_path, order), **kwargs) for order in ORDERS]
    assert panels[0] != panels[1]


def test_household_games_written_in_any_order(tmp_path):
    layout = Layout((3,), 3)
    games = [draw_game(random.Random(n), TASK_TYPES, "train", layout) for n in range(8)]
    panels = []
    for order in ORDERS:
        for number in shuffled(list(range(8)), order):
            publish(games[number], tmp_path / f"json {order}" / "train" / f"task-{number}" / "trial")
        panels.append(panel(Alfworld, tmp_path, "train", data=f"json {order}", task_types=TASK_TYPES))
    assert panels[0] == panels[1]
    assert len({seen.task for seen in panels[0]}) > 4


def test_the_order_of_content_is_no_order_of_letters_and_ignores_how_keys_are_ordered():
    words = [{"a": n, "b": [1, None, "ü"]} for n in range(100)]
    backwards = [dict(reversed(word.items())) for word in reversed(words)]
    assert in_order_of_content(words, dict) == in_order_of_content(backwards, dict)
    assert in_order_of_content(words, dict) != words
