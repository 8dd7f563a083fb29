"""The learner: the current policy, its reference, its optimizer, and what a batch of rows does to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from services.contracts.job import JobSpec, WarmStart
from services.trainer.learner.rows import Row

Progress = Callable[[int, float], None]
"""Called with (optimizer step from 1, mean negative log-likelihood per token) while the warm start runs."""


class Learner:
    """One job's policy in training. Not thread-safe; torch's thread count is the caller's setting."""

    def __init__(self, spec: JobSpec, folder: Path) -> None:
        """Load the policy in `folder` (Hugging Face format); its weights are the reference too if beta > 0.

        Raises:
            PolicyFolderError: `folder` holds no policy.
        """
        raise NotImplementedError

    @property
    def optimizer_steps(self) -> int:
        """Optimizer steps of `train_batch` so far; the warm start's are not counted."""
        raise NotImplementedError

    def supervise(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        warmstart: WarmStart,
        progress: Progress | None = None,
    ) -> dict[str, float]:
        """Raise the likelihood of the responses given their prompts; then optimizer and reference start afresh.

        What `progress` raises ends the warm start and leaves the policy half-way: load it again.

        Returns:
            `warmstart_nll_first`, `warmstart_nll` (mean of the first/last 25 steps, nats per token),
            `warmstart_steps`, `warmstart_rows`.

        Raises:
            RowsError: no pairs, or an empty prompt or response.
        """
        raise NotImplementedError

    def train_batch(self, rows: Sequence[Row], batch_index: int) -> dict[str, float]:
        """Take the batch's optimizer steps; `batch_index` 0..total_batches-1 sets the learning rate.

        Policy version `batch_index` is the one in memory before the call. Rows with an advantage of exactly 0 are
        left out whatever beta and entropy_coef are, and every mean (loss, KL, entropy) is over the rows that are
        kept; if none is kept no step is taken and the weights stay as they are.

        Returns:
            `loss`, `policy_loss`, `kl`, `entropy`, `clip_fraction`, `grad_norm`, `learning_rate`, `mismatch_kl`,
            `mismatch_max`, `importance_weight_mean`, `importance_weight_max`, `importance_corrected_share`, `rows`,
            `trained_rows`, `unique_rows_share`, `sampled_tokens`, `trained_tokens`, `optimizer_steps` (all so far).

        Raises:
            RowsError: no rows.
            LearnerError: a loss or gradient is not finite; the weights are those before that optimizer step.
        """
        raise NotImplementedError

    def save_policy(self, folder: Path) -> dict[str, str]:
        """Write the current weights alone, in the job's torch_dtype, for a policy version.

        Returns:
            File name -> hex sha256.
        """
        raise NotImplementedError

    def save(self, folder: Path) -> dict[str, str]:
        """Write everything a later `load` needs to go on bit for bit, without pickles; each file synced.

        `folder` is made if need be; the caller renames it when it is complete.

        Returns:
            File name -> hex sha256.
        """
        raise NotImplementedError

    def load(self, folder: Path) -> None:
        """Become the learner that was saved in `folder`, made from the same spec and base.

        Raises:
            StateError: a file is missing or unreadable, or tensors don't fit this policy.
        """
        raise NotImplementedError

    def export(self, folder: Path) -> None:
        """Write a whole Hugging Face folder (config, tokenizer, weights), complete or not at all."""
        raise NotImplementedError
