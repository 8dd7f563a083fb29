"""The trainer's child process on a machine that is too busy, or too broken, for it to come up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from redis.asyncio import Redis
from trainer_platform import (
    NO_CURSOR,
    children,
    descendants,
    events,
    small_spec,
    submit,
    surroundings,
    trainer_process,
    until_event,
    until_state,
)

from services.kit.pulse import Stillness, sign_in
from services.kit.redis import connect
from services.stack.valkey import embedded_redis
from services.trainer.celery_worker.celery_app import celery_app
from services.trainer.celery_worker.pool import LONGEST_PAUSE_S, pause_s
from services.trainer.settings import Settings

SPEC = {"evaluation": {"eval_baselines": False, "eval_episodes": 3}}

SITECUSTOMIZE = """
import os, pathlib, time
order = pathlib.Path(__file__).with_name("order")
if b"spawn_main" in pathlib.Path("/proc/self/cmdline").read_bytes() and order.exists():
    {deed}
"""


def ordered(folder: Path, deed: str) -> Path:
    """A folder whose sitecustomize does a deed in every new child while the file that is returned exists."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(deed=deed))
    return folder / "order"


def kill_child(trainer: subprocess.Popen[bytes]) -> None:
    (child,) = children(trainer)
    os.kill(child, signal.SIGKILL)


async def troubles(redis: Redis) -> list[str]:
    beats = [await redis.get(key) async for key in redis.scan_iter("services:alive:trainer:*")]
    details = [json.loads(beat)["detail"] for beat in beats if beat]
    return [detail["trouble"] for detail in details if "trouble" in detail]


def test_a_child_has_minutes_to_come_up(redis_url: str):
    settings = Settings(redis_url=redis_url)
    assert celery_app(settings).conf.worker_proc_alive_timeout == settings.child_start_s >= 120


@pytest.mark.parametrize(("deaths", "seconds"), [(0, 0), (1, 0), (2, 1), (3, 2), (7, 32), (9, LONGEST_PAUSE_S)])
def test_pauses_between_starts_grow_to_a_limit(deaths: int, seconds: float):
    assert pause_s(deaths) == seconds


async def test_a_child_that_takes_long_to_start_comes_up_and_goes_on(redis: Redis, redis_url: str, tmp_path: Path):
    order = ordered(tmp_path / "site", "time.sleep(10)")
    with trainer_process(redis_url, tmp_path, python_path=order.parent) as trainer:
        async with surroundings(redis, redis_url, "job_a") as rollout:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_a", small_spec(**SPEC))
            await until_event(redis, "job_a", "metrics", batch=0)
            order.touch()
            kill_child(trainer)
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"


async def test_a_child_and_a_rank_that_hang_are_killed_and_their_job_goes_on(
    redis: Redis, redis_url: str, tmp_path: Path
):
    pulse = tmp_path / "pulses" / "trainer"
    with trainer_process(redis_url, tmp_path, pulse_file=pulse, child_hung_s=6) as trainer:
        async with surroundings(redis, redis_url, "job_a") as rollout:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_a", small_spec(**SPEC))
            await until_event(redis, "job_a", "metrics", batch=0)
            (child,) = children(trainer)
            os.kill(child, signal.SIGSTOP)
            rollout.held_from = 6
            await until_event(redis, "job_a", "metrics", batch=1)
            (rank,) = descendants(children(trainer)[0])
            maps = [Path(f"/proc/{pid}/maps").read_text() for pid in (rank, *children(trainer))]
            assert ["libtorch" in loaded for loaded in maps] == [True, False]
            os.kill(rank, signal.SIGSTOP)
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
            told = [str(event.data["message"]) for event in await events(redis, "job_a") if event.kind == "warning"]
    assert "the process of the learner ended; the job goes on from its newest checkpoint" in told
    for pid in (child, rank):
        assert not pulse.with_name(f"trainer-child-{pid}").exists()


HANGS = """
import signal, time
signal.signal(signal.SIGRTMIN, lambda *_: time.sleep(3600))
"""
"""Signals are handled by the main thread, which is the one that Celery's loop runs in."""


async def gives_up(pulse: Path, trainer: subprocess.Popen[bytes]) -> bool:
    """One look of a supervisor a second: True once it would restart the trainer."""
    stillness = Stillness(10)
    async with asyncio.timeout(300):
        while not stillness.hangs(sign_in(pulse, trainer.pid)):
            await asyncio.sleep(1)
    return True


async def test_a_trainer_whose_main_loop_hangs_gives_no_more_signs_of_life(
    redis: Redis, redis_url: str, tmp_path: Path
):
    pulse, site = tmp_path / "pulses" / "trainer", tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(HANGS)
    with trainer_process(redis_url, tmp_path, python_path=site, pulse_file=pulse, loop_hung_s=12) as trainer:
        trainer.send_signal(signal.SIGRTMIN)
        try:
            assert await gives_up(pulse, trainer)
            assert [key async for key in redis.scan_iter("services:alive:trainer:*")]  # its heartbeat goes on
        finally:
            trainer.kill()


async def test_a_trainer_whose_redis_hangs_does_not_hang(tmp_path: Path):
    """Its main loop stands still then, waiting for an answer, twice as long as it may otherwise."""
    pulse = tmp_path / "pulses" / "trainer"
    with (
        embedded_redis(tmp_path / "redis") as url,
        trainer_process(url, tmp_path, pulse_file=pulse, loop_hung_s=12) as trainer,
    ):
        async with connect(url) as redis:
            server = int((await redis.info("server"))["process_id"])
        os.kill(server, signal.SIGSTOP)
        try:
            before = pulse.stat().st_mtime
            async with asyncio.timeout(300):
                while pulse.stat().st_mtime - before < 26:
                    assert trainer.poll() is None
                    await asyncio.sleep(0.5)
        finally:
            os.kill(server, signal.SIGCONT)


async def test_a_child_that_keeps_dying_is_told_of_and_started_again_after_pauses(
    redis: Redis, redis_url: str, tmp_path: Path
):
    order = ordered(tmp_path / "site", "os._exit(3)")
    with trainer_process(redis_url, tmp_path, python_path=order.parent) as trainer:
        async with surroundings(redis, redis_url, "job_a") as rollout:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_a", small_spec(**SPEC))
            await until_event(redis, "job_a", "metrics", batch=0)
            order.touch()
            kill_child(trainer)
            warning = await until_event(redis, "job_a", "warning")
            assert "died at least 3 times in a row" in warning.data["message"]
            assert "exit status 3" in warning.data["message"]
            async with asyncio.timeout(30):  # the heartbeat says it at its next beat
                while warning.data["message"] not in await troubles(redis):
                    await asyncio.sleep(0.1)
            order.unlink()
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
