"""Data sets of every usual form: kinds of files, names of columns, conversations, and what is said of spoilt ones."""

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from gigpo.env.environment import KwargsError
from gigpo.env.tables import read_rows, split_files
from services.env.environments.prompts.environment import Prompts, PromptsKwargs, splits
from services.env.environments.prompts.questions import Splits, folder_splits
from services.env.environments.prompts.rows import Row
from services.env.workers.registry import valid_kwargs

ROWS = [{"prompt": f"What is {n} + 1?", "solution": str(n + 1), "level": n} for n in range(12)]


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def as_arrow(rows: list[dict[str, Any]]) -> bytes:
    sink, table = io.BytesIO(), pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    return sink.getvalue()


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


WRITTEN: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "jsonl": as_lines,
    "ndjson": as_lines,
    "json": lambda rows: json.dumps(rows, indent=1).encode(),
    "csv": as_csv,
    "tsv": lambda rows: as_csv(rows, "\t"),
    "parquet": as_parquet,
    "arrow": as_arrow,
}
PACKED = ("jsonl", "ndjson", "json", "csv", "tsv")


def held(folder: Path, columns: dict[str, str] | None = None) -> Splits:
    return folder_splits(folder, 0.25, (columns or {}).items())


def one(row: Any, tmp_path: Path, **columns: str) -> Any:
    (tmp_path / "train.jsonl").write_bytes(as_lines([row]))
    return folder_splits(tmp_path, 0, columns.items()).train[0]


@pytest.mark.parametrize("kind", [*WRITTEN, *(f"{kind}.gz" for kind in PACKED)])
def test_every_kind_of_file_asks_the_same_questions(kind, tmp_path):
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "train.jsonl").write_bytes(as_lines(ROWS))
    body = WRITTEN[kind.removesuffix(".gz")](ROWS)
    (tmp_path / f"anything.{kind}").write_bytes(gzip.compress(body) if kind.endswith(".gz") else body)
    (tmp_path / "own").mkdir()
    (tmp_path / f"anything.{kind}").rename(tmp_path / "own" / f"anything.{kind}")
    wanted, found = held(tmp_path / "lines"), held(tmp_path / "own")
    assert {(each.text, each.solution) for each in found.test} == {(each.text, each.solution) for each in wanted.test}
    assert {(each.text, each.solution) for each in found.train} == {(each.text, each.solution) for each in wanted.train}
    if "sv" not in kind:  # there every cell is a text
        assert [dict(each.row) for each in found.train] == [dict(each.row) for each in wanted.train]
    assert found.warnings == ()


HUB = {
    "README.md": b"# A data set",
    "data/train-00000-of-00002.parquet": as_parquet(ROWS[:5]),
    "data/train-00001-of-00002.parquet": as_parquet(ROWS[5:9]),
    "data/test-00000-of-00001.parquet": as_parquet(ROWS[9:]),
}
SAVED = {
    "dataset_dict.json": b'{"splits": ["train", "validation"]}',
    "train/dataset_info.json": b"{}",
    "train/state.json": b"{}",
    "train/data-00000-of-00002.arrow": as_arrow(ROWS[:5]),
    "train/data-00001-of-00002.arrow": as_arrow(ROWS[5:9]),
    "validation/dataset_info.json": b"{}",
    "validation/data-00000-of-00001.arrow": as_arrow(ROWS[9:]),
}
ONE_SAVED = {"state.json": b"{}", "dataset_info.json": b"{}", "data-00000-of-00001.arrow": as_arrow(ROWS)}


@pytest.mark.parametrize(("files", "tests"), [(HUB, 3), (SAVED, 3), (ONE_SAVED, 0)])
def test_folders_of_hugging_face_are_read(files, tests, tmp_path):
    for name, body in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(body)
    train, test = split_files(tmp_path)
    assert sum(1 for file in train for _ in read_rows(file)) == len(ROWS) - tests
    assert sum(1 for file in test for _ in read_rows(file)) == tests
    assert len(held(tmp_path).test) == (tests or 3)


