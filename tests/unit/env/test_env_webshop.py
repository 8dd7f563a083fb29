"""The shop: its pages and clicks, its goals, its sessions."""

import random

import pytest
from experts import played, shopper
from pydantic import ValidationError

from services.env.environments.webshop.browsing import Visit
from services.env.environments.webshop.catalogue import made_up_products
from services.env.environments.webshop.environment import WebShop, WebShopKwargs
from services.env.environments.webshop.product import NO_LIMIT, Goal, Product, Wish, made_goal, price_limit
from services.env.environments.webshop.shop import Shop, made_up_shop
from services.env.workers.episode import state_key

SHIRT = Product(
    asin="B00SHIRT01",
    title="Acme T-Shirt",
    description="A plain shirt.",
    bullet_points=("Machine wash", "Soft"),
    attributes=("machine wash",),
    options={"color": ("red", "dark blue"), "size": ("small", "large")},
    price=19.5,
    price_tag="$19.5",
    query="t-shirt",
    product_category="Clothing › Shirts › T-Shirt",
    title_nouns=("acme", "shirt"),
    wishes=(Wish("find me a machine wash t-shirt", ("machine wash",)),),
)


def shop(products: int = 1000) -> Shop:
    return made_up_shop(products, 0, goal_seed=233)


def started(seed: int = 3, split: str = "train", **kwargs: object) -> WebShop:
    environment = WebShop(WebShopKwargs.model_validate(kwargs))
    environment.reset(seed, split)
    return environment


def visit_of(*products: Product) -> Visit:
    """A visit to a shop that has these products and enough others."""
    full = Shop([*products, *made_up_products(100, 0)], 233)
    return Visit(full, made_goal(products[0], 0, 0))


def test_the_first_page_is_written_as_webshop_writes_it():
    seen = started(instruction_in_text=True)._observation()
    assert seen.text == f"WebShop [SEP] Instruction: [SEP] {seen.task} [SEP] Search"
    assert (seen.anchor, seen.admissible_actions) == ("Search", ("search[<your query>]",))
    assert started()._observation().text == "Search"


def test_a_search_lists_ten_products_a_page_and_fifty_in_all():
    environment = started()
    visit = environment._visit
    assert environment.step("search[color]").action_valid
    assert len(visit.hits) == len(set(visit.hits)) == 50
    for page in range(1, 6):
        texts = visit.visible()
        back = ["< Prev"] if page > 1 else []
        assert texts[: 3 + len(back)] == ["Back to Search", f"Page {page} (Total results: 50)", *back, "Next >"]
        items = texts[3 + len(back) :]
        assert len(items) == 30
        assert visit.clickables() == [
            "back to search",
            *(b.lower() for b in back),
            "next >",
            *map(str.lower, items[::3]),
        ]
        environment.step("click[Next >]")
    assert visit.visible() == ["Back to Search", "Page 6 (Total results: 50)", "< Prev", "Next >"]
    environment.step("click[< Prev]")
    assert visit.results_page == 5


def test_a_product_page_and_its_sub_pages():
    visit = visit_of(SHIRT)
    visit.act("search[acme t-shirt]")
    assert visit.listed()[0] is SHIRT
    assert visit.act("click[B00SHIRT01]")
    assert visit.text() == (
        "Back to Search [SEP] < Prev [SEP] color [SEP] red [SEP] dark blue [SEP] size [SEP] small [SEP] large "
        "[SEP] Acme T-Shirt [SEP] Price: $19.5 [SEP] Rating: N.A. [SEP] Description [SEP] Features [SEP] Reviews "
        "[SEP] Buy Now"
    )
    buttons = ["back to search", "< prev", "description", "features", "reviews", "buy now"]
    assert visit.clickables() == [*buttons, "red", "dark blue", "small", "large"]
    for name, inside in (("description", ["A plain shirt."]), ("features", ["Machine wash", "Soft"]), ("reviews", [])):
        assert visit.act(f"click[{name}]")
        assert visit.visible() == ["Back to Search", "< Prev", *inside]
        assert visit.clickables() == ["back to search", "< prev"]
        assert visit.act("click[< prev]")
        assert visit.page == "item"


