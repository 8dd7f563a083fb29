"""A worker process: the only place where environment code runs.

`process.py` starts it as `python -m services.env.workers.worker FD CONFIG`. It reads orders from the socket, answers in
frames, and ends when the socket closes. It never gives a reward for its own failures; it reports them.
"""

import logging
import math
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from queue import SimpleQueue
from typing import Any, TypeVar

import msgspec

from gigpo.env.environment import HomeLost, InfraFault, KwargsError, ModelFault
from gigpo.env.progress import allow_silence, set_reporter
from services.contracts.observation import KeyedObservation
from services.env.workers.chance import Chance
from services.env.workers.episode import Episode
from services.env.workers.line import Line
from services.env.workers.overlap import LOOK_EVERY_S, Overlap
from services.env.workers.registry import Registry, UnavailableError, valid_kwargs, valid_split
from services.env.workers.wanted import ContractError, placed, said
from services.env.workers.wire import (
    Answer,
    CloseEpisode,
    Describe,
    Described,
    Failed,
    FailedReason,
    Opened,
    OpenEpisode,
    Order,
    Stepped,
    TakeStep,
    orders,
)
from services.kit.process import die_with_parent

PROGRESS = struct.Struct("<QQd")
"""A worker's memory that its parent can see: the request being executed (0: none), a tick that moves on, and for
how long it may stand still although nothing is stuck, seconds."""
FLUSH_AFTER_S = 0.005
"""Answers wait at most this long for the rest of their batch: quick steps go in one write, slow ones are not kept."""
CPU_SLACK = 0.25
"""The timer of CPU time runs this share of the limit longer, because setting it for every quick step costs a system
call each."""
ANY_REQUEST = 2**64 - 1
"""Stands in PROGRESS while calls of several sessions are under way, each in a thread of its own."""
IMPORT_S = 60.0
"""A plugin is imported within the first session that it has in a worker: that may take so long, on a busy machine."""

T = TypeVar("T")


class WorkerConfig(msgspec.Struct, frozen=True):
    """Options of a worker at its start. Zero lifts a limit."""

    environments: dict[str, str]
    options: dict[str, dict[str, Any]]
    memory_bytes: int
    step_cpu_s: float
    data_root: str | None = None
    """Root of the folders that kwargs may name; None: they may name none."""
    pass_env: tuple[str, ...] = ()
    """Environment variables that a worker inherits beside the usual ones."""
    import_folder: str = ""
    """The folder in which modules are looked for last; empty: nowhere else than installed ones."""
    files_root: str | None = None
    """Root of the files that jobs bring; None: they bring none."""
    step_timeout_s: float = 0.0
    """How long a call of a session with its own thread may show no life; the others are watched by the parent."""