SHAPES = {
    "gsm8k": (
        {"question": "1+1?", "answer": "so\n#### 2"},
        "by their columns' names: prompt = question, solution = answer",
    ),
    "math": ({"problem": "1+1?", "solution": r"so \boxed{2}", "level": "1"}, "prompt = problem, solution = solution"),
    "math500": (
        {"problem": "1+1?", "solution": "long", "answer": "2", "unique_id": "x"},
        "prompt = problem, solution = answer",
    ),
    "trl": (
        {"prompt": [{"role": "user", "content": "1+1?"}], "ground_truth": "2"},
        "TRL's: prompt = prompt, solution = ground_truth",
    ),
    "verl": (
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": "1+1?"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "2"},
            "extra_info": {"index": 7},
        },
        "verl's: prompt = prompt, solution = reward_model.ground_truth",
    ),
    "swift": (
        {"messages": [{"role": "user", "content": "1+1?"}], "solution": "2"},
        "ms-swift's: prompt = messages, solution = solution",
    ),
    "swift query": ({"query": "1+1?", "response": "2"}, "ms-swift's: prompt = query, solution = response"),
    "alpaca": (
        {"instruction": "1+1?", "input": "", "output": "2"},
        "ms-swift's: prompt = instruction, solution = output",
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "?"}], "answer": "2"},
        "ShareGPT's: prompt = conversations, solution = answer",
    ),
    "mmlu": ({"question": "1+1?", "choices": ["1", "2", "3", "4"], "answer": 1}, "choices = choices"),
}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_shapes_of_other_trainers_are_recognised_and_told(shape, kind, tmp_path):
    row, said = SHAPES[shape]
    (tmp_path / f"train.{kind}").write_bytes(WRITTEN[kind]([row]))
    found = folder_splits(tmp_path, 0)
    assert found.train[0].text == "1+1?"
    assert found.train[0].row == row
    assert found.unsolved == 0
    (warning,) = found.warnings
    assert warning.startswith(f"train.{kind}: rows are read ")
    assert said in warning


@pytest.mark.parametrize("shape", ["gsm8k", "math", "math500", "trl", "verl", "swift", "mmlu"])
def test_an_answer_of_such_a_row_is_right(shape, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_bytes(as_lines([SHAPES[shape][0]]))
    kwargs = valid_kwargs(Prompts, json.dumps({"data": "data", "split_dataset_ratio": 0}), str(tmp_path))
    for reply, right in (("<answer>2</answer>", True), ("<answer>3</answer>", False)):
        prompts = Prompts(kwargs)
        prompts.reset(0, "train")
        assert prompts.step(reply).won is right


def test_rows_of_a_job_may_have_these_shapes_too():
    kwargs = valid_kwargs(Prompts, json.dumps({"rows": [SHAPES["verl"][0]], "split_dataset_ratio": 0}))
    assert isinstance(kwargs, PromptsKwargs)
    (question,) = splits(kwargs).train
    assert (question.text, question.solution, question.row["ability"]) == ("1+1?", "2", "math")


def test_a_job_may_name_columns_and_a_wrong_name_is_refused_with_those_that_are_there(tmp_path):
    row = {"q": "1+1?", "meta": {"gold": 2}, "solution": "other", "sys": "Be brief.", "options": ["1", "2"]}
    found = one(row, tmp_path, prompt="q", solution="meta.gold", system="sys", choices="options")
    assert (found.text, found.solution, found.choices) == ("Be brief.\n\n1+1?", "2", ("1", "2"))
    with pytest.raises(
        KwargsError, match=r"train.jsonl, line 1: record: columns.prompt: want one of .* q, meta.*got Q"
    ):
        one(row, tmp_path, prompt="Q")


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"columns": {"prompt": "q"}}, "columns: want data with it"),
        ({"columns": {"reply": "q"}}, "columns.reply"),
        ({"data": "data", "columns": {"prompt": "q", "messages": "m"}}, "want one of prompt and messages"),
    ],
)
def test_columns_that_mean_nothing_are_refused(kwargs, words, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(KwargsError, match=words):
        valid_kwargs(Prompts, json.dumps(kwargs), str(tmp_path))


TURNS = [
    {"role": "system", "content": "Use the calculator."},
    {"role": "user", "content": [{"type": "text", "text": "2*3"}, {"type": "text", "text": "?"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "function": {"name": "times", "arguments": '{"a": 2, "b": 3}'}}],
    },
    {"role": "tool", "content": "6", "tool_call_id": "1"},
    {"role": "assistant", "content": "It is 6."},
    {"role": "user", "content": "And 4*3?"},
]


def test_a_conversation_says_who_speaks_and_keeps_tools(tmp_path):
    found = one({"messages": [*TURNS, {"role": "assistant", "content": "12"}], "solution": 12}, tmp_path)
    call = json.dumps({"name": "times", "arguments": '{"a": 2, "b": 3}'})
    assert found.text == "\n\n".join(
        (
            "Use the calculator.",
            "user: 2*3?",
            f"assistant: <tool_call>{call}</tool_call>",
            "tool: 6",
            "assistant: It is 6.",
            "user: And 4*3?",
        )
    )
    assert "12" not in found.text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image", "image": "x"}]}]}, "pictures and sounds are not"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role: want"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "want one user message or more"),
        ({"question": "x", "answer": ["a", "b"]}, "solution"),
        ({"text": "x", "label": 1}, "want a column prompt, .* got text, label"),
        ({"question": "  ", "answer": 1}, "got an empty one"),
    ],
)
def test_a_row_that_means_nothing_is_one_sentence_with_its_place(row, words, tmp_path):
    with pytest.raises(KwargsError, match=rf"^data: train.jsonl, line 1: [^\n]*{words}"):
        one(row, tmp_path)


