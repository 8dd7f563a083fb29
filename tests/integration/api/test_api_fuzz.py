"""The whole OpenAPI document under fire, for as long as a gate can wait; `fuzzing.py` has the long run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.api.fuzzing import complaints, fuzzer
from tests.postgres import PostgresServer

BRIEF = ("--phases", "examples,fuzzing", "-n", "12", "--seed", "1")


@pytest.mark.timeout(600)
def test_no_client_meets_an_answer_that_the_document_does_not_allow(
    redis_server: str, env_address: str, tmp_path: Path
) -> None:
    cases = {}
    with fuzzer(redis_server, env_address, tmp_path) as (runs, keyed):
        for client, outcome, wrong in complaints(runs, keyed, "-n", "5", "--seed", "1", others=BRIEF):
            assert not wrong, "\n".join([client, outcome.text[-6_000:], *wrong])
            cases[client] = outcome.cases
    assert cases["administrator"] >= 2_000
    assert min(cases.values()) >= 200


@pytest.mark.timeout(600)
def test_what_sqlite_would_take_postgresql_takes_or_refuses_by_name(
    redis_server: str, env_address: str, tmp_path: Path, postgres: PostgresServer
) -> None:
    with fuzzer(redis_server, env_address, tmp_path, postgres.new_database()) as (runs, keyed):
        for client, outcome, wrong in complaints(runs, keyed, *BRIEF):
            assert not wrong, "\n".join([client, outcome.text[-6_000:], *wrong])
            assert outcome.cases >= 200
