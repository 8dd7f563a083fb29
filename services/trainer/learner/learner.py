"""The learner: the current policy, its reference, its optimizer, and the update by a batch of rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW
from transformers import PreTrainedModel

from gigpo_core import LossConfig, Turn
from gigpo_core.kl import kl_estimate
from gigpo_core.tokens import row_sums
from services.contracts.job import JobSpec, WarmStart
from services.contracts.policy import PolicyProbe
from services.trainer.learner.adapter import adapter_tensors, adapters_off, add_adapter, dropping, merged, write_adapter
from services.trainer.learner.errors import LearnerError, MismatchError, RowsError, StateError
from services.trainer.learner.export import write_export
from services.trainer.learner.fitting import check_memory
from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.parts import checkpoint_activations
from services.trainer.learner.policy import load_policy, policy_device
from services.trainer.learner.port import Supervising
from services.trainer.learner.prefixes import balance_of
from services.trainer.learner.probe import probe_of
from services.trainer.learner.ranks import ALONE, Ranks, copy_weights
from services.trainer.learner.rows import Row
from services.trainer.learner.schedule import learning_rate
from services.trainer.learner.second_stage import rescored
from services.trainer.learner.state import (
    State,
    optimizer_tensors,
    read_state,
    restore_optimizer,
    restore_weights,
    write_state,
)
from services.trainer.learner.supervise import supervise
from services.trainer.learner.tempered import Entropy
from services.trainer.learner.token_rows import TokenRows
from services.trainer.learner.update import (
    Columns,
    accumulate_gradient,
    agreement,
    columns_of,
    fresh_columns,
    loss_config,
    minibatch_rows,
    mismatch,
    step_weights,
    token_mask,
)
from services.trainer.learner.weights import checkpoint_tensors, write_weights

BETAS = (0.9, 0.95)
"""AdamW's averages for training; a short second one follows gradients whose scale changes as success does."""

BASE_IS_REFERENCE = "base_is_reference"
"""Key of a saved state: 1 where the reference, if beta wants one, is the policy that the learner was made from."""

ADAPTER_FOLDER = "adapter"
"""Folder of an export: the adapters alone, in peft's format."""


