"""Data parallelism on a real process group: the gradient of k ranks is that of one batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from rank_process import gradient, rows_of_rank
from safetensors.torch import load_file

from gigpo_core.loss_config import LossType

WORLD = 3
"""The middle rank holds no rows at all, the others unequal shares."""


@pytest.fixture(scope="module")
def updates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what each rank held after an update with each loss."""
    folder = tmp_path_factory.mktemp("ranks")
    program = Path(__file__).with_name("rank_process.py")
    ranks = [
        subprocess.Popen([sys.executable, program, str(rank), str(WORLD), folder / "rendezvous", folder])
        for rank in range(WORLD)
    ]
    assert [rank.wait(150) for rank in ranks] == [0] * WORLD
    return folder


@pytest.mark.parametrize("loss_type", get_args(LossType))
def test_ranks_of_unequal_shares_give_the_gradient_of_one_batch(loss_type: LossType, updates: Path) -> None:
    wanted, loss = gradient(rows_of_rank(0, 1), loss_type, reduce=False)
    for rank in range(WORLD):
        got = load_file(updates / f"{loss_type}-{rank}.safetensors")
        torch.testing.assert_close(got["gradient"], wanted, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(got["loss"], loss, rtol=1e-12, atol=1e-14)
    assert wanted.abs().max() > 1e-4
