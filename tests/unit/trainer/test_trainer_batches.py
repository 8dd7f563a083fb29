"""A batch's description of itself: manifest, staleness, tokens, record, archive."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import structs
from trainer_payloads import episode, payload, scores_bytes, step

from services.advantage.service import NOTHING
from services.contracts.archive import packed, read_archive
from services.contracts.job import WarmStart, parse_spec
from services.contracts.messages import encode
from services.contracts.metrics import METRICS
from services.contracts.policy import PolicyAck
from services.trainer.batch.batches import Batch, last_cursor, staleness, teaches_nothing, training_group
from services.trainer.batch.metrics import Timing, append_record, batch_record, cut_records
from services.trainer.errors import JobFailed
from services.trainer.groups.payloads import Payload, payload_of
from services.trainer.phases.warmstart import random_group

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
    with pytest.raises(JobFailed, match="missing in Redis"):
        payload_of("g", None, [good])


def test_a_record_adds_the_groups_up():
    learner = {"kl": 0.25, "entropy": 1.5, "mismatch_kl": 0.001}
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


def test_a_record_shows_the_kl_of_the_rewards_per_token():
    scored = replace(batch(), kl=[[0.5, -0.25, 1.0], [4.25]])  # of 11 tokens
    assert batch_record(scored, {"kl": 0.0}, Timing(1.0, 2.0, 1.0))["kl"] == pytest.approx(0.5)


def test_everything_in_a_record_is_a_listed_metric_and_everything_listed_is_in_a_record():
    learner = dict.fromkeys((metric.name for metric in METRICS if metric.learner), 1.0)
    ack = PolicyAck(replica="r", version=5, engine="fake", load_s=0.5, pause_s=0.25)
    record = batch_record(replace(batch(), passed_over=3), learner, Timing(1.0, 2.0, 1.0, ack), usual=4.0)
    assert {"at_unix_s", *record} == {metric.name for metric in METRICS}
    assert (record["load_s"], record["pause_s"]) == (0.5, 0.25)
    assert (record["length_ratio"], record["passed_over_groups"]) == (0.5, 3)


def test_the_times_of_a_replica_that_serves_another_version_are_left_out():
    later = PolicyAck(replica="r", version=6, engine="fake", load_s=0.5, pause_s=0.25)
    assert "load_s" not in batch_record(batch(), {}, Timing(0.0, 2.0, 1.0, later))
    assert "load_s" not in batch_record(batch(), {}, Timing(0.0, 2.0, 1.0))


@pytest.mark.parametrize("name", sorted(NOTHING | DIAGNOSTICS))
def test_whatever_the_advantage_service_measures_is_read(name: str):
    def group(value: float) -> Payload:
        return payload("g", 0, [[step(0)], [step(0)]], {**NOTHING, **DIAGNOSTICS, name: value})

    def seen(one: Payload) -> object:
        return batch_record(Batch(0, [one]), {}, Timing(0.0, 0.0, 0.0)), teaches_nothing(one)

    assert seen(group(0.0)) != seen(group(2.0))


def test_what_rollout_waited_for_is_divided_as_its_episodes_waited():
    first, second = batch().groups
    slow = replace(
        first, episodes=[structs.replace(one, generate_s=3.0, env_s=1.0, moments=b"") for one in first.episodes]
    )
    idle = replace(second, episodes=[structs.replace(one, generate_s=0.0, env_s=0.0) for one in second.episodes])
    record = batch_record(Batch(4, [slow, idle]), {}, Timing(wait_s=8.0, train_s=0.0, publish_s=0.0))
    assert (record["wait_generate_s"], record["wait_env_s"]) == (6.0, 2.0)
    assert (record["episode_generate_s"], record["episode_env_s"]) == (1.5, 0.5)
    nothing = batch_record(Batch(4, [idle]), {}, Timing(wait_s=8.0, train_s=0.0, publish_s=0.0))
    assert (nothing["wait_generate_s"], nothing["wait_env_s"], nothing["episode_env_s"]) == (0, 0, 0)


def test_the_failed_attempts_are_those_before_the_one_that_was_complete():
    first, second = batch().groups
    again = replace(first, episodes=[structs.replace(one, attempt=3) for one in first.episodes])
    assert batch_record(Batch(4, [again, second]), {}, Timing(0.0, 0.0, 0.0))["failed_attempts"] == 2


def test_the_mean_of_a_reward_function_is_over_its_votes():
    first, nan = payload("g", 0, [[step(0)], [step(0)], [step(0)]], {**NOTHING, **DIAGNOSTICS}), math.nan
    values = [(1.0, nan, nan), (nan, 4.0, nan), (2.0, 6.0, nan)]
    steps = [structs.replace(step(0), rewards=one) for one in values]
    episodes = [structs.replace(one, steps=[own]) for one, own in zip(first.episodes, steps, strict=True)]
    record = batch_record(Batch(0, [replace(first, episodes=episodes)]), {}, Timing(0.0, 0.0, 0.0), ["a", "b", "c"])
    assert (record["reward_a"], record["reward_b"], "reward_c" in record) == (1.5, 5.0, False)


def test_success_counts_episodes_that_crashed_their_environment():
    first, second = batch().groups
    again = replace(first, episodes=[structs.replace(one, attempt=3, crashes=2) for one in first.episodes])
    record = batch_record(Batch(4, [again, second], crashes=1), {}, Timing(0.0, 0.0, 0.0))
    assert (record["episodes"], record["crashed_episodes"]) == (4, 3)
    assert record["success"] == pytest.approx(2 / 7)


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


def test_a_record_has_the_figures_of_each_member():
    members = {7: "far", 9: "near"}
    record = batch_record(batch(), {}, Timing(1.0, 2.0, 1.0), member_of=members.__getitem__)
    assert (record["success/far"], record["return/near"], record["episodes/near"]) == (0.5, 0.5, 2)
    assert not any("/" in name for name in batch_record(batch(), {}, Timing(1.0, 2.0, 1.0)))


def test_a_training_group_is_of_the_member_at_its_cursor_whoever_opens_it():
    rows = [{"size": [3]}, {"size": [4]}]
    members = [{"member": "far", "environment_rows": rows}, {"member": "near", "train_split": "other"}]
    spec = parse_spec(
        {"model": {"scratch": {}}, "environment": {"mixture": members}, "rollout": {"max_completion_length": 6}}
    )
    session = SimpleNamespace(job="j", spec=spec, progress=SimpleNamespace(batch=0))
    groups = [training_group(session, cursor) for cursor in range(20)]
    assert groups == [training_group(session, cursor) for cursor in range(20)]
    assert {group.member for group in groups} == {"far", "near"}
    for group in groups:
        far = group.member == "far"
        assert group.environment_kwargs == (rows[group.task_seed % 2] if far else {})
        assert group.split == ("train" if far else "other")
    assert [random_group(session, WarmStart(), cursor).member for cursor in range(20)] != [one.member for one in groups]
