"""The player's tests on the real ledger, environment service and streams, with a fake policy only."""

from tests.unit.rollout.test_player import *  # noqa: F403
