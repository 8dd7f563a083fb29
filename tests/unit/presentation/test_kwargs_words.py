"""An environment's kwargs schema in words."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from services.presentation.schema_words import LONGEST_DEFAULT, KwargWords, kwargs_in_words


class Part(BaseModel):
    """A part of the kwargs."""

    left: int = 0
    right: int = 0


class Kwargs(BaseModel):
    """One key of every kind that environments use."""

    goal: Literal["corner", "shelf"] = Field("corner", description="Where it goes.")
    objects: Annotated[int, Field(ge=0, le=40)] | Literal["all"] = 3
    ratio: float = Field(0.5, gt=0, lt=1)
    sizes: list[int] = [3, 4]
    part: Part = Part()
    parts: list[Part] | None = None
    free: dict[str, int] = {}
    words: list[str] = ["long enough to be cut"] * 5
    url: str


def test_each_key_says_what_may_stand_there_and_what_stands_there_unasked():
    found = {key.name: key for key in kwargs_in_words(Kwargs.model_json_schema())}
    assert found["goal"] == KwargWords("goal", "corner or shelf", '"corner"', "Where it goes.")
    assert found["objects"].values == "integer from 0 to 40 or all"
    assert found["ratio"].values == "number above 0 below 1"
    assert (found["sizes"].values, found["sizes"].default) == ("list of integer", "[3, 4]")
    assert found["part"].values == "object of left, right"
    assert (found["parts"].values, found["parts"].default) == ("list of object of left, right or null", "null")
    assert found["free"].values == "object"
    assert len(found["words"].default) == LONGEST_DEFAULT


def test_a_key_that_has_to_be_given_comes_first_and_has_no_default():
    first, *others = kwargs_in_words(Kwargs.model_json_schema())
    assert (first.name, first.default) == ("url", "")
    assert all(key.default for key in others)
    assert kwargs_in_words({}) == []
