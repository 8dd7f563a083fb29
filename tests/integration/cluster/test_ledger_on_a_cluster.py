"""Every move of the ledger on a cluster: the keys that a script touches lie in one slot."""

from tests.integration.ledger.test_active_jobs import *  # noqa: F403
from tests.integration.ledger.test_ledger_moves import *  # noqa: F403
