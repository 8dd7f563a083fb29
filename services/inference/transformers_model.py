"""A causal language model that samples batches, each row with a generator of its own. Imports torch."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from services.contracts.arrays import pack_float32, pack_int32, unpack_int32
from services.contracts.attention import attention_for, without_choice
from services.contracts.guidance import Guide, pack_allowed
from services.contracts.policy import PolicyManifest
from services.contracts.sampling import Prompt, SampledTokens, Sampling
from services.contracts.tokenizer_files import tokenizer_in
from services.inference.engine import EngineFailed, UpdateRejected
from services.inference.stop_words import StopWords
from services.inference.transformers_adapter import load_adapter
from services.inference.transformers_steps import Steps, way_of
from services.inference.truncation import truncated
from services.inference.weights import whole_model


class LoadedModel:
    """The model of a manifest, with the weights of one version.

    Raises:
        UpdateRejected: the version's tensors are not those of the model.
        EngineFailed: transformers can't load it.
    """

    def __init__(self, manifest: PolicyManifest, *, torch_threads: int) -> None:
        torch.set_num_threads(torch_threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = _read(manifest)
        """The model with the weights of the newest version loaded."""
        module: torch.nn.Module = self.model
        module.to(self._device).eval()
        self._way = way_of(self.model)
        self.vocabulary = int(self.model.config.get_text_config().vocab_size)
        self.max_model_len, self._version = manifest.max_model_len, manifest.version
        self._base = Path(manifest.base)
        if manifest.adapter_rank:
            load_adapter(self.model, Path(manifest.path))
        self.steps = 0
        """Tokens sampled for every row so far, for another thread to see that it goes on."""

    def load_version(self, manifest: PolicyManifest) -> None:
        """Copy a version's weights into the model, persistent buffers too; an adapter comes beside them.

        Raises:
            UpdateRejected: its tensors are not those of the model, which stays as it is.
            EngineFailed: transformers can't load it.
        """
        if manifest.adapter_rank:
            load_adapter(self.model, Path(manifest.path))
        else:
            self.take_weights(_read(manifest).state_dict(), manifest.version)
        self.max_model_len, self._version = manifest.max_model_len, manifest.version

    def take_weights(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Copy a version's weights into the model from memory; they must be all of its own."""
        self.model.load_state_dict(weights)
        self._version = version

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[SampledTokens]:
        """Continue B prompts of at most `max_model_len - 1` ids each; equal prompts share one prefill."""
        if self._way.pads:
            return self._together(prompts, sampling)
        found: dict[int, SampledTokens] = {}
        lengths = [len(prompt.prompt_ids) for prompt in prompts]
        for length in dict.fromkeys(lengths):
            rows = [row for row, one in enumerate(lengths) if one == length]
            found |= zip(rows, self._together([prompts[row] for row in rows], sampling), strict=True)
        return [found[row] for row in range(len(prompts))]

    @torch.inference_mode()
    def _together(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[SampledTokens]:
        words = StopWords(tokenizer_in(self._base), sampling.stop_words) if sampling.stop_words else None
        batch = _Batch(prompts, sampling, self.max_model_len, self._device, words)
        position = {ids: index for index, ids in enumerate(dict.fromkeys(prompt.prompt_ids for prompt in prompts))}
        share = torch.tensor([position[prompt.prompt_ids] for prompt in prompts], device=self._device)  # [B]

        steps = Steps(self.model, self._way, [unpack_int32(ids) for ids in position])
        logits = steps.prompts()[share]
        steps.select(share)
        while True:
            tokens = batch.take(logits)  # [B]
            self.steps += 1
            if batch.done:
                return batch.completions(self._version)
            logits = steps.tokens(tokens)


class _Batch:
    """The tokens of B rows so far. A finished row goes on being computed, and its further tokens are thrown away."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        max_model_len: int,
        device: torch.device,
        words: StopWords | None,
    ) -> None:
        self._sampling, self._device, self._words = sampling, device, words
        self._limits = [min(sampling.max_tokens, max_model_len - len(prompt.prompt_ids) // 4) for prompt in prompts]
        self._generators = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        guides = {row: Guide(list(map(unpack_int32, one.choices))) for row, one in enumerate(prompts) if one.choices}
        self._guides = guides
        """Guides of the rows that have choices and go on."""
        self._ids: list[list[int]] = [[] for _ in prompts]
        self._logprobs: list[list[float]] = [[] for _ in prompts]
        self._kept: list[list[list[int]]] = [[] for _ in prompts]
        """Where sampling is truncated: for each token the ids that it could have been."""
        self._reasons = [""] * len(prompts)

    @property
    def done(self) -> bool:
        return all(self._reasons)

    def take(self, logits: Tensor) -> Tensor:
        """Sample one token a row from logits [B, V]; the tokens, int64 [B]."""
        temperature = self._sampling.temperature
        scaled = self._guided(logits.double() / (temperature or 1.0))
        if self._sampling.truncated:
            scaled = truncated(scaled, self._sampling)
        logprobs = torch.log_softmax(scaled, dim=1)
        if temperature == 0:
            tokens = logprobs.argmax(dim=1)
        else:
            uniform = torch.cat([torch.rand(1, generator=one, dtype=torch.float64) for one in self._generators])
            ladder = logprobs.exp().cumsum(dim=1)  # inverse of the distribution function; its end may miss 1 by 1e-16
            height = uniform.to(self._device)[:, None] * ladder[:, -1:]
            tokens = torch.searchsorted(ladder, height, right=True).squeeze(1).clamp_max(logprobs.shape[1] - 1)
        chosen = logprobs.gather(1, tokens[:, None]).squeeze(1)
        if self._sampling.truncated:
            for row, possible in enumerate(logprobs.isfinite()):
                if not self._reasons[row]:
                    self._kept[row].append(possible.nonzero().flatten().tolist())
        for row, (token, logprob) in enumerate(zip(tokens.tolist(), chosen.tolist(), strict=True)):
            self._append(row, token, logprob)
        return tokens

    def _guided(self, logits: Tensor) -> Tensor:
        """-inf for what a row may not say."""
        if not self._guides:
            return logits
        ids = {row: guide.allowed for row, guide in self._guides.items()}
        rows = torch.tensor([row for row, allowed in ids.items() for _ in allowed], device=self._device)
        allowed = torch.tensor([one for allowed in ids.values() for one in allowed], device=self._device)
        masked = logits.clone()
        masked[list(ids)] = -torch.inf
        masked[rows, allowed] = logits[rows, allowed]
        return masked

    def completions(self, version: int) -> list[SampledTokens]:
        return [
            SampledTokens(
                pack_int32(ids),
                pack_float32(logprobs),
                pack_int32(array("i", [version] * len(ids))),
                reason,
                pack_allowed(kept),
            )
            for ids, logprobs, reason, kept in zip(self._ids, self._logprobs, self._reasons, self._kept, strict=True)
        ]

    def _append(self, row: int, token: int, logprob: float) -> None:
        if self._reasons[row]:
            return
        self._ids[row].append(token)
        self._logprobs[row].append(logprob)
        if row in self._guides:
            self._guides[row].take(token)
        ids = self._ids[row]
        if token in self._sampling.stop_token_ids or (self._words is not None and self._words.complete(ids)):
            self._reasons[row] = "stop"
        elif len(ids) >= self._limits[row]:
            self._reasons[row] = "length"
        if self._reasons[row]:
            self._guides.pop(row, None)


def _read(manifest: PolicyManifest) -> PreTrainedModel:
    """The model with the version's weights on the CPU, by transformers' own loading, which renames and fuses tensors.

    Raises:
        UpdateRejected: the version lacks a tensor of the model, has one more, or one of another shape.
        EngineFailed: transformers can't load it.
    """
    quiet: Any = transformers_logging
    quiet.disable_progress_bar()  # a service writes logs, not bars
    auto: Any = AutoModelForCausalLM  # untyped upstream
    with TemporaryDirectory() as folder:
        try:
            whole = whole_model(manifest, Path(folder) / "model")
            model, report = auto.from_pretrained(
                whole,
                config=without_choice(AutoConfig.from_pretrained(whole, local_files_only=True)),
                dtype=getattr(torch, manifest.torch_dtype),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are reported instead, and refused here
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
            raise EngineFailed(f"{manifest.base} does not load: {error}") from error
    if odd := _odd(report):
        raise UpdateRejected(f"version {manifest.version} is not one of {type(model).__name__}: {odd}")
    if attention := attention_for(model.config):
        model.set_attn_implementation(attention)
    loaded: PreTrainedModel = model
    return loaded


def _odd(report: Mapping[str, Any]) -> str:
    """Why the tensors that were read are not the model's; empty: they are."""
    if lacking := report["missing_keys"]:
        return f"it lacks {len(lacking)} tensor(s), the first is {min(lacking)}"
    if many := report["unexpected_keys"]:
        return f"it has {len(many)} tensor(s) too many, the first is {min(many)}"
    if other := report["mismatched_keys"]:
        name, found, wanted = min(other)
        return f"{name} has the shape {tuple(found)}, want {tuple(wanted)}"
    return ""
