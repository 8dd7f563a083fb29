"""What a batch says of itself: manifest, staleness, tokens, record, archive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from trainer_payloads import episode, payload, scores_bytes, step

from services.contracts.archive import packed, read_archive
from services.contracts.messages import encode
from services.trainer.batch.batches import Batch, last_cursor, staleness
from services.trainer.batch.metrics import Timing, append_record, batch_record, cut_records
from services.trainer.errors import JobFailed
from services.trainer.groups.payloads import payload_of

DIAGNOSTICS = {
    "episodes": 2.0, "steps": 4.0, "won": 1.0, "return_sum": 1.0, "invalid_steps": 1.0,
    "cut_prompts": 3.0,
    "abs_episode_advantage_sum": 3.0, "abs_step_advantage_sum": 1.0, "step_groups": 2.0, "step_group_largest": 3.0,
    "shared_anchor_rows": 3.0, "useful_anchor_rows": 2.0, "aliased_anchor_rows": 3.0,
    "step_group_rows_1": 1.0, "step_group_rows_2": 3.0,
}  # fmt: skip


def batch() -> Batch:
    first = payload("g7", 7, [[step(0, version=3), step(1, version=4)], [step(0, version=4)] * 1], DIAGNOSTICS)
    second = payload("g9", 9, [[step(0, version=4, tokens=5)], []], {**DIAGNOSTICS, "step_group_largest": 2.0})
    return Batch(4, [first, second])


def test_a_manifest_names_groups_in_order_with_the_hashes_of_their_payloads():
    manifest = json.loads(batch().manifest())
    assert manifest["batch"] == 4
    assert [(group["id"], group["cursor"]) for group in manifest["groups"]] == [("g7", 7), ("g9", 9)]
    assert {len(group["episodes_sha"]) for group in manifest["groups"]} == {64}
    assert batch().manifest() == batch().manifest()
    assert last_cursor(batch().manifest()) == 9


def test_a_manifest_changes_with_any_payload():
    changed = payload("g9", 9, [[step(0, version=4, tokens=5, reward=0.5)], []], DIAGNOSTICS)
    assert Batch(4, [batch().groups[0], changed]).manifest() != batch().manifest()


def test_staleness_is_that_of_the_oldest_token():
    first, second = batch().groups
    assert (staleness(first, 4), staleness(second, 4)) == (1, 0)
    assert staleness(payload("g", 0, [[]]), 4) == 0


def test_sampled_tokens_are_counted_on_the_recorded_bytes():
    assert [group.sampled_tokens for group in batch().groups] == [6, 5]


def test_scores_of_other_episodes_are_refused():
    good, other = encode(episode("g", 0, [step(0)])), encode(episode("g", 0, [step(0, reward=1.0)]))
    with pytest.raises(JobFailed, match="not those that were scored"):
        payload_of("g", scores_bytes("g", 0, [good], 1, {}), [other])
    with pytest.raises(JobFailed, match="gone from Redis"):
        payload_of("g", None, [good])


def test_a_record_adds_the_groups_up():
    learner = {"kl": 0.25, "entropy": 1.5, "mismatch_kl": 0.001, "something_else": 9.0}
    record = batch_record(batch(), learner, Timing(wait_s=1.0, train_s=2.0, publish_s=1.0))
    assert (record["batch"], record["version"], record["env_steps"]) == (4, 5, 8)
    assert (record["success"], record["return_mean"], record["length_mean"]) == (0.5, 0.5, 2.0)
    assert record["invalid_share"] == 0.25
    assert record["cut_prompt_share"] == 0.75
    assert (record["episode_advantage_share"], record["step_advantage_share"]) == (0.75, 0.25)
    assert (record["useful_anchor_share"], record["step_group_size_mean"]) == (0.5, 2.0)
    assert record["step_group_size_max"] == 3
    assert record["aliased_anchor_share"] == 0.75
    assert [record[f"step_group_share_{least}"] for least in (1, 2, 4)] == [0.25, 0.75, 0.0]
    assert (record["staleness_mean"], record["staleness_max"]) == (0.5, 1)
    assert (record["tokens"], record["tokens_per_s"]) == (11, 2.75)
    assert (record["kl"], record["mismatch_kl"]) == (0.25, 0.001)
    assert "something_else" not in record


def test_without_any_advantage_both_shares_are_zero():
    silent = {**DIAGNOSTICS, "abs_episode_advantage_sum": 0.0, "abs_step_advantage_sum": 0.0}
    record = batch_record(Batch(0, [payload("g", 0, [[step(0)]], silent)]), {}, Timing(0.0, 0.0, 0.0))
    assert (record["episode_advantage_share"], record["step_advantage_share"], record["tokens_per_s"]) == (0, 0, 0)


def test_restored_metrics_keep_the_lines_that_the_checkpoint_covers(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    cut_records(path, 3)
    for number in range(3):
        append_record(path, {"batch": number})
    with path.open("a") as file:
        file.write('{"batch": 3, "los')  # killed while writing
    cut_records(path, 2)
    append_record(path, {"batch": 2})
    assert [json.loads(line)["batch"] for line in path.read_text().splitlines()] == [0, 1, 2]


def test_an_archive_gives_the_messages_back_and_is_the_same_when_written_again(tmp_path: Path):
    path = tmp_path / "batch-00004.msgpack.zlib"
    path.write_bytes(packed([group.encoded for group in batch().groups]))
    assert path.read_bytes() == packed([group.encoded for group in batch().groups])
    groups = read_archive(path)
    assert [scored.group_id for scored, _ in groups] == ["g7", "g9"]
    assert groups[0][1] == batch().groups[0].episodes
