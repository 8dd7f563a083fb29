"""The files of a LoRA adapter in peft's format, as the trainer publishes it and engines load it."""

ADAPTER = "adapter_model.safetensors"
"""The tensors, under `PREFIX` and the names of the model's layers."""
ADAPTER_CONFIG = "adapter_config.json"
"""Rank, scale and layers."""
PREFIX = "base_model.model."
"""The prefix that peft puts before every name in the file."""
