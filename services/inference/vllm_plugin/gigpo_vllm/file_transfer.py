"""Weight transfer backend `file`: a checkpoint's safetensors files on a shared file system.

It follows the life of vLLM's own checkpoint-format backends (layerwise reload between start and finish), without
their synchronisation of an accelerator, which raises on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.logger import init_logger
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

logger = init_logger("vllm.gigpo_weights")


@dataclass
class FileRoot(WeightTransferInitInfo):
    """Where weights may come from."""

    root: str
    """Folder; files outside it are refused."""


@dataclass
class FilePath(WeightTransferUpdateInfo):
    """One version's weights."""

    path: str
    """Folder below the root whose `*.safetensors` hold every tensor of the model, in checkpoint names."""


class FileWeightTransfer(WeightTransferEngine[FileRoot, FilePath]):
    """Loads a whole checkpoint from files; one `update_weights` per version."""

    init_info_cls = FileRoot
    update_info_cls = FilePath
    root: Path | None = None

    def init_transfer_engine(self, init_info: FileRoot) -> None:
        """Confine every later path to `init_info.root`."""
        self.root = Path(init_info.root).resolve(strict=True)

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, object]) -> None:
        """Like the base class, which synchronises an accelerator even where there is none."""
        self.receive_weights(self.parse_update_info(update_info))
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: FilePath) -> None:
        """Load every tensor of the folder.

        Raises:
            PermissionError: the folder, or where a link in it points to, is outside the root.
            FileNotFoundError: it holds no safetensors file.
        """
        files = self._files(Path(update_info.path))
        self.model.load_weights(_tensors(files))
        logger.info("loaded %d file(s) from %s", len(files), update_info.path)

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        repack_tied_head(self.model)

    def shutdown(self) -> None:
        """Nothing is held between updates."""

    def _files(self, folder: Path) -> list[Path]:
        if self.root is None:
            raise PermissionError("no root: init_weight_transfer_engine comes first")
        files = [file.resolve(strict=True) for file in sorted(folder.resolve(strict=True).glob("*.safetensors"))]
        if not files:
            raise FileNotFoundError(f"no *.safetensors in {folder}")
        for file in files:
            if not file.is_relative_to(self.root):
                raise PermissionError(f"{file} is outside {self.root}")
        return files


def _tensors(files: list[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - a safe_open is not a mapping
                yield name, opened.get_tensor(name)


def repack_tied_head(model: torch.nn.Module) -> None:
    """Rebuild the packed copy that an output head tied to the embeddings keeps on a CPU.

    The reload of vLLM 0.32 refreshes the embeddings but not that copy, and logits come out of the old weights without
    an error. Where no such copy exists nothing happens.
    """
    for module in model.modules():
        if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)
