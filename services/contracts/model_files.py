"""Which files of a model folder go along with other weights than the folder's own."""

from __future__ import annotations

from fnmatch import fnmatchcase

ALONG = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.md", "LICENSE*", "NOTICE*")
"""Config, tokenizer, chat templates, terms. Every other file in such a folder is code, or weights in some format
(`tf_model.h5`, `flax_model.msgpack`, `onnx/`), which would be the former ones beside the new ones."""
BEHIND = (".*", "*.index.json", "adapter_*")
"""Files of it that do not count: hidden ones, maps of other weight files, adapters for other weights."""
TEMPLATES = "additional_chat_templates"
"""The one folder that goes along: transformers keeps a tokenizer's further chat templates there."""


def goes_along(name: str) -> bool:
    """Whether a file of this name describes the model and is none of its weights."""
    return any(fnmatchcase(name, one) for one in ALONG) and not any(fnmatchcase(name, one) for one in BEHIND)
