"""Streams, consumer groups, payloads and dead letters on a cluster."""

from tests.integration.kit.test_letters import *  # noqa: F403
from tests.integration.kit.test_payloads import *  # noqa: F403
from tests.integration.kit.test_streams import *  # noqa: F403

del test_dead_letters_do_not_pile_up_for_ever  # noqa: F821 - thousands of entries say nothing of slots
