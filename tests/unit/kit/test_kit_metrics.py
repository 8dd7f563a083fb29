"""The text that Prometheus scrapes, and when a loop counts as hung."""

from prometheus_client.parser import text_string_to_metric_families

from services.kit.metrics import counter, exposition, gauge, only
from services.kit.pulse import TURN_S, Turns, Work


def samples(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values...) -> value."""
    found = text_string_to_metric_families(text)
    return {(one.name, *one.labels.values()): one.value for family in found for one in family.samples}


def test_gauges_and_counters_of_one_scrape_are_in_the_text():
    queues = gauge("gigpo_x_entries", "Entries.", {("a", "waiting"): 3.0, ("b", "waiting"): 0.0}, ["queue", "state"])
    tokens = counter("gigpo_x_tokens", "Tokens.", 7)
    found = samples(exposition([queues, tokens]))
    assert found["gigpo_x_entries", "a", "waiting"] == 3
    assert found["gigpo_x_entries", "b", "waiting"] == 0
    assert found["gigpo_x_tokens_total",] == 7


def test_a_label_with_quotes_and_lines_is_escaped():
    named = gauge("gigpo_x_info", "Names.", {('a "b"\n\\c',): 1.0}, ["name"])
    assert samples(exposition([named]))["gigpo_x_info", 'a "b"\n\\c'] == 1


def test_the_metrics_of_the_process_itself_can_be_left_out():
    assert "process_cpu_seconds_total" in exposition()
    assert {name.partition("_")[0] for name, *_ in samples(exposition(ours_only=True))} <= {"gigpo"}


def test_of_another_exporter_only_one_family_of_names_is_passed_through():
    theirs = (
        "# HELP process_cpu_seconds_total CPU.\n# TYPE process_cpu_seconds_total counter\n"
        "process_cpu_seconds_total 3.0\n"
        "# HELP vllm:num_requests_running Running.\n# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{model_name="policy"} 2.0\n'
    )
    kept = only(theirs, "vllm:")
    assert kept == theirs[theirs.index("# HELP vllm") :]
    assert only("\n# odd\n", "vllm:") == ""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_loop_that_is_looked_at_is_not_silent():
    clock = Clock()
    turns = Turns(clock=clock)
    clock.now = 50.0
    assert turns.silent_s() == 50
    assert turns.look()
    assert turns.silent_s() == 0


def test_work_that_has_not_turned_for_long_is_silent_though_the_loop_turns():
    clock, done = Clock(), [0]
    turns = Turns(Work(lambda: done[0]), clock)
    assert turns.look()
    clock.now = TURN_S
    assert not turns.look()
    assert turns.silent_s() == TURN_S
    done[0] += 1
    assert turns.look()
    assert turns.silent_s() == 0
