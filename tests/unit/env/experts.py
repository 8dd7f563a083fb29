"""Experts: the next action that leads to success from wherever a session stands. They see what the agent does not."""

from collections import deque
from collections.abc import Callable

from gigpo.env.environment import Environment, Outcome
from services.env.environments.search_qa.environment import SearchQa
from services.env.environments.sokoban.environment import Sokoban
from services.env.environments.sokoban.room import DIRECTIONS
from services.env.environments.webshop.environment import WebShop


def shopper(environment: WebShop) -> str:
    """Searches for the instruction, pages on to the product that the goal was made from, chooses its options, buys."""
    visit = environment._visit
    product = visit.goal.product
    if visit.page == "item" and visit.product == product:
        missing = [value for value in visit.goal.options if value not in visit.chosen.values()]
        return f"click[{missing[0]}]" if missing else "click[Buy Now]"
    if visit.page == "results" and product in visit.listed():
        return f"click[{product.asin}]"
    if visit.page == "results" and visit.hits == visit.shop.search(visit.goal.instruction) and visit.listed():
        return "click[Next >]"
    return f"search[{visit.goal.instruction}]"


def reader(environment: SearchQa) -> str:
    """Looks up each passage of the trail, then answers."""
    seen = {environment._library.passages[number].title.strip('"') for number in environment._seen}
    missing = [title for title in environment._question.trail if title not in seen]
    return f"<search>{missing[0]}</search>" if missing else f"<answer>{environment._question.answers[0]}</answer>"


def pusher(environment: Sokoban) -> str:
    """The first move of a shortest solution; any move where there is none."""
    plan = solution(environment._observation().text.replace(" ", "").split("\n"))
    return plan[0] if plan else environment._observation().admissible_actions[0]


def solution(board: list[str]) -> list[str] | None:
    """The shortest solution, by forward search over pictures: shares nothing with the engine."""
    size, start = len(board), "".join(board)
    steps = dict(zip(DIRECTIONS, (-size, size, -1, 1), strict=True))
    ways: dict[str, list[str]] = {start: []}
    queue = deque([start])
    while queue:
        cells = queue.popleft()
        if "X" not in cells:
            return ways[cells]
        for name, step in steps.items():
            after = _moved(cells, step)
            if after is not None and after not in ways:
                ways[after] = [*ways[cells], name]
                queue.append(after)
    return None


def _moved(cells: str, step: int) -> str | None:
    at = next(number for number, symbol in enumerate(cells) if symbol in "PS")
    to, beyond = at + step, at + 2 * step
    new = list(cells)
    if cells[to] == "#":
        return None
    if cells[to] in "X√":
        if cells[beyond] in "#X√":
            return None
        new[beyond] = "√" if cells[beyond] == "O" else "X"
    new[to] = "S" if cells[to] in "O√" else "P"
    new[at] = "O" if cells[at] == "S" else "_"
    return "".join(new)


def played(environment: Environment, expert: Callable[..., str], limit: int) -> list[Outcome]:
    """Outcomes of the expert's actions, until the end or for `limit` steps."""
    outcomes: list[Outcome] = []
    while len(outcomes) < limit and not (outcomes and outcomes[-1].terminated):
        outcomes.append(environment.step(expert(environment)))
    return outcomes
