"""Translates between the messages of the environment service and the player's types."""

from __future__ import annotations

import json

from gigpo_proto.env.v1 import env_pb2

from services.contracts.faults import FaultClass
from services.contracts.observation import KeyedObservation, KeyedOutcome
from services.rollout.errors import EnvironmentFault, ModelFault
from services.rollout.ports import Opening

FAULTS = {env_pb2.FAULT_CLASS_INFRA: FaultClass.INFRA, env_pb2.FAULT_CLASS_ENV_BUG: FaultClass.ENV_BUG}


def open_request(opening: Opening) -> env_pb2.OpenGroupRequest:
    """Field by field; kwargs as sorted JSON, so that a repeat is byte for byte the same."""
    return env_pb2.OpenGroupRequest(
        idempotency_key=opening.key,
        environment=opening.environment,
        kwargs_json=json.dumps(opening.kwargs, sort_keys=True),
        split=opening.split,
        seed=opening.seed,
        n=opening.n,
    )


def observation_of(message: env_pb2.Observation) -> KeyedObservation:
    """Field by field."""
    return KeyedObservation(
        message.text,
        message.anchor,
        message.anchor_key,
        message.state_key,
        message.task,
        tuple(message.admissible_actions),
        message.digest,
    )


def outcome_of(message: env_pb2.Outcome) -> KeyedOutcome:
    """The outcome. A fault in it is raised: EnvironmentFault, or ModelFault where the model's words caused it."""
    if message.HasField("fault"):
        fault = message.fault
        if fault.fault_class == env_pb2.FAULT_CLASS_MODEL:
            raise ModelFault(fault.message)
        raise EnvironmentFault(FAULTS.get(fault.fault_class, FaultClass.INFRA), fault.message)
    return KeyedOutcome(
        observation_of(message.observation),
        message.reward,
        message.score,
        message.won,
        message.terminated,
        message.truncated,
        message.action_valid,
        tuple(message.rewards),
        message.judge_tokens,
        message.action_key,
    )
