"""Translates between the service's types and the contract's messages."""

import grpc
from gigpo_proto.env.v1 import env_pb2

from services.contracts.faults import FaultClass
from services.contracts.observation import KeyedObservation, KeyedOutcome
from services.env.sessions import errors
from services.env.sessions.leases import Fault
from services.env.workers.wire import EnvironmentEntry, Stepped

STATUS: dict[type[errors.EnvServiceError], grpc.StatusCode] = {
    errors.UnknownEnvironmentError: grpc.StatusCode.NOT_FOUND,
    errors.UnknownLeaseError: grpc.StatusCode.NOT_FOUND,
    errors.BadRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotReplayableError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DivergedError: grpc.StatusCode.ABORTED,
    errors.KeyReusedError: grpc.StatusCode.ALREADY_EXISTS,
    errors.SequenceError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.EpisodeOverError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotDoneError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ResetHungError: grpc.StatusCode.ABORTED,
    errors.NoRoomError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DrainingError: grpc.StatusCode.UNAVAILABLE,
    errors.WorkerLostError: grpc.StatusCode.UNAVAILABLE,
    errors.NoWorkerError: grpc.StatusCode.UNAVAILABLE,
    errors.ResetInfraError: grpc.StatusCode.UNAVAILABLE,
    errors.ResetFaultError: grpc.StatusCode.INTERNAL,
}
FAULT_CLASS = {
    FaultClass.INFRA: env_pb2.FAULT_CLASS_INFRA,
    FaultClass.ENV_BUG: env_pb2.FAULT_CLASS_ENV_BUG,
    FaultClass.MODEL: env_pb2.FAULT_CLASS_MODEL,
}


def status_of(error: errors.EnvServiceError) -> grpc.StatusCode:
    """The gRPC status that stands for an error."""
    return STATUS[type(error)]


def retry_after_ms(error: errors.EnvServiceError) -> int:
    """Milliseconds after which a caller should ask again; 0: no hint."""
    return round(error.retry_after_s * 1000) if isinstance(error, errors.NoRoomError) else 0


def refusal(error: errors.EnvServiceError) -> env_pb2.Refusal:
    """An error as one item of a batch carries it."""
    code: int = status_of(error).value[0]
    return env_pb2.Refusal(code=code, message=str(error), retry_after_ms=retry_after_ms(error))


def observation_message(observation: KeyedObservation) -> env_pb2.Observation:
    """Field by field."""
    return env_pb2.Observation(
        text=observation.text,
        anchor=observation.anchor,
        anchor_key=observation.anchor_key,
        state_key=observation.state_key,
        task=observation.task,
        admissible_actions=observation.admissible_actions,
        digest=observation.digest,
    )


def outcome_message(answer: KeyedOutcome | Fault) -> env_pb2.Outcome:
    """A step's outcome; a fault carries nothing but itself, least of all a reward."""
    if isinstance(answer, Fault):
        fault = env_pb2.Fault(fault_class=FAULT_CLASS[answer.fault_class], message=answer.message)
        return env_pb2.Outcome(fault=fault)
    return env_pb2.Outcome(
        observation=observation_message(answer.observation),
        reward=answer.reward,
        score=answer.score,
        won=answer.won,
        terminated=answer.terminated,
        truncated=answer.truncated,
        action_valid=answer.action_valid,
        rewards=answer.rewards,
        judge_tokens=answer.judge_tokens,
        action_key=answer.action_key,
    )


def step_result(step: env_pb2.StepRequest, answer: Stepped | Fault | errors.EnvServiceError) -> env_pb2.StepResult:
    """The result of one step of many."""
    if isinstance(answer, errors.EnvServiceError):
        return env_pb2.StepResult(lease=step.lease, seq=step.seq, refusal=refusal(answer))
    return env_pb2.StepResult(lease=step.lease, seq=step.seq, outcome=outcome_message(answer))


def environment_message(entry: EnvironmentEntry) -> env_pb2.EnvironmentInfo:
    """One line of the listing."""
    return env_pb2.EnvironmentInfo(
        id=entry.id,
        description=entry.description,
        kwargs_schema_json=entry.kwargs_schema_json,
        capabilities=env_pb2.Capabilities(
            deterministic=entry.deterministic,
            gives_anchors=entry.gives_anchors,
            thread_safe=entry.thread_safe,
            cost_class=env_pb2.CostClass.ValueType(entry.cost_class),
        ),
        default_max_turns=entry.default_max_turns,
        splits=entry.splits,
        prompt_template=entry.prompt_template,
        vocabulary=entry.vocabulary,
        unavailable_reason=entry.unavailable_reason,
        max_sessions=entry.max_sessions,
        example_kwargs_json=entry.example_kwargs_json,
        example_actions=entry.example_actions,
        templates=entry.templates,
        tools_json=entry.tools_json,
    )
