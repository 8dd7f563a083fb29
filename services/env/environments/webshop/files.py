"""Reads the user's own WebShop files: items_shuffle*.json, items_ins_v2*.json; for human goals items_human_ins*.json.

Records are filtered as in WebShop: a record is skipped if its asin is longer than ten characters, is "nan" or occurred
before; a product without attributes gets DUMMY_ATTR. `nouns.json` (asin -> nouns of its title) is read if it exists.
Records are ordered by their content, or as in the files, like WebShop's own.
"""

import re
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter

from gigpo.env.data import checked, one_file, read_json
from gigpo.env.environment import KwargsError
from gigpo.env.progress import report_each
from services.env.environments.splits import in_order_of_content
from services.env.environments.webshop.nouns import title_nouns
from services.env.environments.webshop.product import Product, Wish, drawn_price

Goals = Literal["synthetic", "human"]
GoalOrder = Literal["content", "file"]
T = TypeVar("T")
NO_ATTRIBUTES = ("DUMMY_ATTR",)
NO_PRICE = 100.0


def _or_empty(kind: type) -> BeforeValidator:
    """null, "" and the like stand for nothing in the scraped files."""
    return BeforeValidator(lambda value: value or kind())


class OptionRecord(BaseModel):
    """One value of an option."""

    value: str


class ProductRecord(BaseModel):
    """The fields of items_shuffle that are read."""

    asin: str
    name: str
    query: str
    product_category: str
    full_description: Annotated[str, _or_empty(str)] = ""
    small_description: Annotated[
        list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value or [])
    ] = []
    pricing: Annotated[str, _or_empty(str)] = ""
    customization_options: Annotated[dict[str, list[OptionRecord] | None], _or_empty(dict)] = {}


class AttributesRecord(BaseModel):
    """The fields of items_ins_v2 that are read."""

    attributes: list[str] = list(NO_ATTRIBUTES)
    instruction: str | None = None
    instruction_attributes: Annotated[list[str], _or_empty(list)] = []


class HumanRecord(BaseModel):
    """The fields of items_human_ins that are read."""

    instruction: str
    instruction_attributes: list[str]
    instruction_options: list[str] = Field(description="Values, not names.")


_products = TypeAdapter(ProductRecord)
_attributes = TypeAdapter(AttributesRecord)
_human = TypeAdapter(list[HumanRecord])
_nouns = TypeAdapter(list[str])


def read_products(folder: Path, count: int, goals: Goals, order: GoalOrder) -> list[Product]:
    """The first `count` records of the catalogue, with the wishes that the goals are made from.

    Args:
        order: content: the same products and wishes whatever the order of the files' records.

    Raises:
        KwargsError: a file is missing, or holds something else; names file, record and field.
    """
    items = one_file(folder, "items_shuffle*.json")
    records = read_json(items)
    if not isinstance(records, list):
        raise KwargsError(f"data: {items.name}: want a list of products, got {type(records).__name__}")
    attributes_of = _Records(one_file(folder, "items_ins_v2*.json"), _attributes)
    human_of = _Records(one_file(folder, "items_human_ins*.json"), _human) if goals == "human" else None
    nouns_of = _Records(folder / "nouns.json", _nouns) if (folder / "nouns.json").exists() else None
    products: dict[str, Product] = {}
    for number, value in report_each(_ordered(list(enumerate(records)), order, itemgetter(1))[:count]):
        place = f"{items.name}, record {number}"
        record: ProductRecord = checked(_products, value, place)
        asin = record.asin
        if asin == "nan" or len(asin) > 10 or asin in products:
            continue
        about: AttributesRecord = attributes_of.find(asin) or AttributesRecord()
        wishes = _synthetic(about) if human_of is None else _human_wishes(human_of.find(asin) or [], order)
        nouns = nouns_of.find(asin) if nouns_of else None
        products[asin] = msgspec.structs.replace(
            _product(record, place),
            attributes=tuple(about.attributes),
            wishes=wishes,
            title_nouns=title_nouns(record.name) if nouns is None else tuple(noun.lower() for noun in nouns),
        )
    return list(products.values())


class _Records(Generic[T]):
    """A file of asin -> record; each record is checked when it is wanted."""

    def __init__(self, path: Path, adapter: "TypeAdapter[T]") -> None:
        self._name, self._adapter, self._found = path.name, adapter, read_json(path)
        if not isinstance(self._found, dict):
            raise KwargsError(f"data: {self._name}: want asin -> record, got {type(self._found).__name__}")

    def find(self, asin: str) -> T | None:
        """The record; None where there is none. KwargsError: it is spoilt."""
        if asin not in self._found:
            return None
        return checked(self._adapter, self._found[asin], f"{self._name}, record {asin}")


def _product(record: ProductRecord, place: str) -> Product:
    """Facts from the catalogue alone."""
    price, price_tag = _price(record, place)
    options = {
        name.lower(): tuple(content.value.strip().replace("/", " | ").lower() for content in contents)
        for name, contents in record.customization_options.items()
        if contents is not None
    }
    return Product(
        asin=record.asin,
        title=record.name,
        description=record.full_description,
        bullet_points=tuple(record.small_description),
        attributes=(),
        options=options,
        price=price,
        price_tag=price_tag,
        query=record.query.lower().strip(),
        product_category=record.product_category,
        title_nouns=(),
    )


def _price(record: ProductRecord, place: str) -> tuple[float, str]:
    if not record.pricing:
        return NO_PRICE, f"${NO_PRICE}"
    try:
        prices = [float(re.sub(r"[^\d.]", "", part)) for part in record.pricing.split("$")[1:]]
        first = prices[0]
    except (ValueError, IndexError) as error:
        raise KwargsError(f"data: {place}: pricing: want dollars such as $3.50, got {record.pricing!r:.80}") from error
    if len(prices) == 1:
        return first, f"${first}"
    return drawn_price(first, prices[1], record.asin), f"${first} to ${prices[1]}"


def _synthetic(about: AttributesRecord) -> tuple[Wish, ...]:
    if about.instruction is None or not about.instruction_attributes:
        return ()
    return (Wish(about.instruction, tuple(about.instruction_attributes)),)


def _human_wishes(records: list[HumanRecord], order: GoalOrder) -> tuple[Wish, ...]:
    wishes = [
        Wish(record.instruction, tuple(record.instruction_attributes), tuple(record.instruction_options))
        for record in records
        if record.instruction_attributes
    ]
    return tuple(_ordered(wishes, order, msgspec.structs.astuple))


def _ordered(records: list[T], order: GoalOrder, content: Callable[[T], object]) -> list[T]:
    return records if order == "file" else in_order_of_content(records, content)
