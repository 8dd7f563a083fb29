"""Search-QA: the protocol, the made-up world, the user's own corpus."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from experts import played, reader
from pydantic import ValidationError

from gigpo.env.environment import KwargsError
from services.env.environments.search_qa.answers import exact_match, f1, normalized
from services.env.environments.search_qa.environment import (
    INVALID,
    NOTHING_YET,
    SearchQa,
    SearchQaKwargs,
    made_up_library,
)
from services.env.environments.search_qa.library import Question
from services.env.environments.search_qa.world import draw_world, split_questions, written_passages
from services.env.workers.episode import Episode, state_key
from services.env.workers.registry import valid_kwargs


def started(seed: int = 0, split: str = "train", **kwargs: object) -> SearchQa:
    environment = SearchQa(SearchQaKwargs.model_validate(kwargs))
    environment.reset(seed, split)
    return environment


def test_answers_are_normalized_as_squads_are():
    assert normalized("  The U.S.A.,\tan  Apple-Pie ") == "usa applepie"
    assert normalized("A") == ""
    assert normalized("Panama the-a") == "panama thea"  # punctuation goes before articles


@pytest.mark.parametrize(
    ("answer", "golden", "right", "overlap"),
    [
        ("the Eiffel Tower!", ("Eiffel tower",), True, 1.0),
        ("Eiffel", ("Eiffel tower",), False, 2 / 3),
        ("tower of Eiffel", ("Louvre", "Eiffel tower"), False, 4 / 5),
        ("red red blue", ("red green",), False, 2 / 5),
        ("Paris", ("London",), False, 0.0),
        ("", ("London",), False, 0.0),
        ("the", ("a",), True, 0.0),  # both normalize to nothing
    ],
)
def test_exact_match_and_f1_worked_by_hand(answer, golden, right, overlap):
    assert exact_match(answer, golden) is right
    assert f1(answer, golden) == pytest.approx(overlap)


def test_a_search_shows_the_best_passages_in_search_r1s_words():
    environment = started(top_k=2)
    title = environment._question.trail[0]
    assert environment._observation("").anchor == NOTHING_YET
    outcome = environment.step(f"<think>hm</think> <search> {title} </search> and more")
    found = re.fullmatch(
        r'<information>Doc 1\(Title: "(.+)"\) (.+)\nDoc 2\(Title: "(.+)"\) (.+)</information>', outcome.observation.text
    )
    assert found is not None
    assert found[1] == title
    assert found[2].startswith(title)
    assert (outcome.action_valid, outcome.reward, outcome.terminated) == (True, 0.0, False)
    assert outcome.observation.anchor == outcome.observation.text


def test_the_first_tag_counts_and_an_answer_ends_the_episode():
    environment = started()
    outcome = environment.step("<search>x</search><answer>y</answer>")
    assert not outcome.terminated
    outcome = environment.step(f"<answer>{environment._question.answers[0].upper()}.</answer><search>x</search>")
    assert (outcome.terminated, outcome.won, outcome.reward, outcome.action_valid) == (True, True, 1.0, True)
    wrong = started().step("<answer>nobody knows</answer>")
    assert (wrong.terminated, wrong.won, wrong.reward, wrong.action_valid) == (True, False, 0.0, True)


def test_f1_is_a_reward_where_it_is_wanted():
    environment = started(reward="f1")
    environment._question = Question("?", ("Eiffel tower",))
    outcome = environment.step("<answer>the Eiffel</answer>")
    assert (outcome.reward, outcome.won) == (pytest.approx(2 / 3), False)


@pytest.mark.parametrize("action", ["", "search[x]", "<search>x", "<search>x</answer>", "<answer>", "x"])
def test_what_is_neither_search_nor_answer_is_told_so_and_keeps_the_place(action):
    environment = started()
    environment.step("<search>capital</search>")
    before = environment.state(), environment._observation("").anchor
    outcome = environment.step(action)
    assert (outcome.action_valid, outcome.terminated, outcome.reward) == (False, False, 0.0)
    assert outcome.observation.text == INVALID
    assert (environment.state(), outcome.observation.anchor) == before


def test_a_search_without_hits_is_no_start():
    environment = started()
    assert environment.step("<search>the</search>").observation.text == "<information></information>"


def test_four_turns_are_all_there_are():
    kwargs = SearchQaKwargs()
    episode = Episode(SearchQa(kwargs), kwargs)
    episode.reset(0, "train")
    assert [episode.step(1, "<search>x</search>").truncated for _ in range(4)] == [False] * 3 + [True]


def test_one_result_by_two_queries_is_one_anchor_and_the_state_remembers_what_was_seen():
    one, other = started(), started()
    first, second = (passage.title for passage in one._library.passages[:2])
    seen = [
        one.step(f"<search>{first}</search>").observation,
        one.step(f"<search>{second}</search>").observation,
        other.step(f"<search>{second}</search>").observation,
        other.step(f"<search>the {second}!</search>").observation,
    ]
    assert seen[1] == seen[2] == seen[3]
    assert seen[0].anchor != seen[1].anchor
    assert state_key(one.state()) != state_key(other.state())
    other.step(f"<search>{first}</search>")
    other.step(f"<search>{second}</search>")
    assert state_key(one.state()) == state_key(other.state())


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_expert_finds_every_answer_within_four_turns(hops, split):
    for seed in range(60):
        environment = started(seed, split, hops=[hops])
        question = environment._question
        outcomes = played(environment, reader, 4)
        assert question.answers[0] in outcomes[-1].observation.text  # the last search showed it
        assert [outcome.reward for outcome in outcomes] == [0.0] * (len(outcomes) - 1) + [1.0]
        assert len(question.trail) == hops


def test_the_splits_ask_about_different_things():
    library = made_up_library(2000, 0)
    train, test = (library.asked(split, (1, 2, 3)) for split in ("train", "test"))
    assert not {question.trail[0] for question in train} & {question.trail[0] for question in test}
    assert 0.1 < len(test) / (len(train) + len(test)) < 0.25
    texts = [question.text for question in (*train, *test)]
    assert len(set(texts)) == len(texts)
    assert {len(question.trail) for question in test} == {1, 2, 3}


def test_a_world_follows_from_its_seed():
    def corpus(seed: int) -> tuple[list[Any], dict[str, list[Any]]]:
        rng = random.Random(seed)
        world = draw_world(rng, 300)
        return written_passages(world), split_questions(world, rng)

    assert corpus(1) == corpus(1)
    assert corpus(1) != corpus(2)
    assert len(corpus(1)[0]) == 300
    titles = [passage.title for passage in corpus(1)[0]]
    assert len(set(titles)) == 300


def test_seeds_go_through_the_questions_one_by_one():
    count = len(made_up_library(2000, 0).asked("test", (1, 2)))
    asked = {started(seed, "test")._question.text for seed in range(count)}
    assert len(asked) == count
    assert started(0, "test")._question == started(count, "test")._question


def write(folder: Path, name: str, *records: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(f"{json.dumps(record)}\n" for record in records))


def own(root: Path) -> Path:
    """A small corpus of a user's own below `root`."""
    folder = root / "wiki"
    write(
        folder, "corpus.jsonl", {"id": "0", "contents": '"Paris"\nParis is in France.'}, {"title": "Oslo", "text": "x"}
    )
    write(folder, "train.jsonl", {"question": "where is paris", "golden_answers": ["France", "Europe"]})
    write(folder, "test.jsonl", {"id": 3, "question": "what is Oslo?", "answer": "x"})
    return folder


