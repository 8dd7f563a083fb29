"""Weight transfer backend `file`: a checkpoint's safetensors files on a shared file system.

A model that runs eagerly is built again (see rebuild.py). A model with captured graphs, which read the tensors at fixed
addresses, is loaded in place by vLLM's layerwise reload. Unlike vLLM's own backends this one does not synchronise an
accelerator on machines without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.logger import init_logger
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from gigpo_vllm.rebuild import rebuild, tensors

logger = init_logger("vllm.gigpo_weights")


@dataclass
class FileRoot(WeightTransferInitInfo):
    """Sources of weights."""

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

    @property
    def in_place(self) -> bool:
        """Whether tensors have to stay where they are."""
        return not self.model_config.enforce_eager

    def start_weight_update(self) -> None:
        if self.in_place:
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
            ValueError: it lacks a tensor.
        """
        files = self._files(Path(update_info.path))
        if self.in_place:
            self.model.load_weights(tensors(files))
        else:
            rebuild(self.model, self.vllm_config, files)
        logger.info("loaded %d file(s) from %s", len(files), update_info.path)

    def finish_weight_update(self) -> None:
        if self.in_place:
            finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None:
        """Do nothing, as nothing is held between updates."""

    def _files(self, folder: Path) -> list[Path]:
        if self.root is None:
            raise PermissionError("no root is set: call init_weight_transfer_engine first")
        files = [file.resolve(strict=True) for file in sorted(folder.resolve(strict=True).glob("*.safetensors"))]
        if not files:
            raise FileNotFoundError(f"no *.safetensors in {folder}")
        for file in files:
            if not file.is_relative_to(self.root):
                raise PermissionError(f"{file} is outside {self.root}")
        return files
