"""Prompts: where they come from, what is held out, what a reply leads to."""

import json
from pathlib import Path

import pytest

from gigpo.env.environment import KwargsError, Observation
from services.env.environments.prompts.environment import Prompts, PromptsKwargs, splits
from services.env.workers.episode import Episode
from services.env.workers.registry import valid_kwargs
from services.env.workers.wanted import ContractError

ROWS = [{"prompt": f"question {n}", "solution": n} for n in range(20)]


def kwargs_of(root: Path | None = None, **kwargs: object) -> PromptsKwargs:
    found = valid_kwargs(Prompts, json.dumps(kwargs), str(root) if root else None)
    assert isinstance(found, PromptsKwargs)
    return found


def asked(kwargs: PromptsKwargs, split: str) -> list[str]:
    return [question.text for question in splits(kwargs)._asdict()[split]]


def started(seed: int = 0, split: str = "train", **kwargs: object) -> tuple[Prompts, Observation]:
    prompts = Prompts(kwargs_of(**kwargs))
    return prompts, prompts.reset(seed, split)


def folder(root: Path, **files: list[object]) -> str:
    (root / "set").mkdir(exist_ok=True)
    for name, rows in files.items():
        (root / "set" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "set"


def test_by_default_sums_are_asked_and_their_answers_are_the_admissible_replies():
    prompts, seen = started()
    a, plus, b = seen.task.split()
    assert (plus, seen.text, seen.anchor) == ("plus", "", seen.task)
    assert seen.admissible_actions == tuple(map(str, range(19)))
    outcome = prompts.answer(str(int(a) + int(b)), 2)
    assert (outcome.reward, outcome.rewards, outcome.won, outcome.terminated) == (1.0, (1.0,), True, True)
    assert outcome.action_valid
    assert outcome.observation.admissible_actions == ()


def test_a_wrong_answer_gets_nothing_and_what_is_no_answer_is_invalid():
    assert not started()[0].step("99").won
    outcomes = [started()[0].step(reply) for reply in ("18", "99", "seven", "<answer>18</answer>")]
    assert [outcome.action_valid for outcome in outcomes] == [True, False, False, True]


def test_operations_are_what_they_say():
    arithmetic = {"operations": ["plus", "minus", "larger", "smaller"], "max_operand": 5}
    known = {question.text: question.solution for question in splits(kwargs_of(arithmetic=arithmetic)).train}
    known |= {question.text: question.solution for question in splits(kwargs_of(arithmetic=arithmetic)).test}
    assert len(known) == 4 * 36
    assert [known[f"2 {name} 5"] for name in arithmetic["operations"]] == ["7", "0", "5", "2"]  # type: ignore[union-attr]
    assert {word for text in known for word in text.split()} | set(known.values()) <= set(Prompts.vocabulary())


def test_train_and_test_share_no_prompt_and_together_they_are_all():
    kwargs = kwargs_of(rows=ROWS, split_dataset_ratio=0.25)
    train, test = asked(kwargs, "train"), asked(kwargs, "test")
    assert (len(train), len(test)) == (15, 5)
    assert sorted(train + test) == sorted(row["prompt"] for row in ROWS)
    assert kwargs_of(rows=ROWS[::-1], split_dataset_ratio=0.25).rows != kwargs.rows
    assert set(asked(kwargs_of(rows=ROWS[::-1], split_dataset_ratio=0.25), "test")) == set(test)


def test_equal_prompts_stay_on_one_side():
    kwargs = kwargs_of(rows=[*ROWS, *ROWS], split_dataset_ratio=0.25)
    assert not set(asked(kwargs, "train")) & set(asked(kwargs, "test"))
    assert len(asked(kwargs, "test")) == 10


def test_prompts_that_differ_in_case_and_spaces_alone_stay_on_one_side():
    twins = [{**row, "prompt": f" {str(row['prompt']).upper()}\n"} for row in ROWS]
    kwargs = kwargs_of(rows=[*ROWS, *twins], split_dataset_ratio=0.25)
    train, test = ({text.lower().strip() for text in asked(kwargs, split)} for split in ("train", "test"))
    assert not train & test
    assert (len(asked(kwargs, "train")), len(asked(kwargs, "test"))) == (30, 10)


@pytest.mark.parametrize("reply", ["True", "true", "<answer>TRUE</answer>", "The answer is true"])
@pytest.mark.parametrize("solution", [True, "true", "True"])
def test_a_solution_that_is_true_is_answered_by_true(solution, reply):
    rows = [{"prompt": "is water wet?", "solution": solution}]
    prompts, _ = started(rows=rows, split_dataset_ratio=0)
    assert prompts.step(reply).won
    prompts, _ = started(rows=rows, split_dataset_ratio=0)
    assert not prompts.step("1").won
    prompts, _ = started(rows=rows, split_dataset_ratio=0)
    assert not prompts.step("false").won


def test_solutions_that_python_calls_equal_are_kept_apart():
    found = [
        splits(kwargs_of(rows=[{"prompt": "x", "solution": solution}], split_dataset_ratio=0)).train[0].solution
        for solution in (1, True, 1.0, "1")
    ]
    assert found == ["1", "true", "1.0", "1"]


def test_ratio_0_asks_the_same_and_one_prompt_cannot_be_split():
    assert asked(kwargs_of(rows=ROWS, split_dataset_ratio=0), "train") == asked(
        kwargs_of(rows=ROWS, split_dataset_ratio=0), "test"
    )
    with pytest.raises(KwargsError, match=r"split_dataset_ratio: 0.1 of 1 prompts leaves none"):
        started(rows=ROWS[:1])


def test_a_folder_may_bring_its_own_test_file_and_is_read_again_when_it_changes(tmp_path):
    name = folder(tmp_path, train=ROWS[:3])
    assert len(asked(kwargs_of(tmp_path, data=name, split_dataset_ratio=0.4), "test")) == 2
    folder(tmp_path, test=ROWS[3:])
    assert set(asked(kwargs_of(tmp_path, data=name), "train")) == {"question 0", "question 1", "question 2"}
    assert len(asked(kwargs_of(tmp_path, data=name), "test")) == 17


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"solution": "7"}, "record: want a column prompt, messages, .*, got solution"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "exactly one of prompt and messages"),
        ({"prompt": " "}, "got an empty one"),
        ({"prompt": 3}, "prompt: "),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "want one user message"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "robot"}]}, "messages.1.role: want 'system'"),
        ({"messages": [{"role": "system", "content": "a"}]}, "want one user message"),
        ([], "record: "),
    ],
)
def test_a_spoilt_row_is_named_with_its_line(row, words, tmp_path):
    name = folder(tmp_path, train=[ROWS[0], row])
    with pytest.raises(KwargsError, match=f"train.jsonl, line 2.*{words}"):
        asked(kwargs_of(tmp_path, data=name), "train")


