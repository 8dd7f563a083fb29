"""Engines in Java: sessions share a JVM without disturbing each other, and no JVM outlives its worker.

Skipped where the extras are not installed: pip install 'gigpo-platform[textworld-express,scienceworld]', and Java.
"""

import asyncio
import json
import os
import random
import signal
from importlib.util import find_spec

import grpc
import psutil
import pytest
from env_caller import Caller, family, workers
from gigpo_proto.env.v1 import env_pb2_grpc

from gigpo.env.environment import InfraFault, KwargsError, Observation
from services.env.edge.server import running_server
from services.env.environments.scienceworld import ScienceWorld, ScienceWorldKwargs
from services.env.environments.textworld_express import TextWorldExpress, TextWorldExpressKwargs

GAMES = ("coin", "mapreader", "twc", "cookingworld", "arithmetic", "sorting", "simonsays", "peckingorder")


def needs(module: str, extra: str) -> pytest.MarkDecorator:
    missing = find_spec(module) is None or bool(ScienceWorld.unavailable_reason())
    return pytest.mark.skipif(missing, reason=f"not installed: pip install 'gigpo-platform[{extra}]', and Java")


express, science = needs("textworld_express", "textworld-express"), needs("scienceworld", "scienceworld")


@pytest.fixture(autouse=True)
def no_jvm_stays():
    yield
    for environment in (TextWorldExpress, ScienceWorld):
        environment.engine.stop()


def walk(game: str, seed: int, split: str = "train", steps: int = 15) -> list[object]:
    """A random walk; generates nothing but the list, and closes."""
    session = TextWorldExpress(TextWorldExpressKwargs(game=game))
    seen: list[object] = [session.reset(seed, split)]
    rng = random.Random(3)
    for _ in range(steps):
        last = seen[-1]
        observation = last if isinstance(last, Observation) else last.observation
        seen.append(session.step(rng.choice(observation.admissible_actions)))
        if seen[-1].terminated:
            break
    session.close()
    return seen


@express
def test_sessions_that_take_turns_in_one_jvm_play_as_each_does_alone():
    sessions = [TextWorldExpress(TextWorldExpressKwargs(game=game)) for game in GAMES]
    seen = [[session.reset(3, "train")] for session in sessions]
    rngs = [random.Random(3) for _ in GAMES]
    over = set()
    for _ in range(15):
        for number, session in enumerate(sessions):
            if number not in over:
                last = seen[number][-1]
                observation = last if isinstance(last, Observation) else last.observation
                seen[number].append(session.step(rngs[number].choice(observation.admissible_actions)))
                if seen[number][-1].terminated:
                    over.add(number)
    for session in sessions:
        session.close()
    assert seen == [walk(game, 3) for game in GAMES]


@express
def test_seeds_go_through_the_games_of_the_official_fold():
    assert walk("coin", 7) == walk("coin", 1007)
    assert walk("coin", 7) != walk("coin", 8)
    assert walk("cookingworld", 7, "train", 0) != walk("cookingworld", 7, "test", 0)


@express
def test_a_coin_that_is_found_wins_and_options_that_are_none_are_named():
    session = TextWorldExpress(TextWorldExpressKwargs(options={"numLocations": 2, "includeDoors": 0}))
    seen = session.reset(0, "train")
    rng = random.Random(0)
    for _ in range(200):
        take = "take coin" if "take coin" in seen.admissible_actions else rng.choice(seen.admissible_actions)
        outcome = session.step(take)
        seen = outcome.observation
        if outcome.terminated:
            break
    assert (outcome.won, outcome.reward, outcome.score) == (True, 1.0, 1.0)
    assert not session.step("dance").action_valid
    session.close()
    with pytest.raises(KwargsError, match="numLocations"):
        TextWorldExpress(TextWorldExpressKwargs(options={"rooms": 2})).reset(0, "train")


@express
def test_a_jvm_that_dies_is_nobodys_fault_and_is_replaced():
    session, other = (TextWorldExpress(TextWorldExpressKwargs()) for _ in range(2))
    first = session.reset(1, "train")
    engine = TextWorldExpress.engine
    dead = engine.pid
    os.kill(dead, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(dead)], timeout=30)
    with pytest.raises(InfraFault, match="the JVM of textworld-express"):
        session.step("look around")
    assert other.reset(1, "train") == first
    session.close()
    assert engine.pid not in (None, dead)
    assert other.step("look around").action_valid
    other.close()


