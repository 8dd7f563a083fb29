"""The user's own shop files: read as WebShop reads them, and refused by file, record and field."""

import json

import pytest
from experts import played, shopper
from webshop_files import ABOUT, ASKED, ITEM, item, written

from gigpo.env.environment import KwargsError
from services.env.environments.webshop.environment import WebShop
from services.env.environments.webshop.files import read_products
from services.env.workers.registry import valid_kwargs


def test_a_record_becomes_a_product(tmp_path):
    folder = written(tmp_path / "shop", [ITEM], {ITEM["asin"]: ABOUT})
    (product,) = read_products(folder, 10, "synthetic", "file")
    assert (product.asin, product.title, product.description) == ("B000000001", "Acme Cotton Shirt", "A shirt.")
    assert (product.price, product.price_tag, product.query) == (1019.5, "$1019.5", "shirts")
    assert product.options == {"color": ("red | blue", "green")}
    assert product.document() == "acme cotton shirt a shirt. soft color: red | blue, green"
    assert product.title_nouns == ("acme", "cotton", "shirt")
    assert (product.attributes, product.wishes[0].attributes) == (("soft", "warm"), ("soft",))


def test_records_are_left_out_as_webshop_leaves_them_out(tmp_path):
    items = [item(1), item(1, name="again"), item(2, asin="nan"), item(3, asin="B0123456789"), item(4), item(5)]
    products = read_products(written(tmp_path / "shop", items, {}), 5, "synthetic", "file")
    assert [(product.asin, product.title) for product in products] == [
        ("B000000001", "Acme Cotton Shirt"),
        ("B000000004", "Acme Cotton Shirt"),
    ]
    assert products[0].attributes == ("DUMMY_ATTR",)
    assert products[0].wishes == ()


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_nothing_is_written_in_many_ways(empty, tmp_path):
    names = ("full_description", "small_description", "pricing", "customization_options")
    (product,) = read_products(
        written(tmp_path / "shop", [item(**dict.fromkeys(names, empty))], {}), 1, "synthetic", "file"
    )
    assert (product.description, product.options) == ("", {})
    assert product.bullet_points in ((), ("",))
    assert (product.price, product.price_tag) == (100.0, "$100.0")


def test_a_range_of_prices_is_drawn_from_once(tmp_path):
    folder = written(tmp_path / "shop", [item(pricing="$10.00$20.00$30.00")], {})
    (product,), (again,) = read_products(folder, 1, "synthetic", "file"), read_products(folder, 1, "synthetic", "file")
    assert product.price_tag == "$10.0 to $20.0"
    assert 10 < product.price < 20
    assert product.price == again.price


def test_human_instructions_are_goals_of_their_own(tmp_path):
    human = {"B000000001": [ASKED, ASKED | {"instruction_attributes": []}]}
    (product,) = read_products(written(tmp_path / "shop", [ITEM], {}, human), 1, "human", "file")
    (wish,) = product.wishes
    assert (wish.text, wish.attributes, wish.options) == ("i want a red shirt.", ("soft",), ("red | blue",))


def test_nouns_beside_the_data_are_taken(tmp_path):
    folder = written(tmp_path / "shop", [ITEM, item(2)], {})
    (folder / "nouns.json").write_text(json.dumps({"B000000001": ["Cotton", "shirt"]}))
    one, other = read_products(folder, 2, "synthetic", "file")
    assert (one.title_nouns, other.title_nouns) == (("cotton", "shirt"), ("acme", "cotton", "shirt"))


@pytest.mark.parametrize(
    ("items", "about", "human", "said"),
    [
        ({}, {}, None, r"items_shuffle_1000.json: want a list of products, got dict"),
        ([ITEM, item(2, name=None)], {}, None, r"items_shuffle_1000.json, record 1: name: .*got None"),
        ([ITEM, {"asin": "x"}], {}, None, r"items_shuffle_1000.json, record 1: name: want a value, none is given"),
        ([7], {}, None, r"items_shuffle_1000.json, record 0: record: .*got 7"),
        ([item(pricing="free")], {}, None, r"record 0: pricing: want dollars such as \$3.50, got 'free'"),
        ([item(customization_options={"c": [{"x": 1}]})], {}, None, r"record 0: customization_options.c.0.value"),
        ([ITEM], [], None, r"items_ins_v2_1000.json: want asin -> record, got list"),
        (
            [ITEM],
            {"B000000001": {"attributes": 3}},
            None,
            r"items_ins_v2_1000.json, record B000000001: attributes: .*got 3",
        ),
        ([ITEM], {}, {"B000000001": [{}]}, r"items_human_ins.json, record B000000001: 0.instruction"),
    ],
)
def test_a_spoilt_file_is_refused_by_file_record_and_field(items, about, human, said, tmp_path):
    folder = written(tmp_path / "shop", items, about, human)
    with pytest.raises(KwargsError, match=said):
        read_products(folder, 10, "human" if human else "synthetic", "file")


def test_a_missing_file_is_named(tmp_path):
    folder = written(tmp_path / "shop", [ITEM], {})
    with pytest.raises(KwargsError, match=r"want one file items_human_ins\*.json in shop, got none"):
        read_products(folder, 10, "human", "file")


def test_a_shop_of_files_is_played_like_any_other(tmp_path):
    items = [item(n, name=f"Acme Shirt Model{n % 7}") for n in range(300)]
    written(tmp_path / "shop", items, {record["asin"]: ABOUT for record in items})
    kwargs = valid_kwargs(WebShop, '{"data": "shop", "products": 300}', str(tmp_path))
    shop = WebShop(kwargs)
    for seed in range(20):
        shop.reset(seed, "test")
        outcomes = played(shop, shopper, 15)
        if outcomes[-1].terminated:  # 300 shirts look alike: the wanted one is not always among 50
            assert outcomes[-1].score == 1.0


def test_too_few_goals_for_two_splits_are_refused(tmp_path):
    written(tmp_path / "shop", [ITEM], {"B000000001": ABOUT})
    shop = WebShop(valid_kwargs(WebShop, '{"data": "shop"}', str(tmp_path)))
    with pytest.raises(KwargsError, match="want more than 500 goals, 1 products give 2"):
        shop.reset(0, "train")