def test_a_folder_without_rows_or_without_the_file_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(KwargsError, match=r"want one file of rows \(.jsonl, .*got an empty folder"):
        asked(kwargs_of(tmp_path, data="set"), "train")
    folder(tmp_path, train=[])
    with pytest.raises(KwargsError, match=r"train.jsonl holds no rows"):
        asked(kwargs_of(tmp_path, data="set"), "train")


def test_messages_are_one_question_and_an_assistants_reply_is_left_out():
    said = [("system", "Be brief."), ("user", "3 plus 4?"), ("assistant", "7")]
    messages = [{"role": role, "content": content} for role, content in said]
    _, seen = started(rows=[{"messages": messages, "solution": "7"}], split_dataset_ratio=0)
    assert seen.task == "Be brief.\n\n3 plus 4?"


def test_rows_that_python_calls_equal_are_kept_apart():
    rows = [{"prompt": "x", "solution": solution, "label": label} for solution, label in ((1, 1), (1.0, 1), (1, True))]
    found = [splits(kwargs_of(rows=[row], split_dataset_ratio=0)).train[0] for row in rows]
    assert [(question.solution, str(question.row["label"])) for question in found] == [
        ("1", "1"), ("1.0", "1"), ("1", "True"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"rows": ROWS, "arithmetic": {}}, "want one of data, rows and arithmetic, got rows and arithmetic"),
        ({"arithmetic": {"max_operand": 51}}, "arithmetic.max_operand"),
        ({"rewards": {"reward_funcs": ["a", "a"]}}, "rewards: "),
        ({"max_turns": 2}, "max_turns: "),
        ({"data": "set"}, "ENV_SERVICE_DATA_ROOT"),
    ],
)
def test_kwargs_that_mean_nothing_are_refused(kwargs, words):
    with pytest.raises(KwargsError, match=words):
        kwargs_of(**kwargs)