def test_options_are_kept_on_sub_pages_and_cleared_by_leaving_the_product():
    visit = visit_of(SHIRT)
    for action in ("search[acme]", "click[b00shirt01]", "click[red]", "click[large]", "click[dark blue]"):
        assert visit.act(action)
    assert visit.chosen == {"color": "dark blue", "size": "large"}
    for action in ("click[features]", "click[< prev]"):
        assert visit.act(action)
    assert visit.chosen == {"color": "dark blue", "size": "large"}
    assert visit.act("click[< prev]")
    assert (visit.page, visit.chosen, visit.listed()[0]) == ("results", {}, SHIRT)


def test_back_to_search_clears_the_session_and_keeps_the_goal():
    visit = visit_of(SHIRT)
    goal = visit.goal
    for action in ("search[acme]", "click[b00shirt01]", "click[description]", "click[back to search]"):
        assert visit.act(action)
    assert (visit.page, visit.hits, visit.product, visit.chosen) == ("search", (), None, {})
    assert visit.goal is goal


def test_a_search_works_from_any_page_and_leaves_the_product():
    visit = visit_of(SHIRT)
    for action in ("search[acme]", "click[b00shirt01]", "click[red]", "search[t-shirt]"):
        assert visit.act(action)
    assert (visit.page, visit.results_page, visit.product, visit.chosen) == ("results", 1, None, {})


def test_a_value_of_two_options_is_chosen_for_the_last():
    twice = {"color": ("natural",), "style": ("natural", "plain")}
    visit = visit_of(Product(**{f: getattr(SHIRT, f) for f in SHIRT.__struct_fields__} | {"options": twice}))
    for action in ("search[acme]", "click[b00shirt01]", "click[natural]"):
        assert visit.act(action)
    assert visit.chosen == {"style": "natural"}
    assert visit.clickables().count("natural") == 1


@pytest.mark.parametrize(
    "action",
    [
        *("", "search", "search[]", "click[]", "click[search]", "click[buy now]", "click[b00shirt01]", "buy[x]", "[x]"),
        *("search[a]b[c]", "search[a\nb]", "Search[a]", "click[back to search]", "click[< prev]", "click[next >]"),
    ],
)
def test_what_cannot_be_done_on_the_search_page_does_nothing_and_costs_nothing(action):
    environment = started()
    before = environment._observation(), environment.state()
    outcome = environment.step(action)
    assert (outcome.action_valid, outcome.reward, outcome.score, outcome.terminated) == (False, 0.0, 0.0, False)
    assert (outcome.observation, environment.state()) == before


def test_what_follows_the_last_bracket_does_not_count():
    environment = started()
    assert environment.step("search[jacket] please").action_valid
    assert environment._visit.hits == shop().search("jacket")


def test_a_search_without_hits_shows_an_empty_page():
    environment = started()
    assert environment.step("search[<your query>]").action_valid
    seen = environment._observation()
    assert seen.text == "Back to Search [SEP] Page 1 (Total results: 0) [SEP] Next >"


def test_options_are_hidden_from_text_and_anchor_and_held_by_the_state():
    environment = started()
    product = environment._visit.goal.product
    one, other = (next(iter(values)) for values in list(product.options.values())[:2])
    environment.step(f"search[{environment._visit.goal.instruction}]")
    while product not in environment._visit.listed():
        environment.step("click[next >]")
    environment.step(f"click[{product.asin}]")
    texts, keys = [], []
    for action in ("click[features]", "click[< prev]", f"click[{one}]", f"click[{other}]"):
        seen = environment.step(action).observation
        texts.append((seen.text, seen.anchor))
        keys.append(state_key(environment.state()))
    assert texts[1] == texts[2] == texts[3]
    assert len(set(keys)) == 4
    environment.step(f"click[{one}]")
    assert state_key(environment.state()) == keys[3]


def test_equal_states_are_reached_on_different_ways():
    one, other = started(), started()
    for action in ("search[jacket]", "click[next >]", "click[< prev]"):
        one.step(action)
    other.step("search[jackets]")  # stems alike
    assert one._observation() == other._observation()
    assert one.state() == other.state()


@pytest.mark.parametrize(("products", "split"), [(1000, "train"), (1000, "test"), (20_000, "test")])
def test_an_expert_buys_the_right_thing_with_one_reward_at_its_end(products, split):
    for seed in range(60):
        environment = WebShop(WebShopKwargs(products=products))
        environment.reset(seed, split)
        outcomes = played(environment, shopper, 15)
        assert all(outcome.action_valid for outcome in outcomes)
        assert [outcome.reward for outcome in outcomes] == [0.0] * (len(outcomes) - 1) + [1.0]
        assert (outcomes[-1].won, outcomes[-1].terminated, outcomes[-1].score) == (True, True, 1.0)


