"""Structured logs."""

import json
import logging
import sys

import pytest

from services.kit.log import configure_logging


@pytest.fixture(autouse=True)
def _restored():
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:], logging.root.level = handlers, level


def test_a_line_is_one_json_object_on_stderr_with_the_service_in_it(capsys):
    configure_logging("rollout").info("started playing a job", job_id="j")
    logging.getLogger("library").warning("text with %s", "arguments")
    out, err = capsys.readouterr()
    ours, theirs = map(json.loads, err.splitlines())
    assert out == ""
    assert (ours["service"], ours["event"], ours["job_id"], ours["level"]) == (
        "rollout",
        "started playing a job",
        "j",
        "info",
    )
    assert (theirs["event"], theirs["level"]) == ("text with arguments", "warning")
    assert ours["timestamp"].endswith("Z")


def test_an_exception_is_part_of_its_line(capsys):
    logger = configure_logging("rollout")
    try:
        raise KeyError("bug")
    except KeyError:
        logger.exception("it broke")
    (line,) = capsys.readouterr().err.splitlines()
    assert "KeyError: 'bug'" in json.loads(line)["exception"]


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging("rollout", "loud")
    assert sys.stderr
