"""The golden vectors: what the reference implementation returned, and where we differ on purpose.

Differences, each with the test that shows ours:
- a group of one episode gets 0 (the reference returns the raw score): p08, p09 here, and
  test_group_of_one_episode_gets_zero;
- time is step_index, not row order: p18;
- rows copied to fill a batch are not part of the statistics: p12;
- similarity without difflib's autojunk, which ignores frequent characters: p24.
Non-text anchors (p15) are keyed by the environment; here by Python equality, as the reference does.
"""

import difflib
import json
from pathlib import Path

import pytest
import torch

from gigpo_core import AdvantageConfig, Advantages, StepBatch, compute_advantages

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob("p*.json"))}
LONELY_GROUP = {"p08_one_trajectory_group", "p09_one_row_group"}
OTHER_TESTS = {"p12_duplicated_rows", "p18_row_order_is_time", "p24_similarity_long_text_quirk", "p40_hgpo_small"}
RUNS = [
    pytest.param(name, index, id=f"{name}-{index}")
    for name, case in CASES.items()
    if name not in OTHER_TESTS
    for index in range(len(case["runs"]))
]


def dense(labels):
    numbers = {}
    return torch.tensor([numbers.setdefault(label, len(numbers)) for label in labels])


def frozen(anchor):
    if isinstance(anchor, dict):
        return frozenset((name, frozen(value)) for name, value in anchor.items())
    return tuple(map(frozen, anchor)) if isinstance(anchor, list) else anchor


def golden_batch(case, keep=None):
    rows = case["rows"]
    keep = range(case["n_rows"]) if keep is None else keep
    pick = {name: [column[i] for i in keep] for name, column in rows.items()}
    anchor = dense([frozen(anchor) for anchor in pick["anchor_obs"]])
    return StepBatch(
        group_id=dense(pick["uid"]),
        episode_id=dense(list(zip(pick["uid"], pick["traj_uid"], strict=True))),
        step_index=torch.tensor(pick["t"]),
        anchor_key=torch.stack([anchor, -anchor], dim=1),
        reward=torch.tensor(pick["reward"], dtype=torch.float64),
        action_valid=torch.tensor(pick["action_valid"]) if "action_valid" in pick else None,
        anchor_text=pick["anchor_obs"],
    )


def golden_config(params, **changes):
    settings = {
        "advantage_estimator": "gigpo",
        "gigpo_step_advantage_weight": params["step_advantage_w"],
        "gamma": params["gamma"],
        "norm": {"mean_norm": "mean", "mean_std_norm": "mean_std"}[params["mode"]],
        "epsilon": params["epsilon"],
        "invalid_action_penalty": params["invalid_action_penalty_coef"],
        "anchor_similarity": params.get("similarity_thresh") if params["enable_similarity"] else None,
    }
    return AdvantageConfig(**(settings | changes))


def assert_golden(got, want, where=slice(None)):
    want = torch.tensor(want, dtype=torch.float64)
    torch.testing.assert_close(got[where], want[where], rtol=1e-7, atol=1e-7)


def lonely_rows(case):
    episodes = {}
    for uid, trajectory in zip(case["rows"]["uid"], case["rows"]["traj_uid"], strict=True):
        episodes.setdefault(uid, set()).add(trajectory)
    return torch.tensor([len(episodes[uid]) == 1 for uid in case["rows"]["uid"]])


@pytest.mark.parametrize(("name", "index"), RUNS)
def test_gigpo_equals_the_golden_vector(name, index):
    case = CASES[name]
    params, expected = case["runs"][index]["params"], case["runs"][index]["expected"]
    got = compute_advantages(golden_batch(case), golden_config(params))
    compared = ~lonely_rows(case)
    assert_golden(got.step_return, expected["step_return"])
    assert got.step_group.tolist() == expected["step_group"]
    assert_golden(got.step_advantage, expected["step_adv"])
    assert_golden(got.episode_advantage, expected["episode_adv_per_traj"], compared)
    assert bool((got.episode_advantage[~compared] == 0).all())
    total = torch.tensor(expected["episode_adv_per_traj"], dtype=torch.float64)
    total += params["step_advantage_w"] * torch.tensor(expected["step_adv"], dtype=torch.float64)
    torch.testing.assert_close(got.advantage[compared], total[compared], rtol=1e-7, atol=2e-7)


