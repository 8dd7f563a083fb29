"""Every environment of this installation keeps the contract; extras that are not installed are named."""

import asyncio

import pytest

from services.env.tools.conformance import Result, check_environments
from services.env.workers.registry import NOT_INSTALLED, Registry, known_environments

ENTRIES = {entry.id: entry for entry in Registry(known_environments({})).entries()}


@pytest.mark.parametrize("environment", sorted(ENTRIES))
def test_it_keeps_the_contract(environment):
    reason = ENTRIES[environment].unavailable_reason
    if reason.startswith(NOT_INSTALLED):
        pytest.skip(f"{environment} is {reason}")
    findings = asyncio.run(check_environments([environment], lambda _: None))
    assert [finding for finding in findings if finding.result is Result.FAILED] == []
