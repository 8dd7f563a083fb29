"""Reading the trainer's archive: every figure of a step comes from the row that belongs to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from services.api.artifacts.rollouts import RolloutArchive, RolloutFilter, _words
from services.api.rest.problems import Problem
from tests.model_folders import write_model
from tests.rollout_archives import episode, scored, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, 0, [(scored("tabc", [0, 1, 0]), [episode(0, [0.0, 1.0]), episode(1, [0.0])])])
    write(tmp_path, 1, [(scored(name, [0]), [episode(0, [1.0])]) for name in ("tb", "tc")])
    (tmp_path / "rollouts" / ".batch-00002.msgpack.zlib.77").write_bytes(b"half")
    return tmp_path


def test_every_step_has_its_own_figures_and_the_other_visits_to_its_state(folder: Path) -> None:
    detail = RolloutArchive().detail(folder, "tabc")
    assert (detail.batch, detail.episodes, detail.won, detail.steps) == (0, 2, 1, [2, 1])
    flat = [one for played in detail.played for one in played.steps]
    assert [(one.advantage, one.episode_advantage, one.step_advantage, one.step_return) for one in flat] == [
        (0.0, 10.0, 20.0, 30.0),
        (1.0, 11.0, 21.0, 31.0),
        (2.0, 12.0, 22.0, 32.0),
    ]
    assert [[(m.k, m.step_index) for m in one.step_group_members] for one in flat] == [
        [(0, 0), (1, 0)],
        [(0, 1)],
        [(0, 0), (1, 0)],
    ]
    assert (flat[1].prompt, flat[1].response, flat[1].versions, flat[1].logprob_sum) == ("7 8", "1 1", [3], -0.75)


def names(folder: Path, *, offset: int = 0, limit: int = 10, **wanted: Any) -> list[str]:
    page = RolloutArchive().page(folder, RolloutFilter(**wanted), offset=offset, limit=limit)
    return [one.group_id for one in page.rollouts]


def test_groups_come_in_order_of_batch_and_by_pages(folder: Path) -> None:
    assert RolloutArchive().batches(folder) == [0, 1]
    assert names(folder) == ["tabc", "tb", "tc"]
    assert names(folder, offset=1, limit=1) == ["tb"]
    assert names(folder, batch=1) == ["tb", "tc"]
    assert names(folder / "none") == []
    first = RolloutArchive().page(folder, RolloutFilter(), offset=0, limit=2)
    assert (first.next_offset, first.batches) == (2, [0, 1])
    assert RolloutArchive().page(folder, RolloutFilter(), offset=2, limit=2).next_offset is None


def test_a_batch_that_is_trained_again_is_read_again(folder: Path) -> None:
    archive = RolloutArchive()
    assert [one.group_id for one in archive.page(folder, RolloutFilter(batch=1), offset=0, limit=9).rollouts] == [
        "tb",
        "tc",
    ]
    write(folder, 1, [(scored("again", [0]), [episode(0, [1.0])])])
    found = archive.page(folder, RolloutFilter(batch=1), offset=0, limit=9).rollouts
    assert [one.group_id for one in found] == ["again"]


def test_groups_are_filtered_by_success_and_length(folder: Path) -> None:
    assert names(folder, won="some") == ["tabc"]
    assert names(folder, won="all") == ["tb", "tc"]
    assert names(folder, won="none") == []
    assert names(folder, min_length=2) == ["tabc"]
    assert names(folder, max_length=1) == ["tabc", "tb", "tc"]
    assert names(folder, min_length=2, max_length=0) == []


def test_rollouts_of_an_evaluation_are_listed_apart_and_shown_alike(folder: Path) -> None:
    write(folder, 7, [(scored("e1", [0]), [episode(0, [0.0])])], name="eval-after-00007")
    page = RolloutArchive().page(folder, RolloutFilter(purpose="evaluation"), offset=0, limit=9)
    assert [(one.group_id, one.purpose, one.label, one.batch) for one in page.rollouts] == [
        ("e1", "evaluation", "after", 7)
    ]
    assert [(panel.label, panel.version) for panel in page.panels] == [("after", 7)]
    assert "e1" not in names(folder)
    assert names(folder, purpose="evaluation", label="before") == []
    assert RolloutArchive().detail(folder, "e1").label == "after"


def test_what_is_not_there_is_404_and_what_is_no_archive_is_500(folder: Path) -> None:
    with pytest.raises(Problem, match="no rollout 'tx'"):
        RolloutArchive().detail(folder, "tx")
    with pytest.raises(Problem, match="no archived batch '9'"):
        names(folder, batch=9)
    (folder / "rollouts" / "batch-00003.msgpack.zlib").write_bytes(b"junk")
    with pytest.raises(Problem, match="cannot be read"):
        names(folder, batch=3)


def test_tokens_are_written_as_transformers_loads_the_tokenizer(tmp_path: Path) -> None:
    """A token may stand in tokenizer_config.json or added_tokens.json alone."""
    base = write_model(tmp_path / "base")
    config = json.loads((base / "tokenizer_config.json").read_bytes())
    config["added_tokens_decoder"] = {"512": {"content": "<tool>", "special": False}}
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    ids = [512, 511]
    assert _words(tmp_path)(ids) == "<tool><|im_end|>"
    assert _words(tmp_path)(ids) == AutoTokenizer.from_pretrained(base).decode(ids)
