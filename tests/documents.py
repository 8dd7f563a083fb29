"""The pages that people read, and the blocks of code in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LANGUAGES = ("sh", "python", "yaml", "json", "toml", "text", "output", "http")
"""`text` behind a program is what it prints, and compared where the session is run; `output` is an example alone."""
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DOCUMENT = re.compile(r"<<'?(\w+)'?[^\n]*\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_HEREDOC_FILE = re.compile(r"> (\S+\.(?:json|yaml)) <<'?(\w+)'?\n(.*?)^\2$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class CodeBlock:
    """One block of a page."""

    page: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> dict[str, str]:
    """Every page by its path in the repository."""
    found = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("services/*/README.md"),
        *ROOT.glob("gigpo/*/README.md"),
    ]
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in sorted(found)}


def code_blocks(page: str, text: str) -> Iterator[CodeBlock]:
    """The fenced blocks of a page, and the YAML and JSON files that its shell blocks write."""
    for fence in _FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        yield CodeBlock(page, line, fence[1], fence[2])
        if fence[1] == "sh":
            for file in _HEREDOC_FILE.finditer(fence[2]):
                inside = line + 1 + fence[2].count("\n", 0, file.start())
                yield CodeBlock(page, inside, Path(file[1]).suffix[1:], file[3])


def indented_code(text: str) -> list[str]:
    """Lines that Markdown takes for code because of four spaces: nothing says what language they are."""
    outside = _FENCE.sub("", text).split("\n")
    return [
        line for before, line in zip(["", *outside], outside, strict=False) if not before and re.match(r" {4}\S", line)
    ]


def shell_calls(code: str, program: str) -> Iterator[list[str]]:
    """Each call of a program in shell code, as the words after its name, also inside `$(...)`."""
    joined = _DOCUMENT.sub("", code).replace("\\\n", " ")
    for line in joined.split("\n"):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters, lexer.whitespace_split = "#", True
        call: list[str] | None = None
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                if call is not None:
                    yield call
                call = None
            elif call is not None:
                call.append(word)
            elif word.rpartition("/")[2] == program:
                call = []
