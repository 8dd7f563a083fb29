"""The anchor graph of a group, and where it is drawn."""

from __future__ import annotations

from services.api.dashboard.anchor_graph import SOLVED, UNSOLVED, anchor_graph
from services.api.dashboard.graph_edges import Box
from services.api.dashboard.graph_layout import MOST_STATES, drawing
from services.contracts.rest.rollouts import AnchorAction, AnchorState, Visit


def visit(k: int, step_index: int, advantage: float, leads_to: int | None, *, won: bool = False) -> Visit:
    return Visit(
        k=k,
        step_index=step_index,
        step_return=advantage,
        step_advantage=advantage,
        advantage=advantage,
        won=won,
        leads_to=leads_to,
    )


def state(label: int, **actions: list[Visit]) -> AnchorState:
    taken = [
        AnchorAction(action=name, valid=True, visits=visits, return_mean=0.0, step_advantage_mean=0.0)
        for name, visits in actions.items()
    ]
    visits = [one for visits in actions.values() for one in visits]
    return AnchorState(
        group_id="g",
        step_group=label,
        anchor=f"state {label}",
        visits=len(visits),
        episodes=len({one.k for one in visits}),
        return_mean=sum(one.step_return for one in visits) / len(visits),
        actions=taken,
    )


START = state(0, east=[visit(0, 0, 0.5, 1, won=True)], west=[visit(1, 0, -0.5, 2), visit(2, 0, -0.25, 0)])
EAST = state(1, put=[visit(0, 1, 0.0, None, won=True)])
WEST = state(2, put=[visit(1, 1, 0.0, None)])


def test_transitions_follow_the_episodes_to_their_ends() -> None:
    graph = anchor_graph([WEST, EAST, START])
    assert [one.label for one in graph.states] == [0, 1, 2]
    found = {(one.source, one.action, one.target): (one.times, one.step_advantage) for one in graph.transitions}
    assert found == {
        (0, "east", 1): (1, 0.5),
        (0, "west", 2): (1, -0.5),
        (0, "west", 0): (1, -0.25),
        (1, "put", SOLVED): (1, 0.0),
        (2, "put", UNSOLVED): (1, 0.0),
    }


def test_a_graph_counts_where_episodes_met_and_where_that_told_something() -> None:
    graph = anchor_graph([START, EAST, WEST])
    assert (graph.met, graph.telling, graph.most_telling, graph.scale) == (1, 1, 0, 0.5)
    assert graph.states[0].spread == 1.0
    assert graph.states[0].leads_to == {"east": [1], "west": [2, 0]}
    silent = anchor_graph([EAST])
    assert (silent.met, silent.telling, silent.scale) == (0, 0, 1.0)


def test_time_runs_from_left_to_right_and_no_two_circles_touch() -> None:
    drawn = drawing(anchor_graph([START, EAST, WEST]))
    places = {node.label: node for node in drawn.nodes}
    assert places[0].x < places[1].x == places[2].x < places[SOLVED].x == places[UNSOLVED].x
    for first in drawn.nodes:
        assert 0 < first.x < drawn.width
        assert 0 < first.y < drawn.height
        for second in drawn.nodes:
            if first is not second:
                assert abs(first.x - second.x) + abs(first.y - second.y) > first.radius + second.radius
    assert len(drawn.edges) == 5


def test_no_label_lies_on_a_node_or_on_another_label_of_its_state() -> None:
    names = [f"put the thing {n} south" for n in range(5)]
    start = state(0, **{name: [visit(n, 0, 0.1 * n, n + 1, won=True)] for n, name in enumerate(names)})
    others = [state(n + 1, east=[visit(n, 1, 0.0, None, won=True)], back=[visit(n, 2, 0.0, 0)]) for n in range(5)]
    drawn = drawing(anchor_graph([start, *others]))
    for edge in drawn.edges:
        for node in drawn.nodes:
            circle = Box(node.x, node.y, 2 * node.radius, 2 * node.radius)
            assert edge.label.overlap(circle) == 0, (edge.transition.action, node.label)
        for other in drawn.edges:
            if other is not edge and other.transition.source == edge.transition.source:
                assert edge.label.overlap(other.label) == 0, (edge.transition, other.transition)


def test_shades_go_from_the_lowest_to_the_highest_return() -> None:
    shades = {node.label: node.return_shade for node in drawing(anchor_graph([START, EAST, WEST])).nodes if node.state}
    assert shades == {0: 0, 1: 4, 2: 4}


def test_the_most_visited_states_are_drawn_and_the_others_counted() -> None:
    crowd = [state(label, stay=[visit(0, label, 0.0, None)]) for label in range(MOST_STATES + 10)]
    crowd[-1] = state(MOST_STATES + 9, stay=[visit(k, 3, 0.0, None) for k in range(3)])
    drawn = drawing(anchor_graph(crowd))
    labels = {node.label for node in drawn.nodes if node.state}
    assert len(labels) == MOST_STATES
    assert MOST_STATES + 9 in labels
    assert drawn.hidden == 10


def test_a_group_without_steps_draws_nothing() -> None:
    graph = anchor_graph([])
    assert graph.most_telling is None
    assert drawing(graph).nodes == ()