class Learner:
    """One job's policy in training. Not thread-safe; torch's thread count is the caller's setting.

    What is trained, and its optimizer, is float32 whatever the job's torch_dtype; with bfloat16 the products run in
    bfloat16, published weights are rounded to it, and weights that adapters leave frozen are kept in it.
    """

    def __init__(self, spec: JobSpec, folder: Path, ranks: Ranks = ALONE) -> None:
        """Load the policy in `folder` (Hugging Face format); its weights are the reference too if beta > 0.

        Args:
            ranks: of more than one, each has a learner, makes the same calls with the same arguments, and gets the
                same results; one of them writes the files.

        Raises:
            PolicyFolderError: `folder` holds no policy.
            LearnerError: a kind of model whose log-probabilities can't be computed here, or too little memory.
        """
        self.spec = spec
        self.folder = folder
        self.optimizer_steps = 0
        """Optimizer steps of `train_batch` so far; the warm start's are not counted."""
        self._generator = torch.Generator().manual_seed(spec.training.seed)
        self._adapts = spec.model.tuner_type == "lora"
        self._ranks = ranks
        device = policy_device() if ranks.mesh is None else torch.device("cpu")  # each rank takes its pieces from there
        model = load_policy(folder, spec.model.torch_dtype if self._adapts else "float32", device)
        check_memory(spec, model, ranks.count, model.num_parameters())
        if self._adapts:
            add_adapter(model, spec.model, spec.training.seed)
        if spec.checkpoints_activations:
            checkpoint_activations(model, required=spec.training.gradient_checkpointing is not None)
        self._scorer = Scorer(
            model,
            temperature=spec.rollout.temperature,
            token_budget=spec.training.microbatch_tokens,
            autocast=spec.model.torch_dtype == "bfloat16",
            ranks=ranks,
        )
        self._scorer.policy.parts.check()
        if self._scorer.policy.parts.takes_trees():
            self._scorer = replace(self._scorer, trees=balance_of(model))
        afresh = self._beta > 0 and not self._adapts
        self._reference = replace(self._scorer, model=_frozen_copy(model)) if afresh else None
        for scorer in filter(None, (self._reference, self._scorer)):
            ranks.shard(scorer.policy, bfloat16=scorer.autocast, trained=scorer is self._scorer)
        self._reference_is_base = True
        self._start_afresh()

    rescored = staticmethod(rescored)

    @property
    def model(self) -> PreTrainedModel:
        """The current policy."""
        return self._scorer.model

    @property
    def device(self) -> str:
        """The device: `cpu`, or the name of the GPU."""
        kind = self._scorer.device.type
        return torch.cuda.get_device_name() if kind == "cuda" else kind

    def supervise(self, turns: Sequence[Turn], warmstart: WarmStart) -> Supervising:
        """Raise the likelihood of the responses given their prompts; then optimizer and reference start afresh.

        A warm start that is not driven to its end leaves the policy half-way: make the learner anew.

        Args:
            turns: a response each, the stop token included; drawn from with replacement.

        Yields:
            (optimizer step from 1, mean negative log-likelihood per token) after each step.

        Returns:
            `warmstart_nll_first`, `warmstart_nll` (means of the first and last 25 steps, nats per token),
            `warmstart_steps`, `warmstart_rows`.

        Raises:
            RowsError: no turns, or an empty prompt or response.
        """
        if not turns or not all(0 < turn.start < turn.stop for turn in turns):
            raise RowsError(f"want turns of a prompt and a response, got {len(turns)} turns or an empty one")
        report = yield from supervise(self._scorer, TokenRows(turns), warmstart, self._generator)
        self._reference_is_base = False
        self._start_afresh()
        return report

    def mismatch(self, rows: Sequence[Row]) -> dict[str, float]:
        """How far the engine's log-probabilities are from the current weights' on the same tokens; trains nothing.

        On rows that the current version sampled (an evaluation's) this is the engine's numerical error alone; in
        `train_batch` it holds the distance between versions too.

        Returns:
            `mismatch_kl` (mean k3, nats per token), `mismatch_max` (largest |difference|, nats),
            `importance_weight_mean`, `importance_clipped_share`, `importance_ess`.

        Raises:
            RowsError: no rows.
        """
        return mismatch(self._columns(rows), self.spec.algorithm.rollout_importance_sampling_threshold)

    def divergence(self, rows: Sequence[Row]) -> list[float]:
        """The k1 estimate of the KL to the reference policy of each row under the current weights: the sum over its
        tokens of log pi - log reference, nats, of any sign. Trains nothing.

        Raises:
            LearnerError: the job has no reference, because beta is 0.
        """
        tokens = TokenRows([row.turn for row in rows])
        current, _ = self._scorer.constants(tokens)
        k1 = kl_estimate(current.double(), self._under_reference(tokens).double(), "k1")
        sums: list[float] = row_sums(k1, tokens.token_row, len(rows)).tolist()
        return sums

    def train_batch(self, rows: Sequence[Row], batch_index: int) -> dict[str, float]:
        """Take the batch's optimizer steps; `batch_index` 0..total_batches-1 is the version trained.

        Rows with an advantage of exactly 0 are left out whatever beta and entropy_coef are (see `Columns.teaching`),
        and every mean of the loss (KL and entropy too) is over the rows that are kept; if none is kept, the weights
        stay as they are.

        Returns:
            What `mismatch` returns over all rows; `current_mismatch_kl`, its `mismatch_kl` over the rows that this
            version sampled alone, left out if there is none; means over optimizer steps, left out if there is none:
            `loss`, `policy_loss`, `kl` (to the reference), `policy_kl` (to the old policy), `entropy`,
            `clip_fraction`, `grad_norm`; and `learning_rate`, `trained_rows`, `unique_rows_share`, `trained_tokens`,
            `optimizer_steps` (all so far). Each is a field of services/contracts/metrics.py.

        Raises:
            RowsError: no rows.
            MismatchError: see `agreement`, for the rows that this version sampled; nothing is trained.
            LearnerError: a loss or gradient is not finite; the weights are those before that optimizer step.
        """
        training, algorithm, loss = self.spec.training, self.spec.algorithm, loss_config(self.spec)
        everything = fresh_columns(rows, self._scorer, loss) if rows and self._one_step else self._columns(rows)
        teaching = everything.teaching(loss)
        agreed: dict[str, float] = {}
        if not (everything.fresh and len(teaching)):
            agreed = agreement(everything, rows, batch_index, self.spec)
        columns = everything.select(teaching)
        if loss.beta > 0:
            columns = replace(columns, reference=self._under_reference(columns.rows))
        rate = learning_rate(training, batch_index)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        whole = columns.group if loss.row.whole_groups else columns.rows.conversation
        steps = []
        for _ in range(algorithm.num_iterations):
            for part in minibatch_rows(len(columns.advantage), training.minibatches, self._generator, whole):
                minibatch = columns.select(part)
                measured = self._gradient(minibatch, loss)
                if everything.fresh:
                    everything.old[everything.rows.places(teaching[part])] = minibatch.old
                    agreed = self._agreed(everything, rows, batch_index)
                steps.append(self._step(measured))
        return {
            **mismatch(everything, algorithm.rollout_importance_sampling_threshold),
            **agreed,
            **_means(steps),
            "learning_rate": rate,
            "trained_rows": float(len(columns.advantage)),
            "unique_rows_share": everything.rows.different / len(rows),
            "trained_tokens": float(columns.rows.tokens),
            "optimizer_steps": float(self.optimizer_steps),
        }

    def save_policy(self, folder: Path) -> dict[str, str]:
        """Write the current weights alone, in the job's torch_dtype, for a policy version; of LoRA the adapter.

        Returns:
            File name -> hex sha256.
        """
        dtype = self.spec.model.torch_dtype
        if self._adapts:
            adapter = adapter_tensors(self.model, dtype, keep=self._ranks.leads)
            return write_adapter(self.model, folder, adapter) if self._ranks.leads else {}
        weights = checkpoint_tensors(self.model, dtype, keep=self._ranks.leads)
        return write_weights(folder, weights) if self._ranks.leads else {}

    def probe(self) -> PolicyProbe | None:
        """Prompts by which a replica checks itself once it has loaded the files of `save_policy`; see `probe_of`."""
        return probe_of(self._scorer.policy, self.spec.max_model_len, self._scorer.device)

    def save(self, folder: Path) -> dict[str, str]:
        """Write everything a later `load` needs to go on bit for bit, without pickles; each file synced.

        A reference that is the policy in the learner's folder is not written.

        `folder` is made if need be; the caller renames it when it is complete.

        Returns:
            File name -> hex sha256.
        """
        trained = _trained(self.model)
        tensors: dict[str, dict[str, Tensor]] = {
            "weights": trained,
            "optimizer": optimizer_tensors(self._optimizer, trained),
            "generator": {"state": self._generator.get_state()},
        }
        if self._reference is not None and not self._reference_is_base:
            tensors["reference"] = _weights(self._reference.model)
        numbers = {"optimizer_steps": self.optimizer_steps, BASE_IS_REFERENCE: int(self._reference_is_base)}
        return write_state(State(tensors, numbers), folder, self._ranks)

    def load(self, folder: Path) -> None:
        """Become the learner that was saved in `folder`, made from the same spec and base.

        Raises:
            StateError: a file is missing, unreadable or altered, or does not fit this policy; then make the learner
                anew, it may be half-way.
        """
        state = read_state(folder)
        saved = state.has("reference")
        wanted = self._reference is not None and not state.numbers.get(BASE_IS_REFERENCE, 0)
        if saved > (self._reference is not None) or wanted > saved:
            raise StateError(f"{folder}: want a reference policy exactly if beta > 0, beta is {self._beta}")
        restore_weights(_trained(self.model), state)
        restore_optimizer(self._optimizer, _trained(self.model), state)
        if self._reference is not None and saved:
            restore_weights(_weights(self._reference.model), state, "reference")
        self._reference_is_base = not saved
        self._generator.set_state(state.tensors["generator"]["state"])
        self.optimizer_steps = state.numbers["optimizer_steps"]

    def export(self, folder: Path) -> None:
        """Write a whole Hugging Face folder (config, tokenizer, weights), complete or not at all.

        Of LoRA the weights have the adapters in them, and the folder `adapter` holds these alone.

        Other files that `folder` held are gone afterwards.
        """
        dtype, leads = self.spec.model.torch_dtype, self._ranks.leads
        adapter = adapter_tensors(self.model, dtype, keep=leads) if self._adapts else None
        with merged(self.model) if self._adapts else nullcontext():
            weights = checkpoint_tensors(self.model, dtype, keep=leads)

        def beside(unfinished: Path) -> None:
            if adapter is not None:
                write_adapter(self.model, unfinished / ADAPTER_FOLDER, adapter)

        if leads:
            write_export(self.folder, folder, weights, dtype, beside)

    @property
    def _beta(self) -> float:
        return self.spec.algorithm.beta

    def _start_afresh(self) -> None:
        trained = _trained(self.model).values()
        matrices = [weight for weight in trained if weight.ndim >= 2]
        others = [weight for weight in trained if weight.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": self.spec.training.weight_decay},
            {"params": others, "weight_decay": 0.0},  # biases and norms: decay would only shift what they centre
        ]
        self._optimizer = AdamW(groups, lr=self.spec.training.learning_rate, betas=BETAS, fused=True)
        if self._reference is not None:
            copy_weights(self.model.parameters(), self._reference.model.parameters())

    def _under_reference(self, rows: TokenRows) -> Tensor:
        """float32 [T]: the log-probabilities of the response tokens under the reference policy."""
        if self._beta == 0:
            raise LearnerError("beta: want more than 0 for a reference policy, got 0")
        if self._reference is None:
            with adapters_off(self.model):
                return self._scorer.constants(rows)[0]
        return self._reference.constants(rows)[0]

    def _columns(self, rows: Sequence[Row]) -> Columns:
        if not rows:
            raise RowsError("want the rows of a batch, got none")
        entropy: Entropy = "value" if self.spec.algorithm.top_entropy_quantile < 1 else "skip"
        return columns_of(rows, self._scorer, entropy)

    @property
    def _one_step(self) -> bool:
        """Whether a batch is one optimizer step whose own forward gives the old log-probabilities."""
        algorithm, training = self.spec.algorithm, self.spec.training
        noise = self._adapts and self.spec.model.lora_dropout > 0
        masked = algorithm.top_entropy_quantile < 1  # its threshold is known only after a pass over all rows
        return algorithm.num_iterations == training.minibatches == 1 and not (noise or masked)

    def _agreed(self, columns: Columns, rows: Sequence[Row], version: int) -> dict[str, float]:
        """`agreement` after the gradient, which is forgotten where there is none."""
        try:
            return agreement(columns, rows, version, self.spec)
        except MismatchError:
            self._optimizer.zero_grad()
            raise

    def _gradient(self, minibatch: Columns, loss: LossConfig) -> dict[str, float]:
        with dropping(self.model, self._generator, self._ranks.mine):
            return accumulate_gradient(self._scorer, minibatch, loss, token_mask(self.spec))

    def _step(self, measured: dict[str, float]) -> dict[str, float]:
        weights = list(_trained(self.model).values())
        measured["grad_norm"] = step_weights(self._optimizer, weights, self.spec.training.max_grad_norm)
        self.optimizer_steps += 1
        return measured


STEP_METRICS = ("loss", "policy_loss", "kl", "policy_kl", "entropy", "clip_fraction", "grad_norm")


def _means(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(step[name] for step in steps) / len(steps) for name in STEP_METRICS if steps}


def _trained(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights that the optimizer changes."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return dict(model.named_parameters())


def _frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    copy: Any = deepcopy(model)
    frozen: PreTrainedModel = copy.requires_grad_(False).eval()
    return frozen
