"""Translates other trainers' scripts into job files."""

from __future__ import annotations

import sys
from pathlib import Path

from gigpo.client.errors import BadInput
from gigpo.client.migration import swift, verl
from gigpo.client.migration.script import find_command
from gigpo.client.migration.translation import Translation, job_file
from gigpo.client.own_data import text_of

_READERS = {"ms-swift": (swift, "`swift rlhf` or `megatron rlhf`"), "verl-agent": (verl, "`verl.trainer.main_ppo`")}
TRAINERS = tuple(_READERS)
"""The trainers whose scripts are read."""


def job_file_from(trainer: str, script: Path | None) -> tuple[str, Translation]:
    """The job file that a script means, and what was made of it.

    Args:
        script: a shell script; `-` is stdin.

    Raises:
        BadInput: names the script and why it is none.
    """
    if trainer not in _READERS:
        raise BadInput(f"--from: want one of {', '.join(TRAINERS)}, got {trainer!r}")
    if script is None:
        raise BadInput(f"--from {trainer}: want a shell script after it, or - for stdin")
    reader, program = _READERS[trainer]
    try:
        text = sys.stdin.read() if str(script) == "-" else text_of(script)
        command = find_command(text, reader.begins)
    except OSError as error:
        raise BadInput(f"{script}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{script}: want a shell script, byte {error.start} is not text") from error
    except ValueError as error:
        raise BadInput(f"{script}: want a shell script, a quote in it is never closed") from error
    if command is None:
        raise BadInput(f"{script}: no command with {program} in it")
    found = reader.translated(command, script.parent)
    return job_file(found, f"gigpo train --from {trainer} {script}"), found
