"""The checks of conformance. Each plays with a live service and returns what it saw; see CheckFailed, NotClaimed."""

import contextlib
import json
import math
import os
import random

import grpc
import psutil
from gigpo_proto.env.v1 import env_pb2

from services.env.tools.local import Task
from services.env.tools.plays import Subject, play
from services.env.workers import worker

PANEL = range(6)
"""Seeds of the panel."""
CYCLES = {env_pb2.COST_CLASS_LIGHT: 100, env_pb2.COST_CLASS_MODERATE: 10, env_pb2.COST_CLASS_HEAVY: 2}
"""Sessions opened and closed to see whether anything stays behind."""
SHORT_EPISODE = 3
NONSENSE = "\u2753 no environment knows this action"


class CheckFailed(Exception):
    """The contract is not kept; the message says where."""


class NotClaimed(Exception):
    """The environment does not claim what is checked; the message says what."""


class CheckWarned(Exception):
    """All claims hold, but who trains with it should know something; the message says what."""


async def described(subject: Subject) -> str:
    """Users find out what it is and what it takes: a description, and one for every key of its kwargs."""
    if not subject.entry.description:
        raise CheckFailed("the class has no docstring: it is the description that users see")
    schema = json.loads(subject.entry.kwargs_schema_json)
    properties = schema.get("properties", {})
    if schema.get("additionalProperties") is not False:
        raise CheckFailed("the kwargs schema accepts unknown keys: derive Kwargs from EnvironmentKwargs")
    if mute := [key for key, value in properties.items() if not value.get("description")]:
        raise CheckFailed(f"kwargs without a description: {', '.join(mute)}")
    return f"{len(properties)} kwargs, each described"


async def kwargs_are_checked(subject: Subject) -> str:
    """An unknown key and a wrong value are refused, and the refusal names the key."""
    for key, value in {"no_such_key": 1, "max_turns": 0}.items():
        task = Task(subject.task.environment, {**subject.task.kwargs, key: value})
        try:
            group = await subject.client.open(task, 1)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT or key not in (error.details() or ""):
                raise CheckFailed(f"{key}={value}: want INVALID_ARGUMENT that names the key, got {error}") from error
        else:
            await subject.client.close(group.leases)
            raise CheckFailed(f"{key}={value} was accepted")
    return "wrong keys and values are refused by name"


async def every_split_opens(subject: Subject) -> str:
    """A task of every split can be opened."""
    if not subject.entry.splits:
        raise CheckFailed("it names no split")
    for split in subject.entry.splits:
        async with subject.opened(1, split=split):
            pass
    return ", ".join(subject.entry.splits)


async def first_observations_are_equal(subject: Subject) -> str:
    """The sessions of a group show one first observation; the service refuses the group where they do not."""
    async with subject.opened(subject.sessions) as group:
        seen = group.observation
    if not (len(seen.anchor_key) == len(seen.state_key) == len(seen.digest) == 16):
        raise CheckFailed("a key of the first observation is missing")
    return f"{subject.sessions} sessions in 2 workers"


async def panel_is_the_same_everywhere(subject: Subject) -> str:
    """One seed, one task, whichever worker opens it and whatever was opened before."""
    _want_deterministic(subject)
    digests: list[dict[int, bytes]] = []
    for seeds in (list(PANEL), list(reversed(PANEL))):
        shown = {}
        shift = subject.opened(1, seed=10_000) if subject.sessions > 2 else contextlib.nullcontext()
        async with shift:  # the others land in another worker than before
            for seed in seeds[: 2 if subject.turns < 10 else None]:
                async with subject.opened(min(2, subject.sessions), seed=seed) as group:
                    shown[seed] = group.observation.digest
        digests.append(shown)
    common = digests[0].keys() & digests[1].keys()
    if wrong := [seed for seed in common if digests[0][seed] != digests[1][seed]]:
        raise CheckFailed(f"seeds {wrong} show other tasks when opened in another order")
    return f"{len({*digests[0].values()})} tasks of {len(digests[0])} seeds"


async def one_seed_is_one_task(subject: Subject) -> str:
    """Two sessions of one seed show the same after the same actions, whatever is claimed: a group compares them."""
    if subject.sessions < 2:
        raise NotClaimed("one session at a time")
    plan, steps = random.Random("plan/one seed"), 0
    async with subject.opened(2) as group:
        seen = group.observation
        while steps < subject.turns:
            action, steps = subject.action(seen, plan), steps + 1
            one, other = [await subject.client.step(lease, steps, action) for lease in group.leases]
            if (one.observation.digest, one.reward) != (other.observation.digest, other.reward):
                raise CheckWarned(
                    f"two sessions of one seed differ after the same {steps} action(s), the last one {action!r:.80}: a "
                    "group would compare different tasks; let all that is random follow from the seed of reset"
                )
            if one.terminated or one.truncated or one.HasField("fault"):
                break
            seen = one.observation
    return f"{steps} steps side by side"


