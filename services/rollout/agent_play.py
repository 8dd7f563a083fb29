"""Plays one episode by an outside agent: the agent writes the prompts, the policy answers, its tokens are the steps.

Each completion is a step. What the agent does in the environment before the next one is that step's action, and its
rewards are the step's.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import msgspec

from gigpo_core.digest import anchor_digest
from services.contracts.agents import (
    OUTSIDE,
    Act,
    Acted,
    AnyAnswer,
    Chat,
    ChatMessage,
    Claim,
    Done,
    End,
    Refused,
    Said,
    SessionRecord,
)
from services.contracts.arrays import unpack_int32
from services.contracts.messages import Episode
from services.contracts.observation import KeyedObservation, KeyedOutcome
from services.contracts.sampling import SampledTokens
from services.rollout.actors import Actor
from services.rollout.agent_chat import AgentChat, ChatRefused
from services.rollout.agents import Agents, Session, SessionAbandoned
from services.rollout.conversation import Shown
from services.rollout.episode import EpisodePlay, Seat
from services.rollout.playbook import Playbook
from services.rollout.ports import Environments
from services.rollout.reply_format import Projected

INVALID, CONFLICT = 400, 409


@dataclass
class _Turn:
    """A completion that is no step yet: the agent may still act."""

    shown: Shown
    sampled: SampledTokens
    observation: KeyedObservation
    reply: Projected
    actions: list[str]
    outcome: KeyedOutcome | None
    """The outcome of the actions together; None: the environment could not go on."""


class AgentPlay(EpisodePlay):
    """One episode of an outside agent. Use once."""

    def __init__(
        self, playbook: Playbook, seat: Seat, actor: Actor, environments: Environments, worker: str, agents: Agents
    ) -> None:
        super().__init__(playbook, seat, actor, environments, worker)
        self._agents, self._chat = agents, AgentChat(playbook)
        self._turn_now: _Turn | None = None
        self._last: KeyedOutcome | None = None
        self._asked: Chat | None = None
        self._answer: AnyAnswer = Done()
        self._over = False

    async def play(self, first: KeyedObservation) -> Episode:
        """The finished episode.

        Raises:
            AttemptFailed: also SessionAbandoned.
        """
        self._seen = first
        async with self._agents.session(self._record(first)) as session:
            while not self._over:
                asked = await session.next()
                answer = await self._met(asked.ask, session)
                if not isinstance(answer, Refused):
                    await session.change(**self._progress())
                await session.answer(asked, answer)
                if isinstance(asked.ask, End) and asked.ask.reward is None and isinstance(answer, Done):
                    raise SessionAbandoned("a session was abandoned: its agent closed it without a reward")
        return self._episode(first, self._last, self._last is None or self._last.terminated)

    async def _met(self, ask: Claim | Chat | Act | End, session: Session) -> AnyAnswer:
        if isinstance(ask, Claim):
            if session.record.state != "open":
                return Refused(status=CONFLICT, message="the session is another agent's")
            await session.change(state="claimed", key_digest=ask.key_digest)
            return Done()
        if isinstance(ask, Chat):
            return await self._complete(ask)
        return await self._applied(ask.action) if isinstance(ask, Act) else self._closed(ask)

    async def _complete(self, ask: Chat) -> AnyAnswer:
        if ask.repeated and self._asked == msgspec.structs.replace(ask, repeated=False):
            return self._answer
        index = len(self._steps) + (self._turn_now is not None)
        horizon = self._playbook.horizon(self._seat.group)
        if index >= horizon:
            return Refused(status=INVALID, message=f"max_turns: want at most {horizon} completions, close the session")
        longest = self._playbook.sampling.max_tokens
        most = min(ask.max_tokens or longest, longest)
        try:
            shown = self._chat.show(ask)
        except ChatRefused as error:
            return Refused(status=INVALID, message=str(error))
        length, room = len(shown.whole) // 4, self._playbook.spec.prompt_and_response_tokens
        if length + most > room:
            sentence = f"context_length_exceeded: want at most {room} tokens, got {length} and {most} for the reply"
            return Refused(status=INVALID, message=sentence)
        self._end_turn()
        state = self._state(ask)
        sampling = msgspec.structs.replace(self._playbook.sampling, max_tokens=most)
        sampled = await self._respond(index, state, shown, sampling)
        reply, well_formed = self._chat.heard(ask, shown, sampled.response_ids, index)
        said = self._playbook.tokens.reply_text(sampled.response_ids)
        nothing_done = KeyedOutcome(state, 0.0, self._score, False, False, False, True)
        self._turn_now = _Turn(shown, sampled, state, Projected(said, well_formed), [], nothing_done)
        self._asked = msgspec.structs.replace(ask, repeated=False)
        self._answer = _said(reply, shown, sampled)
        return self._answer

    def _state(self, ask: Chat) -> KeyedObservation:
        """The state that the policy answers in: the agent's name for it, otherwise the environment's; where that has
        none, what the agent says behind the policy's last reply."""
        anchor = ask.anchor
        if anchor is None and self._playbook.spec.environment.environment == OUTSIDE:
            last = max((at for at, one in enumerate(ask.messages) if one.role == "assistant"), default=-1)
            anchor = "\n\n".join(one.content for one in ask.messages[last + 1 :])
        if anchor is None:
            return self._seen
        key = anchor_digest(anchor)
        return msgspec.structs.replace(self._seen, anchor=anchor, anchor_key=key, state_key=key)

    async def _applied(self, action: str) -> AnyAnswer:
        turn = self._turn_now
        if turn is None:
            return Refused(status=CONFLICT, message="want a completion before an action: it is the action's step")
        outcome = await self._act(Projected(action, True), len(turn.sampled.response_ids) // 4)
        before = turn.outcome if turn.actions else None
        turn.actions.append(action)
        turn.outcome = outcome if outcome is None or before is None else before.then(outcome)
        self._over = outcome is None or outcome.terminated or outcome.truncated
        if outcome is not None:
            self._judge_tokens += outcome.judge_tokens
            self._seen = outcome.observation
        reward, valid = (outcome.reward, outcome.action_valid) if outcome is not None else (0.0, False)
        shown, admissible = self._seen.text, list(self._seen.admissible_actions)
        if self._over:
            self._end_turn()
        return Acted(
            observation=shown, admissible_actions=admissible, reward=reward, action_valid=valid, over=self._over
        )

    def _closed(self, ask: End) -> AnyAnswer:
        if ask.reward is None:
            return Done()
        turn = self._turn_now
        if turn is None or turn.outcome is None:
            return Refused(status=CONFLICT, message="want a completion before the end: a reward is of what was said")
        score = self._score + ask.reward
        turn.outcome = msgspec.structs.replace(
            turn.outcome,
            reward=turn.outcome.reward + ask.reward,
            score=score,
            won=score > 0 if ask.won is None else ask.won,
            terminated=True,
        )
        self._end_turn()
        self._over = True
        return Done()

    def _end_turn(self) -> None:
        """The last completion becomes a step."""
        if (turn := self._turn_now) is None:
            return
        self._turn_now, self._last = None, turn.outcome
        reply = turn.reply._replace(action="\n".join(turn.actions) or turn.reply.action)
        index = len(self._steps)
        self._steps.append(self._step(index, turn.shown, turn.sampled, turn.observation, reply, turn.outcome))

    @property
    def _score(self) -> float:
        now = self._turn_now.outcome if self._turn_now is not None else None
        return sum(step.reward for step in self._steps) + (now.reward if now is not None else 0.0)

    def _record(self, first: KeyedObservation) -> SessionRecord:
        group, wanted = self._seat.group, self._playbook.spec.environment
        return SessionRecord(
            session_id=f"{self._playbook.job_id}.{secrets.token_hex(8)}",
            job_id=self._playbook.job_id,
            worker=self._worker,
            state="open",
            group_id=group.group_id,
            purpose=group.purpose,
            k=self._seat.k,
            seed=group.task_seed,
            split=group.split,
            task=self._task(first),
            observation=first.text,
            admissible_actions=list(first.admissible_actions),
            max_turns=self._playbook.horizon(group),
            timeout_s=wanted.session_timeout_s,
        )

    def _progress(self) -> dict[str, object]:
        progress: dict[str, object] = {
            "turns": len(self._steps) + (self._turn_now is not None),
            "reward": self._score,
            "observation": self._seen.text,
            "admissible_actions": list(self._seen.admissible_actions),
        }
        if self._over:
            progress |= {"state": "closed", "won": self._last is not None and self._last.won}
        return progress


def _said(reply: ChatMessage, shown: Shown, sampled: SampledTokens) -> Said:
    whole = sampled.finish_reason == "stop"
    return Said(
        text=reply.content,
        calls=reply.calls,
        finish_reason=("tool_calls" if reply.calls else "stop") if whole else "length",
        prompt_tokens=len(shown.whole) // 4,
        completion_tokens=len(sampled.response_ids) // 4,
        versions=sorted(set(unpack_int32(sampled.versions))),
    )
