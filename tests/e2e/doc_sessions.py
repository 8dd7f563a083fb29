"""The sessions in docs/: their `sh` and `python` blocks as programs, `text` blocks as what they print."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gigpo.client import GigpoClient
from services.env.environments.grid import Grid

ROOT = Path(__file__).parents[2]
WRITTEN_URL = "http://127.0.0.1:8400"
"""Where the documents say that the API is."""
_END = "-- end of block --"
_IDENTIFIER = r"(?<![0-9a-z.])([jt][0-9a-f]{17,19}|[0-9a-f]{12}|[0-9a-f]{16})(?![0-9a-z])"
_NUMBER = r"[-+±]?\d[\d.,:]*(e[-+]\d+)?"
_SAID = [*filter(str.isalpha, Grid.vocabulary()), "act", "won", "lost", "ran out of turns", "invalid"]
_WORDS = rf"\b({'|'.join(_SAID)})\b(?: #)*"  # with a number of it, as in `take 2`


@dataclass(frozen=True)
class Block:
    """A program of a document, and what it is said to print; None: nothing is said."""

    line: int
    language: str
    code: str
    output: str | None


def blocks(path: Path, heading: str = "") -> Iterator[Block]:
    """The document's programs in order; with `heading` those of the section `## <heading>` only."""
    text = path.read_text(encoding="utf-8")
    begin = text.index(f"\n## {heading}\n") + 1 if heading else 0
    end = text.find("\n## ", begin + 1) if heading else len(text)
    fences = list(re.finditer(r"^```(\w*)\n(.*?)^```$", text[begin:end], re.MULTILINE | re.DOTALL))
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence[1] not in ("sh", "python"):
            continue
        told = following is not None and following[1] == "text"
        line = text.count("\n", 0, begin + fence.start()) + 1
        yield Block(line, fence[1], fence[2], following[2] if told and following else None)


class Session:
    """A shell and a Python namespace that live as long as a document, in the current folder."""

    def __init__(self, url: str) -> None:
        self._url, self._names = url, dict[str, Any]()
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._shell = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail"],
            env={**os.environ, "PATH": paths, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "TZ": "UTC"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.communicate()
        for value in self._names.values():
            if isinstance(value, GigpoClient):
                value.close()

    def run(self, block: Block) -> str:
        """The text that the block printed. Raises AssertionError when a command of a shell block fails."""
        code = block.code.replace(WRITTEN_URL, self._url)
        printed = self._python(code) if block.language == "python" else self._sh(code)
        return printed.replace(self._url, WRITTEN_URL)

    def _python(self, code: str) -> str:
        with redirect_stdout(io.StringIO()) as printed:
            exec(code, self._names)
        return printed.getvalue()

    def _sh(self, code: str) -> str:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{code}\necho; echo '{_END}'\n")
        self._shell.stdin.flush()
        printed = ""
        for line in self._shell.stdout:
            if line.rstrip() == _END:
                return printed.removesuffix("\n")
            printed += line
        raise AssertionError(f"the shell ended; it printed:\n{printed}")


def looks_like(printed: str, written: str) -> bool:
    """Whether the output is the written one but for figures, ids, what the agent did, and how often a line repeats.

    `...` in what is written stands for anything.
    """
    shape = re.sub(r"(.{1,200}?)…\1", r"\1…", _shape(written.replace("...", "…")))
    return re.fullmatch(".*".join(map(re.escape, shape.split("…"))), _shape(printed)) is not None


def _shape(text: str) -> str:
    for pattern, name in ((_IDENTIFIER, "@"), (_NUMBER, "#"), (_WORDS, ""), (r"[\s().]", "")):
        text = re.sub(pattern, name, text)
    repeated = re.compile(r"(.{1,200}?)\1+")
    while (shorter := repeated.sub(r"\1", text)) != text:
        text = shorter
    return text
