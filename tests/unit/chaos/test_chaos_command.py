"""The command's words: what it teaches and what it refuses."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import WRONG_CALL, main
from tests.chaos.faults import KINDS, SERVICES


def test_the_help_names_every_kind_and_service(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"  {kind} " in told for kind in KINDS)
    assert all(service in told for service in SERVICES)


def test_a_plan_is_the_same_again_and_starts_nothing(capsys: pytest.CaptureFixture[str]):
    assert main(["--plan", "--seed", "3", "--kills", "4"]) == 0
    first = capsys.readouterr().out
    assert len(first.splitlines()) == 4
    main(["--plan", "--seed", "3", "--kills", "4"])
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--only", "rolout"], "--only: want some of env, env-worker, rollout"),
        (["--kinds", "kill,burn"], "--kinds: want some of kill, stop"),
        (["--kinds", "power", "--only", "api"], "want a fault that exists"),
        (["--kills", "0"], "want a whole number from 1 to 500, got 0"),
        (["--kills", "many"], "want a whole number from 1 to 500, got many"),
    ],
)
def test_a_wrong_option_gets_a_sentence_and_exit_status_2(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == WRONG_CALL
    assert sentence in capsys.readouterr().err
