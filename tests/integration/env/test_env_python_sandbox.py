"""The sandbox of agents' code: real processes, real limits of the kernel."""

import json
from typing import Any

import pytest

from gigpo.env.environment import KwargsError, Outcome
from services.env.environments.python_sandbox.environment import PythonSandbox
from services.env.environments.python_sandbox.runner import missing_here
from services.env.environments.python_sandbox.sandbox import run_python
from services.env.workers.registry import valid_kwargs

pytestmark = pytest.mark.skipif(bool(missing_here()), reason=missing_here())


def call(name: str, **arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments})


def opened(**kwargs: Any) -> PythonSandbox:
    env = PythonSandbox(valid_kwargs(PythonSandbox, json.dumps(kwargs)))  # type: ignore[arg-type]
    env.reset(0, "train")
    return env


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("2 + 3", "5"),
        ("x = 4\nprint('x is', x)\nx * 2", "x is 4\n8"),
        ("None", ""),
        ("import math, fractions, statistics\nstatistics.mean([1, 2])", "1.5"),
        ("1\n1/0", "line 2: ZeroDivisionError: division by zero"),
        ("def f(:", "line 1: SyntaxError: invalid syntax"),
        ("raise SystemExit(0)", "line 1: SystemExit: 0"),
        ("object()", "<object object at 0x...>"),
        ("'\\ud800'", "'\\ud800'"),
        ("print('\\ud800')", "\\ud800"),
        ("import threading\nt = threading.Thread(target=print, args=['hi'])\nt.start()\nt.join()", "hi"),
        ("import os\nos._exit(3)", "(ended early)"),
        ("import ctypes\nctypes.string_at(0)", "(crashed)"),
        ("'a' * 10**10", "line 1: MemoryError"),
        ("while True: pass", "(stopped: it took too long)"),
        ("import time\ntime.sleep(1000)", "(stopped: it took too long)"),
    ],
)
def test_what_code_prints_and_how_it_ends(code: str, output: str) -> None:
    assert run_python(code, timeout_s=1.0 if "too long" in output else 20.0).output == output


def test_output_without_end_is_cut() -> None:
    output = run_python("while True: print('x')", timeout_s=20.0).output
    assert output.endswith("(cut after 8192 bytes)")
    assert len(output) < 9000


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket()",
        "import socket; socket.socketpair()",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:1')",
        "open('/etc/passwd').read()",
        "open('/proc/self/environ').read()",
        "import os; os.listdir('/proc')",
        "import os; os.listdir('/')",
        "import os; os.listdir('.')",
        "open('/tmp/left_behind', 'w')",
        "open('/dev/shm/left_behind', 'w')",
        "import os; os.fork()",
        "import os; os.kill(1, 0)",
        "import os; os.kill(-1, 9)",
        "import os; os.killpg(0, 9)",
        "import os; os.setsid()",
        "import os; os.execv('/bin/true', ['true'])",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import multiprocessing; multiprocessing.Process(target=print).start()",
        "import os; os.setuid(0)",
        "import os; os.memfd_create('x')",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "import os; os.sched_setaffinity(1, {0})",
    ],
)
def test_code_reaches_nothing(code: str) -> None:
    run = run_python(code, timeout_s=20.0)
    assert not run.passed
    assert "Error" in run.output, run.output


def test_code_sees_none_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "secret")
    assert "secret" not in run_python("import os; dict(os.environ)", timeout_s=20.0).output


def test_the_same_code_says_the_same_twice() -> None:
    code = "import random; print({'a', 'b', 'c', 'd'}, random.random(), object())"
    assert run_python(code, timeout_s=20.0) == run_python(code, timeout_s=20.0)


@pytest.mark.parametrize(
    ("code", "passed"),
    [
        ("def double(x): return 2 * x", True),
        ("def double(x): return x", False),
        ("import os; os._exit(0)", False),
        ("raise SystemExit(0)", False),
        ("", False),
    ],
)
def test_tests_judge_code(code: str, passed: bool) -> None:
    assert run_python(code, "assert double(2) == 4", timeout_s=20.0).passed is passed


def test_a_sum_is_computed_and_answered() -> None:
    env = opened(arithmetic={"max_operand": 9}, timeout_s=20)
    first, _, second = env._question.text.split()
    seen = env.step(call("python", code=f"{first} + {second}"))
    total = str(int(first) + int(second))
    assert (seen.observation.text, seen.action_valid, seen.terminated) == (total, True, False)
    assert "- python(code: string): Run Python code" in seen.observation.task
    last = env.step(call("answer", answer=int(total)))
    assert (last.won, last.reward, last.terminated) == (True, 1.0, True)
    assert [tool["name"] for tool in env.tools] == ["python", "answer"]


def test_a_wrong_answer_is_worth_nothing() -> None:
    last = opened().step(call("answer", answer="12345"))
    assert (last.won, last.reward, last.terminated, last.action_valid) == (False, 0.0, True, True)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("3 + 4", "This is no call of a tool"),
        (call("submit", code="1"), 'There is no tool "submit"; there are: python, answer'),
        (call("python", answer="1"), "arguments: want one text"),
        (call("python", code=1), "arguments: want one text"),
        (call("answer", answer=True), "arguments: want one text"),
        (call("answer", answer="1", code="2"), "arguments: want one text"),
    ],
)
def test_what_is_no_call_is_invalid_and_the_agent_is_told(action: str, said: str) -> None:
    outcome: Outcome = opened().step(action)
    assert (outcome.action_valid, outcome.terminated, outcome.reward) == (False, False, 0.0)
    assert said in outcome.observation.text


def test_a_row_with_tests_wants_code() -> None:
    rows = [{"prompt": "Write double(x).", "tests": "assert double(3) == 6"}]
    env = opened(rows=rows, split_dataset_ratio=0, timeout_s=20)
    assert env._names == ["python", "submit"]
    assert env.step(call("submit", code="def double(x): return 2 * x")).won


def test_a_row_without_solution_or_tests_is_refused() -> None:
    with pytest.raises(KwargsError, match=r'data: want a solution, or tests as Python code, in every row; "what\?"'):
        opened(rows=[{"prompt": "what?"}], split_dataset_ratio=0)
