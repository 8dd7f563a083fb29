"""The table of alarms says for each what it means and what to do, and the page is made from it."""

from __future__ import annotations

from services.contracts.alarms import ALARMS, BY_NAME, sentence
from tests.unit.contracts.alarms_page import PAGE, written


def test_every_alarm_has_a_name_of_its_own_and_says_what_to_do():
    assert len(BY_NAME) == len(ALARMS)
    for alarm in ALARMS:
        assert alarm.above >= 0
        assert alarm.title[0].isupper()
        assert alarm.meaning.endswith(".")
        assert alarm.advice.endswith(".")


def test_an_alarm_is_one_sentence_with_figure_and_limit():
    assert sentence(BY_NAME["dead_letters"], 3, "") == "Messages were set aside: 3 dead letters; limit 0"
    assert sentence(BY_NAME["infra_share"], 0.5, "half") == "Infrastructure drops groups: half; limit 0.05"


def test_the_page_is_made_from_the_table():
    page = PAGE.read_text("utf-8")
    assert written(page) == page