def test_a_corpus_of_ones_own_is_searched_and_asked_about(tmp_path):
    own(tmp_path)
    environment = SearchQa(valid_kwargs(SearchQa, '{"data": "wiki"}', str(tmp_path)))
    assert environment.reset(5, "train").task == "where is paris?"
    shown = environment.step("<search>paris</search>").observation.text
    assert shown == '<information>Doc 1(Title: "Paris") Paris is in France.</information>'
    assert environment.step("<search>oslo</search>").observation.text.startswith('<information>Doc 1(Title: "Oslo") x')
    assert environment.step("<answer>europe</answer>").won
    assert environment.reset(0, "test").task == "what is Oslo?"


@pytest.mark.parametrize(
    ("name", "records", "said"),
    [
        ("corpus.jsonl", [{"contents": "a\nb"}, {"id": 7}], r"corpus.jsonl, line 2: record: .*want contents"),
        ("corpus.jsonl", [], "corpus.jsonl: want at least one passage"),
        ("corpus.jsonl", ["text"], r"corpus.jsonl, line 1: record: .*got 'text'"),
        ("train.jsonl", [{"question": "x?"}], r"train.jsonl, line 1: golden_answers: want a value, none is given"),
        ("train.jsonl", [{"question": "x?", "golden_answers": []}], r"line 1: golden_answers: .*got \[\]"),
        ("train.jsonl", [{"question": "", "answer": "x"}], r"train.jsonl, line 1: question: .*got ''"),
        ("test.jsonl", [], "test.jsonl: want at least one question"),
        (
            "test.jsonl",
            [{"question": "where is paris", "answer": "x"}],
            r"test.jsonl, line 1: .*in train.jsonl already",
        ),
    ],
)
def test_a_spoilt_file_is_refused_by_line_and_field(name, records, said, tmp_path):
    write(own(tmp_path), name, *records)
    environment = SearchQa(valid_kwargs(SearchQa, '{"data": "wiki"}', str(tmp_path)))
    with pytest.raises(KwargsError, match=said):
        environment.reset(0, "train")


@pytest.mark.parametrize("kwargs", [{"hops": []}, {"hops": [4]}, {"top_k": 0}, {"passages": 5}, {"reward": "x"}])
def test_kwargs_that_make_no_library_are_refused(kwargs):
    with pytest.raises(ValidationError, match=next(iter(kwargs))):
        SearchQaKwargs.model_validate(kwargs)
