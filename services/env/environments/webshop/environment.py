"""The shop as an environment.

Transcript (seed 3, train; find me a slim fit jacket with color: red, and size: x-large, and price lower than 70.00
dollars; pages cut short):

    Search                                                                  search[slim fit jacket color red x-large]
    Back to Search [SEP] Page 1 (Total results: 50) [SEP] Next > [SEP] B20AB3872E [SEP] Rovtrel Jacket Kit [SEP] $33.76
    [SEP] B855866766 [SEP] Tununa Jacket Edition [SEP] $115.48 ...                          click[b20ab3872e]
    Back to Search [SEP] < Prev [SEP] color [SEP] pink [SEP] red [SEP] dark blue [SEP] purple [SEP] teal [SEP] size
    [SEP] small [SEP] x-small ... [SEP] x-large [SEP] Rovtrel Jacket Kit [SEP] Price: $33.76 [SEP] Rating: N.A. [SEP]
    Description [SEP] Features [SEP] Reviews [SEP] Buy Now              click[red], click[x-large], click[buy now]
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from gigpo.env.data import DataFolder
from gigpo.env.environment import Environment, EnvironmentKwargs, Observation, Outcome
from services.env.environments.ranking import REQUIRES as RANKING_REQUIRES
from services.env.environments.webshop.browsing import Visit
from services.env.environments.webshop.files import GoalOrder, Goals
from services.env.environments.webshop.reward import judge
from services.env.environments.webshop.shop import Shop, made_up_shop, shop_from_files

ANY_QUERY = "search[<your query>]"


class WebShopKwargs(EnvironmentKwargs):
    """Settings of the shop."""

    products: int = Field(1000, ge=100, le=1_000_000, description="Products to make up, or to read from the files.")
    catalogue_seed: int = Field(0, ge=0, description="Another number makes another catalogue up.")
    data: DataFolder | None = Field(
        None,
        description="Folder below the service's data root with WebShop's own items_shuffle*.json, items_ins_v2*.json "
        "and, for human goals, items_human_ins.json; none: the catalogue is made up.",
    )
    goals: Goals = Field("synthetic", description="human: instructions that people wrote; from files only.")
    goal_order: GoalOrder = Field(
        "content",
        description="Of records in files, before the goals are shuffled. content: a seed names one goal whatever their "
        "order, and the first `products` are drawn from the whole file; file: as they stand there, which is WebShop's.",
    )
    goal_seed: int = Field(233, ge=0, description="Shuffles the goals; 233 is WebShop's own.")
    reward: Literal["success", "score"] = Field(
        "success", description="success: 1 for a purchase that scores 1, else 0; score: the purchase's score."
    )
    queries: Literal["free", "canned"] = Field(
        "free", description="canned: three searches made from the goal are listed as admissible, for small models."
    )
    instruction_in_text: bool = Field(False, description="Write the instruction above each page, as WebShop does.")
    max_turns: int = Field(15, ge=1, le=100_000, description="The episode is truncated after this many steps.")

    @model_validator(mode="after")
    def _people_wrote_for_files(self) -> Self:
        if self.goals == "human" and self.data is None:
            raise ValueError("goals: want synthetic for a generated catalogue, got human without data")
        return self


class WebShop(Environment):
    """WebShop: find what an instruction asks for, choose its options, buy it. Products are made up or your own."""

    Kwargs = WebShopKwargs
    kwargs: WebShopKwargs
    prompt_template = "webshop/v1"
    examples = ({"queries": "canned"}, {"queries": "free", "reward": "score"})
    requires = (*RANKING_REQUIRES, "rapidfuzz")

    def reset(self, seed: int, split: str) -> Observation:
        shop = self._shop()
        self._goal_number = shop.goal_number(seed, split)
        self._visit = Visit(shop, shop.goal(self._goal_number))
        return self._observation()

    def step(self, action: str) -> Outcome:
        visit = self._visit
        valid = visit.act(action.strip())
        if visit.page != "done" or visit.product is None:
            return Outcome(observation=self._observation(), action_valid=valid, score=0.0)
        score = judge(visit.product, visit.chosen.values(), visit.goal).score
        won = score == 1.0
        return Outcome(
            observation=self._observation(),
            reward=score if self.kwargs.reward == "score" else float(won),
            score=score,
            won=won,
            terminated=True,
            action_valid=valid,
        )

    def state(self) -> object:
        visit = self._visit
        asin = visit.product.asin if visit.product else ""
        return (self._goal_number, visit.page, visit.hits, visit.results_page, asin, visit.chosen)

    def _shop(self) -> Shop:
        kwargs = self.kwargs
        if kwargs.data is None:
            return made_up_shop(kwargs.products, kwargs.catalogue_seed, goal_seed=kwargs.goal_seed)
        return shop_from_files(
            kwargs.data,
            kwargs.products,
            goals=kwargs.goals,
            goal_order=kwargs.goal_order,
            goal_seed=kwargs.goal_seed,
        )

    def _observation(self) -> Observation:
        visit = self._visit
        return Observation(
            text=visit.text(with_instruction=self.kwargs.instruction_in_text),
            anchor=visit.text(),
            task=visit.goal.instruction,
            admissible_actions=self._admissible(),
        )

    def _admissible(self) -> tuple[str, ...]:
        visit = self._visit
        if visit.page != "search":
            return tuple(f"click[{name}]" for name in visit.clickables())
        if self.kwargs.queries == "free":
            return (ANY_QUERY,)
        kind = visit.goal.product.query
        queries = (kind, f"{visit.goal.attributes[0]} {kind}", visit.goal.instruction)
        return tuple(f"search[{query}]" for query in dict.fromkeys(queries))
