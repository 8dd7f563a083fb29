"""The transformers engine's model takes versions as the trainer publishes them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from services.contracts.policy import PolicyManifest
from services.inference.engine import UpdateRejected
from services.inference.transformers_model import LoadedModel
from services.trainer.learner.policy import load_policy
from services.trainer.learner.weights import save_weights
from tests.models.architectures import ARCHITECTURES
from tests.unit.inference.policy_versions import manifest_of

IDS = torch.tensor([[1, 5, 9, 30]])


class Versions:
    """A base, and versions of it as a trainer would publish them."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.base, self._folder = ARCHITECTURES[kind].write(folder / "base"), folder
        self.policy = load_policy(self.base)

    def publish(self, number: int) -> PolicyManifest:
        with torch.no_grad():
            for tensor in self.policy.state_dict().values():
                tensor.add_(0.01 * number)
        folder = self._folder / f"v{number}"
        save_weights(self.policy, folder)
        return manifest_of(folder, self.base, number)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("kind", ["gpt_neox", "qwen3_moe", "mixtral", "deepseek_v3", "qwen2"])
def test_every_version_gives_the_trainers_logits(tmp_path: Path, kind: str) -> None:
    versions = Versions(tmp_path, kind)
    loaded = LoadedModel(versions.publish(0), torch_threads=1)
    for number in range(1, 4):
        loaded.load_version(versions.publish(number))
        assert torch.equal(logits(loaded.model), logits(versions.policy))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model.norm.weight": None}, r"lacks 1 tensor\(s\), the first is model\.norm\.weight"),
        ({"other.weight": torch.ones(2)}, r"has 1 tensor\(s\) too many, the first is other\.weight"),
        ({"model.norm.weight": torch.ones(2)}, r"model\.norm\.weight has the shape \(2,\), want \(64,\)"),
    ],
    ids=["lacks", "too many", "another shape"],
)
def test_tensors_of_another_model_are_refused_and_the_version_before_stays(
    tmp_path: Path, change: dict[str, torch.Tensor | None], sentence: str
) -> None:
    versions = Versions(tmp_path, "qwen2")
    loaded = LoadedModel(versions.publish(0), torch_threads=1)
    before = logits(loaded.model)
    file = Path(versions.publish(1).path) / "model.safetensors"
    tensors = load_file(file) | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file, metadata={"format": "pt"})
    broken = manifest_of(file.parent, versions.base, 1)
    with pytest.raises(UpdateRejected, match=sentence):
        loaded.load_version(broken)
    assert torch.equal(logits(loaded.model), before)
    with pytest.raises(UpdateRejected, match=sentence):
        LoadedModel(broken, torch_threads=1)
