"""A policy on disk and in memory: a folder in Hugging Face format <-> a torch module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from transformers import PreTrainedModel

from services.contracts.job import ScratchModel

Dtype = Literal["float32", "bfloat16"]

WEIGHTS = "model.safetensors"
"""The one file weights are written to."""


def build_scratch(spec: ScratchModel, vocabulary: Sequence[str], seed: int, folder: Path) -> None:
    """Write a small Qwen2 with random weights and a word tokenizer, complete or not at all.

    The tokenizer splits at white space, knows `<pad>` 0, `<eos>` 1, `<unk>` 2 and then the sorted words, and joins with
    single spaces; the model has exactly as many embeddings. Same arguments and same libraries -> same bytes.

    Args:
        vocabulary: every word a prompt (the template's words too) or an action can hold; order and repeats don't matter.
        folder: is made; an existing folder is left as it is if it holds the same files, else replaced.

    Raises:
        VocabularyError: no words, or one that holds white space.
    """
    raise NotImplementedError


def load_policy(folder: Path, torch_dtype: Dtype = "float32") -> PreTrainedModel:
    """The causal language model in `folder`, in evaluation mode on the GPU if there is one, else on the CPU.

    Only safetensors are read and no code from the folder is run.

    Raises:
        PolicyFolderError: names every missing file, or says why it can't be loaded.
    """
    raise NotImplementedError


def save_weights(model: PreTrainedModel, folder: Path, torch_dtype: Dtype = "float32") -> dict[str, str]:
    """Write the weights as safetensors: synced, then renamed, tied weights once.

    Returns:
        File name -> hex sha256 of what is in `folder` now: a `PolicyManifest`'s `files`.
    """
    raise NotImplementedError
