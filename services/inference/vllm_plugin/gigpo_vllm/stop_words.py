"""The text in which vLLM looks for stop words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

WRITTEN = "gigpo_written"


def read_as_written(engine: Any) -> None:
    """Have vLLM put tokens into words as the policy's tokenizer.json says. Once is enough; again changes nothing.

    transformers may take another decoder for the model's kind, such as one that drops the spaces of a word tokenizer;
    rollout workers and the transformers engine read the file.
    """
    tokenizer = engine.output_processor.tokenizer
    if getattr(tokenizer, WRITTEN, False):
        return
    written = Tokenizer.from_file(str(Path(engine.model_config.tokenizer) / "tokenizer.json"))
    written.add_tokens(list(tokenizer._tokenizer.get_added_tokens_decoder().values()))
    tokenizer._tokenizer = written
    setattr(tokenizer, WRITTEN, True)
