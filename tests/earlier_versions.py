"""Folders of `tests/data` with what earlier versions wrote."""

from __future__ import annotations

from pathlib import Path

FOLDERS = sorted(path for path in Path(__file__).with_name("data").glob("v*"))
IDS = [path.name for path in FOLDERS]
