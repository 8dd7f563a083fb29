"""Errors of calls, one class per answer. The servicer translates them to gRPC statuses."""


class EnvServiceError(Exception):
    """Root of the service's errors."""


class UnknownEnvironmentError(EnvServiceError):
    """The service can open no environment of that id; the message says why."""


class BadRequestError(EnvServiceError):
    """An argument is wrong; the message names it, says what came and what is wanted."""


class NotReplayableError(EnvServiceError):
    """A history was given, and the environment is not deterministic."""


class DivergedError(EnvServiceError):
    """A history was given, and its replay shows other observations (INFRA)."""


class KeyReusedError(EnvServiceError):
    """An idempotency key came again with other arguments."""


class UnknownLeaseError(EnvServiceError):
    """The lease never lived, was closed, or has expired."""


class SequenceError(EnvServiceError):
    """A step came out of order: a gap in seq, one long answered, or one before the last was done."""


class EpisodeOverError(EnvServiceError):
    """A step after the episode ended."""


class NotDoneError(EnvServiceError):
    """The answer is not there yet; the step goes on, the same call may be repeated."""


class NoRoomError(EnvServiceError):
    """Too many leases are live, of all or of this environment. Ask again after `retry_after_s`, seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DrainingError(EnvServiceError):
    """The service is going down and opens nothing more."""


class ResetFaultError(EnvServiceError):
    """The environment's own code failed before the first observation (ENV_BUG)."""


class ResetHungError(EnvServiceError):
    """The environment took too long before the first observation; its worker was killed."""


class ResetInfraError(EnvServiceError):
    """Something that the environment depends on failed before the first observation (INFRA)."""


class WorkerLostError(EnvServiceError):
    """A worker died or was killed with calls under way (INFRA).

    Attributes:
        running: this very call was being executed, so it may have been the cause.
        hung: the worker was killed because the executed call took too long, or too much CPU time.
    """

    def __init__(self, message: str, *, running: bool = False, hung: bool = False) -> None:
        super().__init__(message)
        self.running = running
        self.hung = hung


class NoWorkerError(WorkerLostError):
    """The service has no worker, and none came up while the call waited; the message says why the last one did not."""