class Sessions:
    """The live sessions of this worker; carries out orders, one at a time, but for those of sessions that overlap.

    Args:
        send: takes the answer of a session that overlaps, in its thread.
        step_timeout_s: as in WorkerConfig.
    """

    def __init__(
        self,
        registry: Registry,
        progress: bytearray | mmap.mmap,
        *,
        data_root: str | None = None,
        files_root: str | None = None,
        send: Callable[[list[Answer]], None] = lambda _: None,
        step_timeout_s: float = 0.0,
    ) -> None:
        self._registry = registry
        self._send = send
        self._overlap = Overlap(step_timeout_s)
        self._consulting: set[int] = set()
        """Requests whose threads consult."""
        self._ready: SimpleQueue[tuple[OpenEpisode | TakeStep, Failed | None]] = SimpleQueue()
        """The orders that have consulted, each with how it failed."""
        self._consulted: dict[int, Failed | None] = {}
        """The same of requests that are carried out next."""
        self._data_root, self._files_root = data_root, files_root
        self._progress = progress
        self._episodes: dict[int, Episode] = {}
        self._chance = Chance()
        self._ticks = 0
        self._running = 0
        self._limit_s = 0.0
        """How long the call of the main thread may always show nothing."""

    def carry_out(self, order: Order) -> Answer | None:
        """Answer one order; None where it wants no answer, or a thread will send it. No exception of an environment
        gets out of here."""
        if isinstance(order, CloseEpisode):
            self._free(order.episode)
            return None
        if isinstance(order, Describe):
            return Described(order.request, [self._registry.entry(name) for name in order.environments])
        self._tick(order.request)
        if order.request in self._consulted:
            answer: Answer | None = self._given(order)
        elif self._consults(order):
            self._consulting.add(order.request)
            answer = self._begun(order, self._consult)
        elif self._overlaps(order):
            answer = self._begun(order, self._answered_later)
        else:
            answer = self._answered(order)
        self._limit_s = 0.0
        self._tick(ANY_REQUEST if self._overlap.calls else 0)
        return answer

    @property
    def busy(self) -> bool:
        """Whether threads are at work, so that `given_up` and `resumed` are to be asked every LOOK_EVERY_S."""
        return bool(self._overlap.calls or self._consulting)

    def given_up(self) -> list[Answer]:
        """Answers to the calls of threads that hang, and a sign of life."""
        calls = self._overlap.given_up()
        for call in calls:
            self._consulting.discard(call.request)
            self._free(call.session)
        self._tick(ANY_REQUEST if self._overlap.calls else 0)
        return [Failed(call.request, FailedReason.HUNG, "it took too long") for call in calls]

    def resumed(self) -> list[Order]:
        """Steps that have consulted in their threads: they are to be carried out now."""
        found: list[Order] = []
        while not self._ready.empty():
            order, failed = self._ready.get()
            self._consulting.discard(order.request)
            self._consulted[order.request] = failed
            found.append(order)
        return found

    def _consults(self, order: OpenEpisode | TakeStep) -> bool:
        """Whether this step first waits for something in a thread, so that other sessions go on."""
        episode = self._episodes.get(order.episode) if isinstance(order, TakeStep) else None
        return episode is not None and episode.consults

    def _consult(self, order: OpenEpisode | TakeStep) -> Callable[[], None]:
        """Return a call for the session's thread."""

        def consult() -> None:
            if isinstance(order, TakeStep) and (episode := self._episodes.get(order.episode)) is not None:
                self._allow(episode.longest_call_s)
                episode.consult(order.action, order.response_tokens)

        failed = self._caught(order, consult)
        return lambda: self._ready.put((order, failed))

    def _given(self, order: OpenEpisode | TakeStep) -> Answer:
        """The answer to a step that has consulted."""
        if (failed := self._consulted.pop(order.request)) is None:
            return self._answered(order)
        self._free(order.episode)
        return failed

    def _overlaps(self, order: OpenEpisode | TakeStep) -> bool:
        if isinstance(order, TakeStep):
            return order.episode in self._overlap.threads
        try:
            with allow_silence(IMPORT_S):
                return self._registry.find(order.spec.environment).capabilities.overlaps
        except UnavailableError:
            return False

    def _begun(
        self, order: OpenEpisode | TakeStep, work: Callable[[OpenEpisode | TakeStep], Callable[[], None]]
    ) -> Failed | None:
        """None: the thread of the session has the order."""
        try:
            self._overlap.begin(order.episode, order.request, lambda: work(order))
        except RuntimeError as error:
            self._consulting.discard(order.request)
            return Failed(order.request, FailedReason.INFRA, f"the session gets no thread: {said(error)}")
        return None

    def _answered_later(self, order: OpenEpisode | TakeStep) -> Callable[[], None]:
        answer = self._answered(order)
        return lambda: self._send([answer])

    def _answered(self, order: OpenEpisode | TakeStep) -> Answer:
        answer = self._caught(order, lambda: self._step(order) if isinstance(order, TakeStep) else self._open(order))
        if isinstance(answer, Failed):
            self._free(order.episode)
        return answer

    def _caught(self, order: OpenEpisode | TakeStep, work: Callable[[], T]) -> T | Failed:
        """The answer of `work`, or how it failed."""
        try:
            return work()
        except UnavailableError as error:
            return Failed(order.request, FailedReason.UNKNOWN_ENVIRONMENT, said(error))
        except KwargsError as error:
            reason = FailedReason.BAD_REQUEST if isinstance(order, OpenEpisode) else FailedReason.ENV_BUG
            return Failed(order.request, reason, said(error))
        except ModelFault as error:
            return Failed(order.request, FailedReason.MODEL, said(error))
        except HomeLost as error:
            return Failed(order.request, FailedReason.HOME_LOST, said(error))
        except InfraFault as error:
            return Failed(order.request, FailedReason.INFRA, said(error))
        except ContractError as error:
            return Failed(order.request, FailedReason.ENV_BUG, said(error))
        except BaseException as error:  # CancelledError, SystemExit, a panic of Rust: none may end the neighbours
            logging.exception("environment failed in episode %d", order.episode)
            return Failed(order.request, FailedReason.ENV_BUG, placed(error))

    def show_life(self, unseen_s: float) -> None:
        """The call under way goes on, and may show nothing for `unseen_s` seconds."""
        if not self._overlap.show_life(unseen_s):
            self._tick(self._running, max(unseen_s, self._limit_s))

    def _allow(self, limit_s: float) -> None:
        """The call under way may always show nothing for so long."""
        if limit_s and not self._overlap.allow(limit_s):
            self._limit_s = limit_s
            self.show_life(0.0)

    def _tick(self, request: int, unseen_s: float = 0.0) -> None:
        self._ticks += 1
        self._running = request
        PROGRESS.pack_into(self._progress, 0, request, self._ticks, unseen_s)

    def _open(self, order: OpenEpisode) -> Opened | Failed:
        with allow_silence(IMPORT_S):
            found = self._registry.find(order.spec.environment)
        kwargs = valid_kwargs(found, order.spec.kwargs_json, self._data_root, self._files_root)
        split = valid_split(found, order.spec.split)
        start = f"{order.spec.environment}/{split}/{order.spec.seed}"
        alone = not found.capabilities.overlaps  # threads share the global generators
        with self._chance.of_new(order.episode, order.spec.environment, start) if alone else nullcontext():
            episode = self._episodes[order.episode] = Episode(found(kwargs), kwargs)
            self._allow(episode.longest_call_s)
            shown = [episode.reset(order.spec.seed, split)]
        return self._replay(order, episode, shown) or Opened(
            order.request,
            shown[-1],
            episode.deterministic,
            tuple(seen.digest for seen in shown),
            episode.score,
            episode.warnings(),
            episode.tools(),
            episode.longest_call_s,
        )

    def _replay(self, order: OpenEpisode, episode: Episode, shown: list[KeyedObservation]) -> Failed | None:
        """Take the history's actions, adding to `shown` what they show; Failed where it is not what it was."""
        actions, digests = order.history.actions, order.history.digests
        tokens = order.history.response_tokens or (0,) * len(actions)
        if actions and not episode.deterministic:
            return Failed(
                order.request,
                FailedReason.NOT_REPLAYABLE,
                "this environment is not deterministic: it cannot be replayed",
            )
        for turn in range(len(actions) + 1):
            if turn > 0:
                self.show_life(0.0)
                with self._chance.of(order.episode):
                    stepped = episode.step(order.request, actions[turn - 1], tokens[turn - 1])
                shown.append(stepped.observation)
                if stepped.terminated or stepped.truncated:
                    over = f"actions: the episode is over after {turn} of {len(actions)}"
                    return Failed(order.request, FailedReason.BAD_REQUEST, over)
            if digests and shown[turn].digest != digests[turn]:
                return Failed(
                    order.request, FailedReason.DIVERGED, f"the replay shows another observation after {turn} steps"
                )
        return None

    def _step(self, order: TakeStep) -> Stepped | Failed:
        episode = self._episodes.get(order.episode)
        if episode is None:
            return Failed(order.request, FailedReason.LOST, f"no episode {order.episode} in this worker")
        self._allow(episode.longest_call_s)
        with self._chance.of(order.episode):
            stepped = episode.step(order.request, order.action, order.response_tokens)
        if stepped.terminated or stepped.truncated:
            self._free(order.episode)
        return stepped

    def _free(self, episode_id: int) -> None:
        self._chance.forget(episode_id)
        episode = self._episodes.pop(episode_id, None)
        if episode_id in self._overlap.threads:
            self._overlap.end(episode_id, lambda: _close(episode_id, episode))
        else:
            _close(episode_id, episode)