@pytest.mark.parametrize(("name", "index"), RUNS)
def test_votes_per_step_equal_the_golden_cross_step_statistics(name, index):
    case = CASES[name]
    params, expected = case["runs"][index]["params"], case["runs"][index]["expected"]
    got = compute_advantages(golden_batch(case), golden_config(params, episode_statistics="per_step"))
    compared = ~lonely_rows(case)
    assert_golden(got.episode_advantage, expected["episode_adv"], compared)
    assert_golden(got.advantage, expected["adv"], compared)


@pytest.mark.parametrize(("votes", "suffix"), [("per_episode", "_per_traj"), ("per_step", "")])
@pytest.mark.parametrize(("name", "index"), RUNS)
def test_grpo_and_rloo_equal_the_golden_baselines(name, index, votes, suffix):
    case = CASES[name]
    params, expected = case["runs"][index]["params"], case["runs"][index]["expected"]
    for estimator, fallback in (("grpo", f"episode_adv{suffix}"), ("rloo", None)):
        column = expected.get(f"{estimator}_adv{suffix}", expected.get(fallback))
        if column is not None:
            config = golden_config(
                params, advantage_estimator=estimator, episode_statistics=votes, anchor_similarity=None
            )
            assert_golden(compute_advantages(golden_batch(case), config).advantage, column, ~lonely_rows(case))


@pytest.mark.parametrize("index", range(6))
def test_p40_hgpo_equals_the_golden_vector(index):
    case = CASES["p40_hgpo_small"]
    params, expected = case["runs"][index]["params"], case["runs"][index]["expected_f32"]
    config = AdvantageConfig(
        "hgpo",
        gamma=params["gamma"],
        norm={"mean_norm": "mean", "mean_std_norm": "mean_std"}[params["mode"]],
        epsilon=params["epsilon"],
        hgpo_history=params["history_length"],
        hgpo_alpha=params["length_weight_alpha"],
        hgpo_base_group=params["base_group"],
        episode_statistics="per_step",
    )
    got = compute_advantages(golden_batch(case), config)
    # The reference has these only in float32.
    torch.testing.assert_close(got.step_return, torch.tensor(expected["step_return"]).double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(got.advantage, torch.tensor(expected["adv"]).double(), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("index", range(2))
def test_p24_frequent_characters_count_in_long_texts(index):
    case = CASES["p24_similarity_long_text_quirk"]
    params, expected = case["runs"][index]["params"], case["runs"][index]["expected"]
    got = compute_advantages(golden_batch(case), golden_config(params))
    texts = case["rows"]["anchor_obs"]
    leaders, labels = [], []
    for text in texts:
        ratios = [difflib.SequenceMatcher(None, text, one, autojunk=False).ratio() for one in leaders]
        hits = [label for label, ratio in enumerate(ratios) if ratio >= params["similarity_thresh"]]
        labels.append(hits[0] if hits else len(leaders))
        leaders += [] if hits else [text]
    assert got.step_group.tolist() == labels
    assert labels != expected["step_group"]


def test_every_golden_case_is_used():
    assert len(CASES) == 30
    assert CASES.keys() >= OTHER_TESTS | LONELY_GROUP


def test_p18_time_is_the_step_index_and_not_the_row_order():
    case = CASES["p18_row_order_is_time"]
    sorted_rows = sorted(range(case["n_rows"]), key=lambda i: (case["rows"]["traj_uid"][i], case["rows"]["t"][i]))
    for run in case["runs"]:
        shuffled = compute_advantages(golden_batch(case), golden_config(run["params"]))
        in_time = compute_advantages(golden_batch(case, sorted_rows), golden_config(run["params"]))
        assert torch.equal(shuffled.step_return[sorted_rows], in_time.step_return)
        assert torch.equal(shuffled.advantage[sorted_rows], in_time.advantage)
        reference = torch.tensor(run["expected"]["step_return"], dtype=torch.float64)
        assert not torch.allclose(shuffled.step_return, reference)


def test_p12_copied_rows_get_the_advantage_of_their_source_and_do_not_vote():
    case = CASES["p12_duplicated_rows"]
    sources = [i for i, source in enumerate(case["rows"]["dup_of"]) if source is None]
    for run in case["runs"]:
        got: Advantages = compute_advantages(golden_batch(case, sources), golden_config(run["params"]))
        expected = torch.tensor(run["expected"]["step_return"], dtype=torch.float64)
        torch.testing.assert_close(got.step_return, expected[sources], rtol=1e-7, atol=1e-7)
        assert not torch.allclose(got.advantage, torch.tensor(run["expected"]["adv"], dtype=torch.float64)[sources])
