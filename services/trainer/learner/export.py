"""Writes a policy as a whole Hugging Face folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from services.contracts.mismatch import Dtype
from services.contracts.model_files import TEMPLATES, goes_along
from services.trainer.learner.files import whole_folder, write_text
from services.trainer.learner.weights import write_weights


def write_export(
    base: Path, folder: Path, weights: Mapping[str, Tensor], dtype: Dtype, add: Callable[[Path], object]
) -> None:
    """Config and tokenizer of `base` with other weights, complete or not at all.

    Args:
        dtype: of the weights.
        add: writes further files into the folder.
    """
    with whole_folder(folder) as unfinished:
        shutil.copytree(base, unfinished, ignore=_not_exported, dirs_exist_ok=True)
        config: dict[str, object] = json.loads((base / "config.json").read_text(encoding="utf-8"))
        config.pop("torch_dtype", None)  # transformers 4's name for `dtype`
        config["dtype"] = dtype
        write_text(unfinished / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        add(unfinished)
        write_weights(unfinished, weights)


def _not_exported(folder: str, names: list[str]) -> set[str]:
    """Those of a folder's names that an export leaves out."""
    folders = {name for name in names if Path(folder, name).is_dir()}
    return folders - {TEMPLATES} | {name for name in names if name not in folders and not goes_along(name)}
