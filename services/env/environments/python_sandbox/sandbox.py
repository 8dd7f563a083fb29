"""One run of an agent's code in a process of its own, seen from the worker."""

import contextlib
import json
import os
import re
import secrets
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from gigpo.env.environment import InfraFault
from gigpo.env.progress import allow_silence
from services.env.environments.python_sandbox.runner import READY

RUNNER = Path(__file__).with_name("runner.py")
MAX_OUTPUT_BYTES = 8192
"""Limit of the printed text; the rest is cut, and a process that goes on is ended."""
START_S = 60.0
"""A busy machine may take so long to start the process."""
CLOCK = 4.0
"""Code may take this many times its CPU time by the clock: the machine has other work, and code may sleep."""
ADDRESS = re.compile(r"\b0x[0-9a-f]{8,16}\b")
TOO_LONG = "stopped: it took too long"
ENDED = {-9: "killed", -11: "crashed", -24: TOO_LONG, -31: "stopped: a forbidden system call"}
"""Sentence by the number of the signal."""


@dataclass(frozen=True)
class Run:
    """The result of a run."""

    output: str
    """The printed text, and the error in one line; addresses of memory, which differ each time, are masked."""
    passed: bool
    """Code and tests went through to their end."""


def run_python(code: str, tests: str = "", *, timeout_s: float = 5.0, memory_mb: int = 256) -> Run:
    """Run code, then tests in the same names. InfraFault: no process could be confined here."""
    word = secrets.token_hex(16)
    limits = {"cpu_s": ceil(timeout_s), "memory_bytes": memory_mb << 20}
    task = json.dumps({"code": code, "tests": tests, "word": word, **limits})
    command = [sys.executable, "-P", "-s", "-S", "-B", str(RUNNER)]
    with allow_silence(CLOCK * timeout_s + 2 * START_S):
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"},
        )
        with process:
            try:
                output, said, late = _read(process, task.encode(), CLOCK * timeout_s)
            finally:
                process.kill()
        status = process.returncode
    if not said.startswith(READY):
        why = said.decode(errors="replace").splitlines()[-1:] or [f"no sign of it within {START_S:g} s"]
        raise InfraFault(f"the sandbox does not start: {why[0]:.300}")
    text = ADDRESS.sub("0x...", output[:MAX_OUTPUT_BYTES].decode(errors="replace"))
    lines = [text.rstrip("\n")]
    if len(output) > MAX_OUTPUT_BYTES:
        lines.append(f"(cut after {MAX_OUTPUT_BYTES} bytes)")
    elif late or status:
        lines.append(f"({TOO_LONG if late else ENDED.get(status, 'ended early')})")
    return Run("\n".join(line for line in lines if line), said == READY + word.encode())


def _read(process: "subprocess.Popen[bytes]", task: bytes, clock_s: float) -> tuple[bytes, bytes, bool]:
    """Stdout and stderr until both end, one is too long, or it is too late, counted from when the code begins; whether
    it was."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(BrokenPipeError):  # it says why on stderr
        process.stdin.write(task)
        process.stdin.close()
    out, err = process.stdout.fileno(), process.stderr.fileno()
    read = {out: b"", err: b""}
    deadline, started = time.monotonic() + START_S, False
    with selectors.DefaultSelector() as waiting:
        for descriptor in read:
            waiting.register(descriptor, selectors.EVENT_READ)
        while waiting.get_map() and max(map(len, read.values())) <= MAX_OUTPUT_BYTES:
            if not (ready := waiting.select(max(0.0, deadline - time.monotonic()))):
                return read[out], read[err], True
            for key, _ in ready:
                if part := os.read(key.fd, 65536):
                    read[key.fd] += part
                else:
                    waiting.unregister(key.fd)
            if not started and read[err]:
                deadline, started = time.monotonic() + clock_s, True
        if not waiting.get_map():
            process.wait()
    return read[out], read[err], False