def test_a_half_right_purchase_scores_in_part_and_is_rewarded_only_where_scores_are():
    for reward, expected in (("success", 0.0), ("score", 0.75)):
        environment = started(reward=reward)
        environment._visit = visit_of(SHIRT)  # wants red, small
        for action in ("search[acme]", "click[b00shirt01]", "click[red]"):
            environment.step(action)
        outcome = environment.step("click[buy now]")
        assert (outcome.reward, outcome.score, outcome.won, outcome.terminated) == (expected, 0.75, False, True)


def test_each_combination_of_options_is_a_goal():
    assert SHIRT.combinations() == 4
    goals = [made_goal(SHIRT, 0, number) for number in range(4)]
    assert [goal.options for goal in goals] == [
        ("red", "small"),
        ("red", "large"),
        ("dark blue", "small"),
        ("dark blue", "large"),
    ]
    assert len({goal.price_upper for goal in goals}) == 1
    assert goals[2].instruction == (
        "find me a machine wash t-shirt with color: dark blue, and size: small, "
        f"and price lower than {goals[2].price_upper:.2f} dollars"
    )


def test_a_human_goal_keeps_its_own_words_and_values():
    wish = Wish("i want a shirt.", ("soft",), ("red",))
    asked = Product(**{f: getattr(SHIRT, f) for f in SHIRT.__struct_fields__} | {"wishes": (wish,), "price": 985.0})
    assert made_goal(asked, 0, 0) == Goal(asked, "i want a shirt", ("soft",), ("red",), NO_LIMIT)


def test_the_price_limit_is_the_larger_of_two_of_the_next_four_tens():
    limits = {price_limit(20.0, random.Random(seed)) for seed in range(200)}
    assert limits == {40.0, 50.0, 60.0}
    assert {price_limit(970.5, random.Random(seed)) for seed in range(20)} == {990.0}
    assert price_limit(980.0, random.Random(0)) == NO_LIMIT


def test_the_splits_share_no_goal_and_the_first_500_are_for_testing():
    stock = shop()
    assert {stock.goal_number(seed, "test") for seed in range(2000)} == set(range(500))
    train = {stock.goal_number(seed, "train") for seed in range(len(stock))}
    assert train == set(range(500, len(stock)))


def test_goals_are_shuffled_by_their_own_seed():
    one, other = made_up_shop(200, 0, goal_seed=233), made_up_shop(200, 0, goal_seed=1)
    instructions = [[stock.goal(number).instruction for number in range(len(stock))] for stock in (one, other)]
    assert instructions[0] != instructions[1]
    assert sorted(instructions[0]) == sorted(instructions[1])


def test_a_catalogue_follows_from_its_seed_and_a_longer_one_begins_with_the_shorter():
    products = made_up_products(300, 0)
    assert products == made_up_products(400, 0)[:300]
    assert products != made_up_products(300, 1)
    assert len({product.asin for product in products}) == 300
    for product in products:
        words = product.title.lower().split()
        assert {*product.title_nouns} <= {*words}
        assert {*product.wishes[0].attributes} <= {*product.attributes}


def test_one_seed_names_one_task_and_sessions_share_the_shop():
    assert started(7)._observation() == started(7)._observation()
    assert started(7)._visit.shop is started(8)._visit.shop
    assert len({started(seed)._observation().task for seed in range(50)}) == 50


def test_canned_queries_are_admissible_and_find_something():
    for seed in range(20):
        environment = started(seed, queries="canned")
        queries = environment._observation().admissible_actions
        assert 2 <= len(queries) <= 3
        for query in queries:
            assert environment.step(query).action_valid
            assert environment._visit.hits


def test_every_admissible_action_is_valid():
    rng = random.Random(0)
    environment = started(queries="canned")
    for seed in range(40):
        environment.reset(seed, "train")
        for _ in range(15):
            outcome = environment.step(rng.choice(environment._observation().admissible_actions))
            assert outcome.action_valid
            if outcome.terminated:
                break


@pytest.mark.parametrize(
    ("kwargs", "wanted"),
    [({"goals": "human"}, "human without data"), ({"products": 10}, "products"), ({"reward": "money"}, "reward")],
)
def test_kwargs_that_make_no_shop_are_refused(kwargs, wanted):
    with pytest.raises(ValidationError, match=wanted):
        WebShopKwargs.model_validate(kwargs)
