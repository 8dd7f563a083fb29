"""Our vLLM plugin: registers a weight transfer backend named `file`, and ends vLLM's processes with their parent.

`register` is a `vllm.general_plugins` entry point: vLLM calls it in each of its processes, possibly more than once.
"""

from __future__ import annotations

BACKEND = "file"
"""Name for `--weight-transfer-config {"backend": ...}`."""


def register() -> None:
    """Add the backend to vLLM's registry and bind this process to its parent's life. Idempotent."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    from gigpo_vllm.parent import die_with_spawning_process

    die_with_spawning_process()
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, "gigpo_vllm.file_transfer", "FileWeightTransfer")