def open_files() -> int:
    pid = TextWorldExpress.engine.pid
    assert pid is not None
    return len(psutil.Process(pid).open_files())


@express
def test_a_game_that_was_left_is_played_again_as_a_new_one_and_opens_no_more_files():
    fresh = {seed: walk("twc", seed) for seed in (1, 2)}
    files = open_files()
    for _ in range(10):
        assert [walk("twc", seed) for seed in (2, 1)] == [fresh[2], fresh[1]]
    assert open_files() <= files
    assert walk("coin", 1) != fresh[1]  # another size has games of its own
    assert open_files() > 0


@express
def test_a_game_that_failed_is_left_to_nobody():
    session = TextWorldExpress(TextWorldExpressKwargs())
    first = session.reset(1, "train")
    with pytest.raises(Exception, match="noSuchMethod"):
        session.game("noSuchMethod")
    size = session._size
    session.close()
    assert TextWorldExpress.engine.kept_game(size) is None
    other = TextWorldExpress(TextWorldExpressKwargs())
    assert other.reset(1, "train") == first
    other.close()
    assert TextWorldExpress.engine.kept_game(size) is not None


def all_jvms() -> list[psutil.Process]:
    """Those of every worker."""
    return [process for process in family() if process.name() == "java"]


@express
async def test_sessions_whose_jvm_dies_are_replayed_in_another(settings):
    own = settings(worker_memory_mb=4096, step_timeout_s=150.0)
    async with running_server(own) as address, grpc.aio.insecure_channel(address) as channel:
        caller = Caller(env_pb2_grpc.EnvironmentServiceStub(channel), address)
        leases = await caller.open("textworld_express", kwargs_json=json.dumps({"game": "twc"}), seed=2, n=3)
        before = [(await caller.step(lease, 1, "inventory")).observation.text for lease in leases]
        (jvm,) = all_jvms()
        worker = jvm.parent()
        jvm.kill()
        assert [(await caller.step(lease, 2, "inventory")).observation.text for lease in leases] == before
        assert [each.parent() for each in all_jvms() if each != jvm] == [worker]  # it was only the JVM that was lost


@express
async def test_a_jvm_ends_with_its_worker_and_its_sessions_go_on(settings):
    own = settings(worker_memory_mb=4096, step_timeout_s=150.0)
    async with running_server(own) as address, grpc.aio.insecure_channel(address) as channel:
        caller = Caller(env_pb2_grpc.EnvironmentServiceStub(channel), address)
        (lease,) = await caller.open("textworld_express", kwargs_json=json.dumps({"game": "twc"}), seed=2)
        before = (await caller.step(lease, 1, "inventory")).observation.text
        (jvm,) = all_jvms()
        jvm.parent().kill()
        assert (await caller.step(lease, 2, "inventory")).observation.text == before
        await ended(jvm)
        (jvm,) = all_jvms()
    assert workers() == []
    await ended(jvm)


async def ended(process: psutil.Process) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, [process], 30)
    assert alive == []


@science
def test_scienceworlds_own_solution_reaches_100_and_repeats():
    game = ScienceWorld.engine.new_game()
    game("load", "chemistry-mix", 0, "", True)
    solution = list(game("getGoldActionSequence"))
    game.close()
    runs = []
    for _ in range(2):
        session = ScienceWorld(ScienceWorldKwargs(task="chemistry-mix"))
        runs.append([session.reset(0, "train"), *(session.step(action) for action in solution)])
        session.close()
    assert runs[0] == runs[1]
    last = runs[0][-1]
    assert (last.won, last.terminated, last.score) == (True, True, 100.0)
    assert sum(outcome.reward for outcome in runs[0][1:]) == pytest.approx(1.0)


@science
def test_scienceworld_names_valid_actions_only_when_asked():
    plain = ScienceWorld(ScienceWorldKwargs(task="boil"))
    assert plain.reset(0, "test").admissible_actions == ()
    assert not plain.step("dance").action_valid
    assert plain.step("look around").action_valid
    plain.close()
    asked = ScienceWorld(ScienceWorldKwargs(task="boil", simplifications=("easy",), valid_actions=True))
    seen = asked.reset(0, "test")
    assert "look around" in seen.admissible_actions
    assert not asked.step("dance").action_valid
    asked.close()
    with pytest.raises(KwargsError, match=r"task: want one of .*boil.*, got 'cook'"):
        ScienceWorld(ScienceWorldKwargs(task="cook")).reset(0, "train")
