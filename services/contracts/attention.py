"""Which of transformers' implementations of attention computes a model as it was meant."""

from __future__ import annotations

from typing import Any, Literal


def attention_for(config: Any) -> Literal["eager"] | None:
    """The plain one where the model caps its attention scores: the fast ones leave the cap out without a word.

    Args:
        config: a `PreTrainedConfig`.

    Returns:
        None: transformers' own choice, the fastest that the model supports.
    """
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "eager" if capped else None


def without_choice(config: Any) -> Any:
    """The config without an implementation of attention that its file names, such as one whose package is missing.

    Args:
        config: a `PreTrainedConfig`; it is changed.
    """
    config._attn_implementation = None
    return config
