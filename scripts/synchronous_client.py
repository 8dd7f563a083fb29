"""Write gigpo/client/synchronous from gigpo/client/asynchronous. Run: python scripts/synchronous_client.py [--check]

The output is committed. With --check nothing is written, and the status is 1 where anything would change.
"""

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[1] / "gigpo" / "client"
SOURCE, TARGET = CLIENT / "asynchronous", CLIENT / "synchronous"
PACKAGE = '''"""The synchronous client. `make client` generates it from `gigpo.client.asynchronous`: edit that one."""

from gigpo.client.synchronous.client import GigpoClient

__all__ = ["GigpoClient"]
'''
WORDS = {
    r"async (def|with|for)\b": r"\1",
    r"await ": "",
    r"asyncio\b": "time",
    r"asynchronous\b": "synchronous",
    r"Async(?=[A-Z])": "",
    r"__a(enter|exit)__": r"__\1__",
    r"asynccontextmanager\b": "contextmanager",
    r"a(iter_bytes|close|closing|read)\b": r"\1",
}
"""Pattern at the beginning of a word -> what stands in its place, in docstrings too."""


def synchronous(code: str, path: Path) -> str:
    """The code of a module without a word of asyncio, formatted as the rest."""
    for pattern, word in WORDS.items():
        code = re.sub(rf"\b{pattern}", word, code)
    ours = 'lint.isort.known-first-party=["gigpo", "services"]'  # a module that is not written yet is ours too
    for tool in (("check", "--quiet", "--fix", "--select", "I", "--config", ours), ("format",)):
        command = [sys.executable, "-m", "ruff", *tool, "--stdin-filename", str(path), "-"]
        code = subprocess.run(command, input=code, capture_output=True, text=True, check=True).stdout
    return code


def generated() -> dict[Path, str]:
    """Every file of the package and its text."""
    modules = [TARGET / path.name for path in SOURCE.glob("*.py") if path.name != "__init__.py"]
    texts = {path: synchronous((SOURCE / path.name).read_text(), path) for path in modules}
    return {TARGET / "__init__.py": PACKAGE, **texts}


def main() -> None:
    """Write the package, or with --check compare it. SystemExit names every file that differs."""
    wanted = generated()
    present = {path: path.read_text() for path in TARGET.glob("*.py")}
    differing = sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))
    if "--check" in sys.argv[1:]:
        if differing:
            sys.exit(f"stale, run `make client`: {', '.join(str(path.relative_to(CLIENT)) for path in differing)}")
        return
    TARGET.mkdir(exist_ok=True)
    for path in differing:
        path.write_text(wanted[path]) if path in wanted else path.unlink()


if __name__ == "__main__":
    main()