def test_accuracy_wants_a_solution_and_a_row_without_choices_takes_any_reply():
    rows = [{"prompt": "say something", "mood": "any"}]
    with pytest.raises(KwargsError, match=r"accuracy needs .* row, 1 rows have none .* first asks 'say something'"):
        started(rows=rows, split_dataset_ratio=0)
    prompts, _ = started(rows=rows, split_dataset_ratio=0, rewards={"reward_funcs": ["format"]})
    outcome = prompts.step("anything")
    assert (outcome.reward, outcome.won, outcome.action_valid) == (0.0, False, True)


def test_the_reward_is_the_weighted_sum_and_lengths_come_from_the_caller():
    rewards = {"reward_funcs": ["accuracy", "soft_overlong"], "reward_weights": [2.0, 0.5], "soft_cache_length": 4}
    kwargs = {"rows": ROWS[:1], "split_dataset_ratio": 0, "rewards": {**rewards, "soft_max_length": 10}}
    assert started(**kwargs)[0].answer("0", 8).rewards == (1.0, -0.5)
    assert started(**kwargs)[0].answer("0", 8).reward == 1.75
    assert started(**kwargs)[0].step("0").reward == 2.0


def test_one_reply_ends_the_session_and_its_state_is_the_question_and_the_reply():
    prompts = Prompts(kwargs_of())
    episode = Episode(prompts, prompts.kwargs)
    first = episode.reset(3, "test")
    assert episode.reset(3, "test").state_key == first.state_key
    stepped = episode.step(1, "5", 2)
    assert (stepped.terminated, stepped.truncated) == (True, False)
    assert stepped.observation.state_key != first.state_key
    assert started(3, "test")[1] == started(3, "test")[1]


def test_rows_without_a_solution_are_found_whichever_is_drawn():
    rows = [*ROWS, {"prompt": "a"}, {"prompt": "b", "solution": "  "}, {"prompt": "c", "solution": None}]
    for seed in range(3):
        with pytest.raises(KwargsError, match=r"needs a solution in every row, 3 rows have none or an empty one"):
            started(seed, rows=rows)
    started(rows=rows, rewards={"reward_funcs": ["format"]})


def test_test_prompts_that_stand_in_training_are_counted(tmp_path: Path):
    test = [
        {"prompt": text, "solution": 1}
        for text in ("question 3", "question  4", "QUESTION 5 ", "another", "question 3")
    ]
    data = folder(tmp_path, train=ROWS, test=test)
    prompts = Prompts(kwargs_of(tmp_path, data=data))
    prompts.reset(0, "train")
    assert prompts.warnings() == (
        "2 of 5 test prompts stand in the training prompts too",
        "2 of 5 test prompts stand in the training prompts too, but for case and white space",
    )
    apart = Prompts(kwargs_of(tmp_path, data=folder(tmp_path, train=ROWS, test=[{"prompt": "x", "solution": 1}])))
    apart.reset(0, "train")
    assert apart.warnings() == ()


def test_prompts_that_differ_in_case_and_spaces_are_held_out_together():
    rows = [{"prompt": form.format(n), "solution": n} for n in range(20) for form in ("What is {}?", "what  is {}? ")]
    kwargs = kwargs_of(rows=rows, split_dataset_ratio=0.3)
    train, test = ({" ".join(text.lower().split()) for text in asked(kwargs, split)} for split in ("train", "test"))
    assert (len(train), len(test), train & test) == (14, 6, set())


class Talkative(Prompts):
    said: object = ()

    def warnings(self):
        return self.said


def test_warnings_of_an_environment_are_texts_and_few():
    episode = Episode(talk := Talkative(kwargs_of()), talk.kwargs)
    talk.said = [str(n) for n in range(40)]
    assert len(episode.warnings()) == 16
    talk.said = [1]
    with pytest.raises(ContractError, match=r"warnings\(\)\[0\]"):
        episode.warnings()


@pytest.mark.parametrize(("solution", "right", "wrong"), [(True, "True", "1"), (False, "<answer>false</answer>", "0")])
def test_a_solution_that_is_a_truth_value_is_its_word_and_is_told(solution: bool, right: str, wrong: str):
    prompts, _ = started(rows=[{"prompt": "is it?", "solution": solution}], split_dataset_ratio=0)
    assert prompts.answer(right, 1).won
    assert not prompts.answer(wrong, 1).won
    assert prompts.warnings() == ("the solution of 1 rows is true or false, no text: want it as the reply's word",)
