"""Plays one episode of a group: prompt, response, action, outcome, until the environment or the horizon ends it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from services.contracts import ids
from services.contracts.arrays import pack_float64, pack_int32
from services.contracts.messages import Episode, GenerateItem, OpenedGroup, Step
from services.contracts.observation import KeyedObservation, KeyedOutcome
from services.contracts.sampling import SampledTokens, Sampling
from services.kit.tracing import begun, doing
from services.ledger import Attempt
from services.rollout.actors import Actor
from services.rollout.conversation import Shown
from services.rollout.errors import ModelFault
from services.rollout.metrics import GENERATE_SECONDS, STEP_SECONDS, TOKENS
from services.rollout.playbook import Playbook
from services.rollout.ports import Ask, Environments
from services.rollout.reply_format import Projected
from services.rollout.templates import Scene
from services.rollout.watching import Onlooker

PROMPT_TOKENS, RESPONSE_TOKENS = TOKENS.labels("prompt"), TOKENS.labels("response")


@dataclass(frozen=True)
class Seat:
    """One episode's place: which of the group's, in which attempt, on which session."""

    group: OpenedGroup
    attempt: Attempt
    k: int
    lease: str
    sentence: str | None = None
    """Task sentence shown instead of the environment's own; None: its own, or none at all when it is hidden."""

    @property
    def episode_id(self) -> str:
        """The same on every attempt."""
        return ids.episode_id(self.group.group_id, self.k)


