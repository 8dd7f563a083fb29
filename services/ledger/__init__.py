"""The rollout ledger, a library: only its code moves a group from one state to the next."""

from services.ledger.books import Books
from services.ledger.ledger import Attempt, Ledger, LedgerSpoiled, MoveRefused, StaleEpoch
from services.ledger.records import Balance, GroupRecord, RecordUnreadable
from services.ledger.states import DropReason, GroupState

__all__ = [
    "Attempt",
    "Balance",
    "Books",
    "DropReason",
    "GroupRecord",
    "GroupState",
    "Ledger",
    "LedgerSpoiled",
    "MoveRefused",
    "RecordUnreadable",
    "StaleEpoch",
]
