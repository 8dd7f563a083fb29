"""The platform's environments behind real worker processes: the same in each, and data of the operator's only."""

import importlib.util
import json

import grpc
import pytest
from env_caller import workers

TASKS = {
    "webshop": ({"products": 200}, ["search[color]", "click[next >]", "click[back to search]", "search[jacket]"]),
    "search_qa": ({"passages": 300}, ["<search>capital</search>", "nothing", "<search>river</search>"]),
    "sokoban": ({"size": [6, 7], "boxes": [1, 2]}, ["up", "left", "down", "right"]),
    "gymnasium": ({"id": "FrozenLake-v1", "random_map": 5}, ["right", "down", "left", "up"]),
    "minigrid": ({"id": "BabyAI-GoToLocal-v0"}, ["go forward", "turn left", "go forward"]),
    "grid": ({"goal": "corner", "size": [4]}, ["go north", "go east", "go south"]),
}
LIMIT_S = 60


async def test_two_processes_show_the_same_tasks_and_the_same_steps(served):
    caller = await served(workers=2, step_timeout_s=LIMIT_S, call_timeout_s=LIMIT_S)
    tasks = dict(TASKS)
    if importlib.util.find_spec("minigrid") is None:
        del tasks["minigrid"]
    for environment, (kwargs, actions) in tasks.items():
        leases = await caller.open(environment, n=4, kwargs_json=json.dumps(kwargs), seed=7, split="test")
        for seq, action in enumerate(actions, start=1):
            results = await caller.batch(*((lease, seq, action) for lease in leases))
            assert not results[0].outcome.HasField("fault")
            outcomes = {result.outcome.SerializeToString(deterministic=True) for result in results}
            assert len(outcomes) == 1, environment
            if results[0].outcome.terminated:
                break
    assert len(workers()) == 2 + 2 * ("minigrid" in tasks)  # it has its own, the others share two


async def test_a_session_moves_to_another_process_with_its_hidden_options(served):
    caller = await served(workers=2, step_timeout_s=LIMIT_S, call_timeout_s=LIMIT_S)
    opened = {"kwargs_json": '{"products": 200}', "seed": 1}
    (left,), (right,) = await caller.open("webshop", **opened), await caller.open("webshop", **opened)
    before = [await caller.step(lease, 1, "search[color]") for lease in (left, right)]
    asin = before[0].observation.admissible_actions[2]
    before = [await caller.step(lease, 2, asin) for lease in (left, right)]
    option = before[0].observation.admissible_actions[6]  # after the six buttons
    before = [await caller.step(lease, 3, option) for lease in (left, right)]
    for worker in workers():
        worker.kill()
    after = [await caller.step(lease, 4, "click[features]") for lease in (left, right)]
    assert not any(outcome.HasField("fault") for outcome in after)
    assert after[0].observation.state_key == after[1].observation.state_key
    back = await caller.step(left, 5, "click[< prev]")
    assert back.observation.state_key == before[0].observation.state_key


async def test_a_job_names_data_below_the_root_and_is_told_what_is_wrong_with_it(served, tmp_path):
    root = tmp_path / "root"
    folder = root / "wiki"
    folder.mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"title": "Oslo", "text": "Oslo is in Norway."}\n')
    (folder / "train.jsonl").write_text('{"question": "Where is Oslo?", "answer": "Norway"}\n')
    (folder / "test.jsonl").write_text('{"question": "What is Oslo?"}\n')
    caller = await served(data_root=root)

    async def refusal(data: str) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.open("search_qa", kwargs_json=json.dumps({"data": data}))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        return refused.value.details() or ""

    assert "data: " in await refusal("..")
    assert "below the service's data root" in await refusal("/etc")
    assert "test.jsonl, line 1: golden_answers: want a value, none is given" in await refusal("wiki")
    (folder / "test.jsonl").write_text('{"question": "What is Oslo?", "answer": "A city"}\n')
    (lease,) = await caller.open("search_qa", kwargs_json='{"data": "wiki"}')
    outcome = await caller.step(lease, 1, "<answer>norway</answer>")
    assert (outcome.reward, outcome.won) == (1.0, True)