def _close(episode_id: int, episode: Episode | None) -> None:
    try:
        if episode is not None:
            episode.close()
    except BaseException:
        logging.exception("environment failed to close episode %d", episode_id)


def serve(line: Line, sessions: Sessions, *, step_cpu_s: float = 0.0) -> None:
    """Carry out orders until the connection closes.

    `step_cpu_s`: an order that uses more CPU time, by a quarter at most, ends this process by SIGPROF; 0: none does. A
    timer and no limit of the system's: limits pass to child processes, where they would count the life of a JVM.
    """
    slack_s = step_cpu_s * CPU_SLACK
    set_again_s = slack_s / (os.cpu_count() or 1)  # threads on every core need this long to use the slack up
    timer_set = -math.inf
    while (found := _next_orders(line, sessions)) is not None:
        ready: list[Answer] = []
        flushed = time.monotonic()
        for order in found:
            if step_cpu_s and time.monotonic() - timer_set >= set_again_s:
                signal.setitimer(signal.ITIMER_PROF, step_cpu_s + slack_s)
                timer_set = time.monotonic()
            answer = sessions.carry_out(order)
            if answer is not None:
                ready.append(answer)
            if ready and time.monotonic() - flushed > FLUSH_AFTER_S:
                line.send(ready)
                ready, flushed = [], time.monotonic()
        if ready:
            line.send(ready)


