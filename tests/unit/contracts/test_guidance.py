import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.guidance import Guide, allowed_along

STOP = 0
CHOICES = st.lists(st.lists(st.integers(1, 3), max_size=4).map(lambda ids: [*ids, STOP]), min_size=1, max_size=6)


@given(CHOICES)
def test_what_a_guide_lets_be_said_is_exactly_the_choices(choices: list[list[int]]) -> None:
    found, open_ = [], [()]
    while open_:
        said = open_.pop()
        guide = Guide(choices)
        for token in said:
            guide.take(token)
        open_ += [(*said, token) for token in guide.allowed]
        if not guide.allowed:
            found.append(list(said))
    assert sorted(found) == [list(one) for one in sorted(set(map(tuple, choices)))]


@given(CHOICES)
def test_along_a_choice_each_token_is_among_what_was_allowed_in_its_place(choices: list[list[int]]) -> None:
    for response in choices:
        allowed = allowed_along(choices, response)
        assert allowed is not None
        for place, (token, ids) in enumerate(zip(response, allowed, strict=True)):
            wanted = {one[place] for one in choices if one[:place] == response[:place]}
            assert token in ids
            assert list(ids) == sorted(wanted)


@pytest.mark.parametrize("response", [[], [1], [1, 2], [2, STOP], [1, STOP, STOP], [1, 2, 3, STOP]])
def test_what_is_no_whole_choice_is_none(response: list[int]) -> None:
    assert allowed_along([[1, STOP], [1, 2, STOP]], response) is None


def test_equal_choices_count_once() -> None:
    assert allowed_along([[1, STOP]] * 3, [1, STOP]) == ((1,), (STOP,))