class EpisodePlay:
    """One episode as it goes on. Use once.

    Args:
        worker: this process's name, kept with the episode.
        onlooker: is told each step; None: nobody watches.
    """

    def __init__(
        self,
        playbook: Playbook,
        seat: Seat,
        actor: Actor,
        environments: Environments,
        worker: str,
        *,
        onlooker: Onlooker | None = None,
    ) -> None:
        self._playbook, self._seat, self._actor, self._onlooker = playbook, seat, actor, onlooker
        self._environments, self._worker = environments, worker
        self._steps: list[Step] = []
        self._choices: dict[bytes, int] = {}
        """Replies that the policy could give so far -> their places in the episode's."""
        self._history: deque[tuple[str, str]] = deque(maxlen=playbook.spec.environment.history_length)
        self._generate_s = self._env_s = 0.0
        self._moments = [time.time()]
        self._step_seconds = STEP_SECONDS.labels(playbook.spec.environment.environment)
        self._cut_prompts = self._judge_tokens = 0
        self._dialogue = playbook.dialogue()
        self._reply = Projected("", True)
        self._results: list[str] = []
        self._actions = 0

    async def play(self, first: KeyedObservation) -> Episode:
        """The finished episode, from its first observation on.

        Raises:
            AttemptFailed.
            Unwatched: it is played to be watched, and nobody watches any more.
        """
        observation, last = first, None
        terminated, horizon = False, self._playbook.horizon(self._seat.group)
        if self._onlooker is not None:
            await self._onlooker.began(first, horizon)
        for index in range(horizon):
            shown = self._show(observation)
            if shown is None:
                break
            with doing("step", step=index):
                projected, outcome = await self._turn(index, observation, shown)
            if outcome is None:
                terminated = True
                break
            last, terminated = outcome, outcome.terminated
            self._judge_tokens += outcome.judge_tokens
            if outcome.terminated or outcome.truncated:
                break
            self._history.append((observation.text, projected.action))
            self._reply, observation = projected, outcome.observation
        episode = self._episode(first, last, terminated)
        if self._onlooker is not None:
            await self._onlooker.finished(episode)
        return episode

    async def _turn(
        self, index: int, observation: KeyedObservation, shown: Shown
    ) -> tuple[Projected, KeyedOutcome | None]:
        """One reply and what it led to, also as a step of the episode."""
        sampled = await self._respond(index, observation, shown)
        self._dialogue.heard(sampled.response_ids)
        projected = self._playbook.projection.project(self._playbook.tokens.reply_text(sampled.response_ids))
        outcome = await self._act(projected, len(sampled.response_ids) // 4)
        self._steps.append(self._step(index, shown, sampled, observation, projected, outcome))
        if self._onlooker is not None:
            await self._onlooker.took(self._steps[-1])
        return projected, outcome

    def _show(self, observation: KeyedObservation) -> Shown | None:
        """The next prompt; None: the conversation has no room for one."""
        seat = self._seat
        note = f"{self._reply.note}\n\n" if self._reply.note else ""
        scene = Scene(
            self._task(observation),
            note + observation.text,
            tuple(self._history),
            () if self._playbook.tools else observation.admissible_actions,
            tuple(self._results),
            task_hidden=seat.group.task_view == "hidden",
        )
        shown = self._dialogue.show(scene, self._reply.calls)
        self._cut_prompts += shown is not None and shown.cut
        return shown

    async def _respond(
        self, index: int, observation: KeyedObservation, shown: Shown, sampling: Sampling | None = None
    ) -> SampledTokens:
        """The actor's reply, sampled as the job's are unless it is said otherwise."""
        seat = self._seat
        if self._onlooker is not None:
            await self._onlooker.reached(index, observation, shown.ids)
        generating = begun("generate")
        item = GenerateItem(
            shown.whole,
            ids.sampling_seed(seat.episode_id, index, seat.attempt.draw),
            # two jobs of one spec have the same group ids
            item_id=f"{self._playbook.job_id}/{seat.episode_id}:{index}:{seat.attempt.number}",
            choices=self._playbook.choices(observation.admissible_actions),
            trace=generating.traceparent,
        )
        job, group = self._playbook.job_id, seat.group
        ask = Ask(job, group.group_id, seat.episode_id, item, group.min_version, sampling or self._playbook.sampling)
        asked = time.monotonic()
        self._moments.append(time.time())
        try:
            sampled = await self._actor.respond(ask, observation.admissible_actions)
        finally:
            generating.end()
            waited_s = time.monotonic() - asked
            self._generate_s += waited_s
        self._moments.append(self._moments[-1] + waited_s)
        GENERATE_SECONDS.observe(waited_s)
        PROMPT_TOKENS.inc(len(shown.whole) // 4)
        RESPONSE_TOKENS.inc(len(sampled.response_ids) // 4)
        return sampled

    async def _act(self, reply: Projected, response_tokens: int) -> KeyedOutcome | None:
        """The result of the reply's actions together; None: the environment could not go on because of one."""
        asked, outcome, acting = time.monotonic(), None, begun("env")
        self._results = []
        try:
            for action in reply.actions:
                if outcome is not None:
                    self._results.append(outcome.observation.text)
                self._actions += 1
                one = await self._environments.step(self._seat.lease, self._actions, action, response_tokens)
                outcome = one if outcome is None else outcome.then(one)
                if one.terminated or one.truncated:
                    break
            return outcome
        except ModelFault:
            return None
        finally:
            acting.end()
            waited_s = time.monotonic() - asked
            self._env_s += waited_s
            self._step_seconds.observe(waited_s)

    def _task(self, observation: KeyedObservation) -> str:
        """The prompt's words about the task."""
        view = self._seat.group.task_view
        if view == "shown":
            return observation.task
        if view == "shuffled":
            return self._seat.sentence or ""
        placeholder = self._playbook.tokens.placeholder
        return " ".join([placeholder] * len(observation.task.split())) if placeholder else ""

    def _step(
        self,
        index: int,
        shown: Shown,
        sampled: SampledTokens,
        observation: KeyedObservation,
        projected: Projected,
        outcome: KeyedOutcome | None,
    ) -> Step:
        """One step as it is stored: what was sampled, byte for byte, and the keys of the state it was sampled in."""
        worthless = (0.0,) * len(self._playbook.spec.rewards.reward_funcs)
        choices = self._playbook.choices(observation.admissible_actions)
        return Step(
            step_index=index,
            prompt_ids=shown.ids,
            continues=shown.continues,
            **sampled.shared(),
            reward=outcome.reward if outcome is not None else 0.0,
            anchor_key=observation.anchor_key,
            state_key=observation.state_key,
            anchor=observation.anchor,
            action=projected.action,
            action_valid=outcome is not None and outcome.action_valid and projected.well_formed,
            rewards=outcome.rewards if outcome is not None else worthless,
            action_key=outcome.action_key if outcome is not None else b"",
            choices=pack_int32(self._choices.setdefault(reply, len(self._choices)) for reply in choices),
        )

    def _episode(self, first: KeyedObservation, last: KeyedOutcome | None, terminated: bool) -> Episode:
        seat = self._seat
        return Episode(
            group_id=seat.group.group_id,
            episode_id=seat.episode_id,
            k=seat.k,
            attempt=seat.attempt.number,
            task=first.task,
            steps=self._steps,
            won=last is not None and last.won,
            score=last.score if last is not None else 0.0,
            terminated=terminated,
            truncated=not terminated,
            worker=self._worker,
            generate_s=self._generate_s,
            env_s=self._env_s,
            cut_prompts=self._cut_prompts,
            context_overflows=self._dialogue.overflows,
            judge_tokens=self._judge_tokens,
            crashes=seat.attempt.draw - 1,
            moments=pack_float64([*self._moments, time.time()]),
            replies=list(self._choices),
        )