def _next_orders(line: Line, sessions: Sessions) -> Iterable[Order] | None:
    """The next orders; None: the connection closed. While threads are at work, those that hang are told of."""
    while sessions.busy:
        if hung := sessions.given_up():
            line.send(hung)
        if again := sessions.resumed():
            return again
        if line.comes(within_s=LOOK_EVERY_S):
            break
    return orders(body) if (body := line.receive()) else None


def _limit(config: WorkerConfig) -> None:
    """Die with the parent; never outgrow what the settings allow; leave Ctrl-C to the parent."""
    die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if config.memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (config.memory_bytes, config.memory_bytes))


def main(connection_fd: int, progress_fd: int, config_json: str) -> None:
    """Serve on an inherited socket; `progress_fd` is a shared page that takes PROGRESS."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s worker %(process)d: %(message)s")
    logging.getLogger().handlers[0].setLevel(logging.INFO)  # some libraries turn on their own DEBUG
    config = msgspec.json.decode(config_json, type=WorkerConfig)
    _limit(config)
    for descriptor in (connection_fd, progress_fd):
        os.set_inheritable(descriptor, False)  # otherwise a child of an environment would keep the socket open
    with mmap.mmap(progress_fd, PROGRESS.size) as page, socket.socket(fileno=connection_fd) as connection:
        line = Line(connection)
        sessions = Sessions(
            Registry(config.environments, config.options),
            page,
            data_root=config.data_root,
            files_root=config.files_root,
            send=line.send,
            step_timeout_s=config.step_timeout_s,
        )
        set_reporter(sessions.show_life)
        serve(line, sessions, step_cpu_s=config.step_cpu_s)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