SPOILT = {
    "train.jsonl": (as_lines(ROWS[:1]) + b'{"prompt": "x"', r"train.jsonl, line 2 is no JSON"),
    "train.json": (b'[{"prompt": "x"}, {"prompt"', r"train.json is no JSON after row 1"),
    "list.json": (b'[{"prompt": "x"}, 3]', r"list.json, row 2: record: want an object of columns, got 3"),
    "train.csv": (b"prompt,solution\na,1\nb,1,2\n", r"train.csv, line 3: want 2 cells, as many as columns, got 3"),
    "quote.csv": (b'prompt,solution\n"a,1\n', r"quote.csv, line 2 is no CSV"),
    "bytes.csv": (b"prompt,solution\n\xff\xfe,1\n", r"bytes.csv: want UTF-8 text"),
    "train.parquet": (b"PAR1 nothing", r"train.parquet is no Parquet file"),
    "train.arrow": (b"nothing of the kind", r"train.arrow is no Arrow file"),
    "train.jsonl.gz": (gzip.compress(as_lines(ROWS))[:-20], r"train.jsonl.gz is no whole gzip file"),
    "plain.jsonl.gz": (as_lines(ROWS), r"plain.jsonl.gz is no whole gzip file"),
    "empty.csv": (b"", r"empty.csv holds no rows"),
    "header.csv": (b"prompt,solution\n", r"header.csv holds no rows"),
    "twice.csv": (
        b"prompt,solution,solution\na,1,2\n",
        r"twice.csv, line 1: want columns that differ, got solution twice",
    ),
    "semicolons.csv": (b"prompt;solution\na;1\n", r"line 2: record: want a column prompt, .* got prompt;solution"),
    "sheet16.csv": ("prompt,solution\na,1\n".encode("utf-16"), r"sheet16.csv: want UTF-8 text"),
    "null.parquet": (
        as_parquet([ROWS[0], {"prompt": None}]),
        r"null.parquet, row 2: record: prompt: want a text or mes",
    ),
    "half.jsonl": (b'{"prompt": "\\ud800", "solution": "1"}\n', r"half.jsonl, line 1: want Unicode text, got half"),
    "deep.jsonl": (
        b'{"prompt": "a", "x": ' + b"[" * 9000 + b"]" * 9000 + b"}",
        r"deep.jsonl, line 1 is no JSON: maxim",
    ),
    "columns.json": (b'{"prompt": ["a", "b"], "solution": ["1", "2"]}', r"columns.json, line 1: messages.0: want"),
    "none.parquet": (as_parquet([ROWS[0]])[:0], r"none.parquet is no Parquet file"),
    "train-00000-of-00002.parquet": (as_parquet(ROWS), r"of-00002.parquet: want 2 shards, as its name says, got 1"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_file_is_one_sentence_with_file_and_place(name, tmp_path):
    body, words = SPOILT[name]
    (tmp_path / name).write_bytes(body)
    with pytest.raises(KwargsError, match=words):
        folder_splits(tmp_path, 0)


def test_a_csv_of_spreadsheets_with_a_mark_and_lines_within_cells_is_read(tmp_path):
    body = '\ufeffquestion,answer\r\n"1+1,\nis?","2"\r\nnext?,3\r\n'.encode()
    (tmp_path / "sheet.csv").write_bytes(body)
    assert {each.text for each in folder_splits(tmp_path, 0).train} == {"1+1,\nis?", "next?"}
    (tmp_path / "sheet.csv").write_bytes(body + b"bad\r\n")
    with pytest.raises(KwargsError, match=r"sheet.csv, line 5: want 2 cells"):
        folder_splits(tmp_path, 0)


WRITTEN_BY_OTHERS = {
    "spaces.csv": (b"prompt, solution\na, 1\n", " 1"),
    "mac.csv": (b"prompt,solution\ra,1\r", "1"),
    "mark.jsonl": (b"\xef\xbb\xbf" + as_lines([{"prompt": "a", "solution": 1}]), "1"),
    "nan.jsonl": (b'{"prompt": "a", "solution": NaN}\n', None),
    "nan.parquet": (as_parquet([{"prompt": "a", "solution": float("nan")}]), None),
    "long.jsonl": (
        b'{"prompt": "a", "solution": 123456789012345678901234567890}',
        "123456789012345678901234567890",
    ),
    "money.parquet": (as_parquet([{"prompt": "a", "solution": Decimal("2.50")}]), "2.50"),
    "two.jsonl.gz": (gzip.compress(b"\n") + gzip.compress(b'{"prompt": "a", "solution": "x"}'), "x"),
}
"""File -> its bytes, and the solution that is read."""


@pytest.mark.parametrize("name", WRITTEN_BY_OTHERS)
def test_what_other_programs_write_is_read_as_it_is_meant(name, tmp_path):
    body, solution = WRITTEN_BY_OTHERS[name]
    (tmp_path / name).write_bytes(body)
    found = folder_splits(tmp_path, 0)
    assert [(each.text, each.solution) for each in found.train] == [("a", solution)]
    assert found.unsolved == (solution is None)


def test_it_is_told_which_file_is_meant(tmp_path):
    for name in ("a.jsonl", "b.csv"):
        (tmp_path / name).write_bytes(as_lines(ROWS))
    with pytest.raises(KwargsError, match=r"want one file of rows .* got a.jsonl, b.csv"):
        folder_splits(tmp_path, 0)
    for name in ("train.jsonl", "train.csv"):
        (tmp_path / name).write_bytes(as_lines(ROWS))
    with pytest.raises(KwargsError, match=r"want the rows of a split in one file, .* got train.csv, train.jsonl"):
        folder_splits(tmp_path, 0)


def test_questions_are_kept_on_disk_and_read_when_they_are_asked(tmp_path):
    count, long = 2_000, "x" * 20_000
    with (tmp_path / "train.jsonl").open("wb") as file:
        for n in range(count):
            file.write(as_lines([{"prompt": f"{n} {long}", "solution": n}]))
    tracemalloc.start()
    try:
        found = folder_splits(tmp_path, 0.1)
        assert (len(found.train), len(found.test)) == (1_800, 200)
        assert found.train[17].text.endswith(long)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20  # the file has 40 MB
    finally:
        tracemalloc.stop()


def test_a_row_is_equal_to_one_of_the_same_values_alone():
    assert Row(prompt="x", solution=1) == Row(prompt="x", solution=1) != Row(prompt="x", solution=True)


def mixed(tmp_path: Path, **sets: float) -> PromptsKwargs:
    for name in sets:
        (tmp_path / name).mkdir(exist_ok=True)
        rows = [{"question": f"{name} {n}?", "answer": str(n)} for n in range(20)]
        (tmp_path / name / "train.jsonl").write_bytes(as_lines(rows))
    given = {"sets": [{"data": name, "weight": weight} for name, weight in sets.items()]}
    kwargs = valid_kwargs(Prompts, json.dumps(given), str(tmp_path))
    assert isinstance(kwargs, PromptsKwargs)
    return kwargs


def test_several_data_sets_are_asked_by_their_weights_and_a_seed_names_one_task(tmp_path):
    kwargs = mixed(tmp_path, small=1.0, large=3.0)
    for split in ("train", "test"):
        tasks = [Prompts(kwargs).reset(seed, split).task for seed in range(400)]
        assert tasks == [Prompts(kwargs).reset(seed, split).task for seed in range(400)]
        assert 250 < sum(task.startswith("large") for task in tasks) < 350
    prompts = Prompts(kwargs)
    prompts.reset(0, "train")
    assert {said.partition(":")[0] for said in prompts.warnings()} == {"small", "large"}


def test_a_reward_function_knows_the_data_set_of_a_row(tmp_path):
    prompts = Prompts(mixed(tmp_path, small=1.0, large=1.0))
    seen = []
    for seed in range(20):
        task = prompts.reset(seed, "train").task
        prompts._functions = [lambda completion: seen.append(completion.row["data_set"])]
        prompts.step("1")
        assert seen[-1] == task.partition(" ")[0]
    assert set(seen) == {"small", "large"}


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ([{"data": "a"}, {"data": "a"}], "sets: want different names, got 'a' twice"),
        ([{"data": "a", "weight": 0}], "sets.0.weight"),
        ([{"data": "none"}], "sets.0.data"),
        ([{"data": "a", "wieght": 1}], "sets.0.wieght"),
    ],
)
def test_data_sets_that_mean_nothing_are_refused(sets, words, tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(KwargsError, match=words):
        valid_kwargs(Prompts, json.dumps({"sets": sets}), str(tmp_path))
