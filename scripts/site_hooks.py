"""Settings of MkDocs beside mkdocs.yml: pages that lie outside docs/, and mathematics without a script.

Pages are written for a reader of the repository: links name files. Those between pages become links of the site, those
to source files become plain text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "gigpo/client/README.md": "services/client.md",
    **{
        f"services/{file.parent.name}/README.md": f"services/{file.parent.name}.md"
        for file in ROOT.glob("services/*/README.md")
    },
}
"""File of the repository -> page of the site."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_MATH = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The page with its links to files of the repository turned into links of the site."""
    here = page.file.src_uri
    sources = {site: source for source, site in OUTSIDE.items()}
    folder = Path(sources.get(here, f"docs/{here}")).parent

    def turned(match: re.Match[str]) -> str:
        image, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        if "://" in target or not target:
            return match[0]
        named = os.path.normpath(folder / target)
        site = OUTSIDE.get(named) or named.removeprefix("docs/")
        if site == named and named not in OUTSIDE:
            return text  # a source file: the site has none
        return f"{image}[{text}]({os.path.relpath(site, Path(here).parent)}{anchor})"

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(turned, part) for part in parts)


def on_page_content(html: str, **_: Any) -> str:
    """Mathematics as MathML, which browsers draw by themselves."""
    return _MATH.sub(lambda match: convert(_unescaped(match[1])), html)


def _unescaped(latex: str) -> str:
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        latex = latex.replace(entity, character)
    return latex
