"""Errors while a group is played, one class per reason. An error never becomes a reward."""

from services.contracts.faults import FaultClass
from services.contracts.tokenizer_files import TokenizerError as TokenizerError
from services.ledger import DropReason


class AttemptFailed(Exception):
    """This attempt cannot be finished; the message is the cause that the ledger keeps."""

    reason = DropReason.INFRA
    """Why the group is dropped where no attempt is left; see `Ledger.fail`."""
    lost = False
    """The machinery went away, which says nothing of this group: the attempt does not count against `max_attempts`."""


class EnvironmentFault(AttemptFailed):
    """The environment service failed, or the environment's own code did.

    Args:
        fault: INFRA or ENV_BUG; the message begins with it.
        lost: see `AttemptFailed`.
    """

    def __init__(self, fault: FaultClass, message: str, *, lost: bool = False) -> None:
        super().__init__(f"environment {fault}: {message}")
        self.lost = lost
        self.reason = DropReason.ENV_BUG if fault == FaultClass.ENV_BUG else DropReason.INFRA


class InferenceFault(AttemptFailed):
    """The replicas answered without tokens, however often they were asked.

    Args:
        lost: see `AttemptFailed`.
    """

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


class PromptTooLong(AttemptFailed):
    """A prompt exceeds its token budget even when everything that may go is gone."""

    reason = DropReason.UNPLAYABLE


class NoAdmissibleActions(AttemptFailed):
    """Somebody chooses among the admissible actions, and the environment does not say which these are."""

    reason = DropReason.UNPLAYABLE


class ReplyTooLong(AttemptFailed):
    """The reply that says an admissible action is longer than a response may be."""

    reason = DropReason.UNPLAYABLE


class UnsayableAction(AttemptFailed):
    """The policy's tokenizer has no words for an admissible action."""

    reason = DropReason.UNPLAYABLE


class ModelFault(Exception):
    """The environment could not go on because of what the model said: the episode ends there, without a reward.

    The attempt has not failed: what the model caused is trained.
    """


class JobNotReady(Exception):
    """The job's spec, environment or tokenizer is not there yet; ask again later."""
