"""The fields of a batch's record: said once, drawn and documented as they are said."""

from collections import Counter

from services.contracts.metric_readings import READINGS
from services.contracts.metrics import METRICS
from services.presentation.panels import PANELS
from tests.unit.contracts.metrics_page import PAGE, written


def test_a_field_is_listed_once_with_unit_and_sentence():
    assert max(Counter(metric.name for metric in METRICS).values()) == 1
    for metric in METRICS:
        assert metric.unit, metric.name
        assert metric.about.endswith("."), metric.name
        assert bool(metric.panel) == bool(metric.label), metric.name


def test_every_field_that_names_a_panel_is_drawn_there_and_every_panel_draws_something():
    drawn = {name: panel.key for panel in PANELS for name, _ in panel.series}
    assert drawn == {metric.name: metric.panel for metric in METRICS if metric.panel}
    assert {panel.key for panel in PANELS} == set(drawn.values())


def test_the_bins_of_step_group_sizes_are_named_by_their_bounds():
    (sizes,) = [panel for panel in PANELS if panel.key == "sizes"]
    assert [label for _, label in sizes.series] == ["1", "2–3", "4–7", "8–15", "16 and more"]


def test_every_metric_that_is_drawn_says_how_to_read_it():
    assert {metric.name for metric in METRICS if metric.panel} <= {*READINGS} <= {metric.name for metric in METRICS}


def test_the_page_about_metrics_is_made_from_the_fields():
    page = PAGE.read_text("utf-8")
    assert page == written(page)