async def same_actions_same_outcomes(subject: Subject) -> str:
    """The same actions lead to the same outcomes in another worker."""
    _want_deterministic(subject)
    here, there = await subject.played(), await play(subject, 0, backwards=True)
    for number, (one, other) in enumerate(zip(here, there, strict=True)):
        for turn, (left, right) in enumerate(zip(one.outcomes, other.outcomes, strict=False), start=1):
            if left != right:
                raise CheckFailed(f"episode {number}, turn {turn}: {left!s:.200} here, {right!s:.200} there")
        if one.actions != other.actions:
            raise CheckFailed(f"episode {number}: {len(one.actions)} turns here, {len(other.actions)} there")
    return f"{sum(len(episode.actions) for episode in here)} steps twice"


async def history_leads_to_the_same_state(subject: Subject) -> str:
    """A session rebuilt from its actions shows every observation again."""
    _want_deterministic(subject)
    episode = max(await subject.played(), key=lambda one: len(one.actions))
    kept = len(episode.actions) - (1 if episode.over else 0)
    digests = [seen.digest for seen in episode.observations[: kept + 1]]
    rebuilt = await subject.client.rebuild(subject.task, episode.actions[:kept], digests)
    await subject.client.close(rebuilt.leases)
    if rebuilt.observation != episode.observations[kept]:
        raise CheckFailed("the rebuilt session shows another observation")
    return f"{kept} actions replayed"


async def anchors_recur(subject: Subject) -> str:
    """States of a group meet again beyond the first one, otherwise there are no step groups."""
    if not subject.entry.capabilities.gives_anchors:
        raise NotClaimed("gives_anchors is false")
    episodes = await subject.played() + await subject.played(1)
    half = len(episodes) // 2
    steps = recurring = 0
    for group in (episodes[:half], episodes[half:]):
        keys = [seen.anchor_key for episode in group for seen in episode.observations[1:]]
        steps += len(keys)
        recurring += sum(keys.count(key) > 1 or key == group[0].first.anchor_key for key in keys)
    if not recurring:
        raise CheckFailed(
            f"none of {steps} observations shares its anchor with another: the anchor holds something that never recurs"
        )
    return f"{recurring / steps:.0%} of {steps} observations share their anchor"


async def equal_states_admit_equal_actions(subject: Subject) -> str:
    """States of one key are one state: the same actions are admissible in them."""
    able: dict[bytes, set[str]] = {}
    for episode in await subject.played():
        for seen in episode.observations:
            actions = set(seen.admissible_actions)
            if strange := able.setdefault(seen.state_key, actions) ^ actions:
                raise CheckFailed(f"{sorted(strange)[:3]} is admissible in one of two states that have one key")
    return f"{len(able)} states"


async def rewards_are_sound(subject: Subject) -> str:
    """Rewards and scores are finite, and an episode that is won is over."""
    outcomes = [outcome for episode in await subject.played() for outcome in episode.outcomes]
    for outcome in outcomes:
        if not outcome.HasField("fault") and not (math.isfinite(outcome.reward) and math.isfinite(outcome.score)):
            raise CheckFailed(f"reward {outcome.reward}, score {outcome.score}")
        if outcome.won and not (outcome.terminated or outcome.truncated):
            raise CheckFailed("an episode is won and goes on")
    rewards = [outcome.reward for outcome in outcomes]
    return f"{min(rewards):g} to {max(rewards):g} in {len(rewards)} steps"


async def admissible_actions_are_no_fault(subject: Subject) -> str:
    """Every admissible action is answered: each first one in a session of its own, then in random play of tasks."""
    first = (await subject.played())[0].first
    choices = list(first.admissible_actions) or list(subject.entry.example_actions)
    for action in choices[: subject.turns]:
        async with subject.opened(1) as group:
            _want_no_fault(action, await subject.client.step(group.leases[0], 1, action))
    steps, seed = 0, 0
    while steps < subject.turns and seed in PANEL:
        for episode in await subject.played(seed):
            steps += len(episode.actions)
            for action, outcome in zip(episode.actions, episode.outcomes, strict=True):
                _want_no_fault(action, outcome)
        seed += 1
    return f"{min(len(choices), subject.turns)} first actions, {steps} steps of random play"


