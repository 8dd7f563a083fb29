"""A few architectures through everything; `make models` takes all, and serves a dozen with vLLM too."""

from pathlib import Path

import pytest

from tests.models.architectures import ARCHITECTURES
from tests.models.matrix import EXACT, examined
from tests.models.table import listed


@pytest.mark.parametrize(
    "kind",
    [
        "gemma2",  # caps its logits
        "gpt_neox",  # other names in memory
        "qwen3_moe",  # experts that are fused in memory
        "deepseek_v3",  # a persistent buffer
        "lfm2",  # a hybrid
        "mamba",  # no attention
    ],
)
@pytest.mark.filterwarnings("default")  # of transformers, about kernels that are not installed
def test_an_architecture_passes_through_a_whole_job(tmp_path: Path, kind: str) -> None:
    result = examined(ARCHITECTURES[kind], tmp_path)
    assert not result.refused
    assert result.difference is not None
    assert result.difference <= EXACT


def test_an_encoder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    refused = examined(ARCHITECTURES["bert"], tmp_path).refused
    assert refused == "BertLMHeadModel: the logits of a token change with the tokens after it; want a causal model"


def test_the_page_lists_every_architecture() -> None:
    assert listed() == list(ARCHITECTURES)