def _want_no_fault(action: str, outcome: env_pb2.Outcome) -> None:
    if outcome.HasField("fault"):
        raise CheckFailed(f"the action {action!r:.80} failed: {outcome.fault.message}")


async def invalid_actions_are_no_fault(subject: Subject) -> str:
    """Actions without meaning are answered, not raised, and count as invalid where the valid ones are known."""
    async with subject.opened(1) as group:
        outcome = await subject.client.step(group.leases[0], 1, NONSENSE)
    if outcome.HasField("fault"):
        raise CheckFailed(f"a meaningless action caused a fault: {outcome.fault.message}")
    if outcome.action_valid and group.observation.admissible_actions:
        raise CheckFailed("an action that is not admissible counts as valid")
    return "valid" if outcome.action_valid else "answered as invalid"


async def vocabulary_covers_the_texts(subject: Subject) -> str:
    """Every word that is shown or can be said is in the vocabulary, where one is given."""
    words = set(subject.entry.vocabulary)
    if not words:
        raise NotClaimed("no vocabulary(): a job that trains from scratch gathers the words by playing")
    for episode in await subject.played() + await subject.played(1):
        for seen in episode.observations:
            for text in (seen.text, seen.task, *seen.admissible_actions):
                if strange := set(text.split()) - words:
                    raise CheckFailed(f"not in the vocabulary: {sorted(strange)[:5]} of {text!r:.120}")
    return f"{len(words)} words"


async def episodes_end(subject: Subject) -> str:
    """An episode ends at its limit of turns at the latest, and takes no step afterwards."""
    limited = await _limited(subject)
    limit = limited.entry.default_max_turns if limited is subject else SHORT_EPISODE
    (episode, *_) = await limited.played()
    if not episode.over and len(episode.actions) >= limit:
        raise CheckFailed(f"max_turns={limit} and no end after {len(episode.actions)} turns")
    if not episode.over:
        return f"no end in {len(episode.actions)} of {limit} turns"
    async with limited.opened(1) as group:
        for turn, action in enumerate([*episode.actions, NONSENSE], start=1):
            try:
                await limited.client.step(group.leases[0], turn, action)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION and turn > 1:
                    return f"after {turn - 1} turns of {limit}"
                raise
    raise CheckFailed("a step was taken after the end")


async def _limited(subject: Subject) -> Subject:
    """The subject with a short limit of turns, or as it is where it takes none that short."""
    if subject.entry.default_max_turns <= SHORT_EPISODE:
        return subject
    task = Task(subject.task.environment, {**subject.task.kwargs, "max_turns": SHORT_EPISODE})
    short = Subject(subject.client, subject.entry, task)
    try:
        async with short.opened(1):
            return short
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            return subject
        raise


async def closing_frees(subject: Subject) -> str:
    """Sessions that are opened and closed leave no process, file or memory in the workers."""
    cycles = CYCLES.get(subject.entry.capabilities.cost_class, 2)
    await _cycle(subject, cycles)  # what is loaded once is loaded now
    before = _held()
    await _cycle(subject, cycles)
    after = _held()
    processes, files, memory = (left - right for left, right in zip(after, before, strict=True))
    if processes > 0 or files > 2:
        raise CheckFailed(f"{cycles} sessions left {processes} processes and {files} files behind")
    if memory > max(0.1 * before[2], 16 << 20):
        raise CheckFailed(f"{cycles} sessions left {memory >> 20} MiB behind")
    return f"{cycles} sessions leave nothing"


async def _cycle(subject: Subject, times: int) -> None:
    for seed in range(times):
        async with subject.opened(1, seed=seed) as group:
            await subject.client.step(group.leases[0], 1, (list(group.observation.admissible_actions) or [NONSENSE])[0])
    async with subject.opened(min(2, subject.sessions)):
        pass  # both workers have done what they were told before


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it ended meanwhile
        return []


def _held() -> tuple[int, int, int]:
    """Processes, open files and memory (bytes) of this process's workers and of what they started."""
    children = psutil.Process(os.getpid()).children()  # others than workers too, where a test run is this process
    workers = [child for child in children if worker.__name__ in _command(child)]
    family = [process for one in workers for process in (one, *one.children(recursive=True))]
    files = memory = 0
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            files += process.num_fds()
            memory += process.memory_info().rss
    return len(family), files, memory


def _want_deterministic(subject: Subject) -> None:
    if not subject.entry.capabilities.deterministic:
        raise NotClaimed("not deterministic")
