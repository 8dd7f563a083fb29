import json
import re
from pathlib import Path

import pytest
import torch
from learner_cases import SCRATCH, TOKENS, VOCABULARY, scratch_folder
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.trainer.learner.errors import PolicyFolderError, VocabularyError
from services.trainer.learner.files import file_hash, file_hashes, whole_folder
from services.trainer.learner.policy import build_scratch, load_policy, save_weights


def test_one_seed_gives_the_same_bytes_in_any_order_of_words(tmp_path: Path) -> None:
    build_scratch(SCRATCH, VOCABULARY, 3, tmp_path / "a")
    build_scratch(SCRATCH, [*reversed(VOCABULARY), "go", "<eos>"], 3, tmp_path / "b")
    assert file_hashes(tmp_path / "a") == file_hashes(tmp_path / "b")
    assert set(file_hashes(tmp_path / "a")) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_another_seed_changes_the_weights_alone(tmp_path: Path) -> None:
    left, right = file_hashes(scratch_folder(tmp_path / "a", 0)), file_hashes(scratch_folder(tmp_path / "b", 1))
    assert {name for name in left if left[name] != right[name]} == {"model.safetensors"}


def test_the_callers_random_numbers_are_not_touched(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    scratch_folder(tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)


def test_building_again_leaves_equal_files_alone_and_replaces_others(tmp_path: Path) -> None:
    folder = scratch_folder(tmp_path / "a")
    inode = (folder / "config.json").stat().st_ino
    scratch_folder(folder)
    assert (folder / "config.json").stat().st_ino == inode
    (folder / "config.json").write_text("{}")
    (folder / "stray").touch()
    scratch_folder(folder)
    assert "vocab_size" in (folder / "config.json").read_text()
    assert not (folder / "stray").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_auto_tokenizer_splits_at_white_space_and_joins_with_spaces(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(scratch_folder(tmp_path / "a"))
    ids = {word: 3 + i for i, word in enumerate(sorted(VOCABULARY))}
    text = "go north . take apple 4 act"
    assert tokenizer.encode(text) == [ids[word] for word in text.split()]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode([ids["go"], 1], skip_special_tokens=True) == "go"
    assert tokenizer.encode("unheard") == [2]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)


def test_the_model_has_as_many_embeddings_as_the_tokenizer_has_tokens(tmp_path: Path) -> None:
    folder = scratch_folder(tmp_path / "a")
    model = load_policy(folder)
    assert model.config.model_type == "qwen2"
    assert model.get_input_embeddings().num_embeddings == len(AutoTokenizer.from_pretrained(folder)) == TOKENS
    assert not model.training
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(("words", "what"), [([], "got none"), (["go north"], "'go north'"), ([""], "''")])
def test_words_that_make_no_tokenizer_are_refused(tmp_path: Path, words: list[str], what: str) -> None:
    with pytest.raises(VocabularyError, match=what):
        build_scratch(SCRATCH, words, 0, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_folder_without_one_file_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    folder = scratch_folder(tmp_path / "a")
    (folder / name).unlink()
    with pytest.raises(PolicyFolderError, match=f"{name} is missing") as caught:
        load_policy(folder)
    assert len(caught.value.problems) == 1


def test_no_folder_at_all_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(PolicyFolderError, match="no such folder"):
        load_policy(tmp_path / "nowhere")


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = scratch_folder(tmp_path / "a")
    torch.save(load_policy(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(PolicyFolderError, match=r"model\.safetensors is missing"):
        load_policy(folder)


def test_weights_that_lack_a_tensor_are_refused_instead_of_invented(tmp_path: Path) -> None:
    folder = scratch_folder(tmp_path / "a")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PolicyFolderError, match=r"lack 1 tensor\(s\), the first is model\.norm\.weight"):
        load_policy(folder)


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("model.layers.0.mlp.up_proj.bias", True),
        ("model.layers.0.self_attn.o_proj.bias", True),
        ("model.norm.bias", True),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", False),
        ("model.layers.0.self_attn.masked_bias", False),
        ("model.layers.9.mlp.up_proj.bias", False),
        ("vision_tower.layers.0.mlp.up_proj.bias", False),
    ],
)
def test_a_tensor_that_a_part_of_the_model_would_leave_out_is_refused(tmp_path: Path, name: str, refused: bool) -> None:
    folder = scratch_folder(tmp_path / "a")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: torch.ones(3)}, folder / "model.safetensors", metadata={"format": "pt"})
    if not refused:
        assert load_policy(folder).config.model_type == "qwen2"
        return
    said = rf"weights hold 1 tensor\(s\) that Qwen2ForCausalLM leaves out, the first is {re.escape(name)}"
    with pytest.raises(PolicyFolderError, match=said):
        load_policy(folder)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    folder = scratch_folder(tmp_path / "a")
    tensors = load_file(folder / "model.safetensors")
    name, wanted = "model.norm.weight", tensors["model.norm.weight"].shape[0]
    save_file(tensors | {name: torch.ones(wanted + 1)}, folder / "model.safetensors", metadata={"format": "pt"})
    said = rf"model\.norm\.weight: want shape \[{wanted}\], as config\.json has it, got \[{wanted + 1}\]"
    with pytest.raises(PolicyFolderError, match=said):
        load_policy(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("hidden_act", "swishy", "KeyError: 'swishy'"),
        ("rope_scaling", "linear", "Validation error for field 'rope_parameters': TypeError"),
        ("pad_token_id", 90_000, "AssertionError: Padding_idx must be within num_embeddings"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_whatever_a_library_raises_is_a_sentence_on_the_folder(
    tmp_path: Path, key: str, value: object, words: str
) -> None:
    folder = scratch_folder(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters", None)
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(PolicyFolderError) as caught:
        load_policy(folder)
    assert caught.value.problems[0].startswith(f"can't be loaded: {words}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"), [("config.json", "no json"), ("config.json", "{}"), ("model.safetensors", "torn")]
)
def test_broken_files_are_refused_with_the_folders_name(tmp_path: Path, name: str, content: str) -> None:
    folder = scratch_folder(tmp_path / "a")
    (folder / name).write_text(content)
    with pytest.raises(PolicyFolderError, match="can't be loaded") as caught:
        load_policy(folder)
    assert caught.value.folder == folder


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"model_type": "t5"}, "config.json: model_type: want a causal language model, got 't5'"),
        ({"model_type": "clip"}, "config.json: model_type: want a causal language model, got 'clip'"),
        (
            {"quantization_config": {"quant_method": "fp8"}},
            "config.json: quantization_config: want weights that are not quantised, got 'fp8'",
        ),
        (
            {"quantization_config": {"quant_method": "mxfp4"}},
            "config.json: quantization_config: want weights that are not quantised, got 'mxfp4'",
        ),
    ],
)
def test_what_can_not_be_trained_is_named_by_its_key(tmp_path: Path, changed: dict[str, object], sentence: str) -> None:
    folder = scratch_folder(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(PolicyFolderError) as caught:
        load_policy(folder)
    assert caught.value.problems == (sentence,)


def test_an_adapter_beside_a_model_is_refused(tmp_path: Path) -> None:
    folder = scratch_folder(tmp_path / "a")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(PolicyFolderError, match=r"adapter_config\.json: want a whole model, got an adapter"):
        load_policy(folder)


def test_a_kind_that_nobody_knows_is_told_in_one_line(tmp_path: Path) -> None:
    folder = scratch_folder(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "qwen99"}))
    with pytest.raises(PolicyFolderError, match="qwen99") as caught:
        load_policy(folder)
    assert "\n" not in str(caught.value)


def test_saved_weights_hold_tied_tensors_once_and_load_again(tmp_path: Path) -> None:
    folder = scratch_folder(tmp_path / "a")
    model = load_policy(folder)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(1.0)
    files = save_weights(model, folder)
    assert files == {"model.safetensors": file_hash(folder / "model.safetensors")}
    with safe_open(folder / "model.safetensors", "pt") as opened:
        assert "lm_head.weight" not in opened.keys()  # noqa: SIM118
        assert opened.metadata() == {"format": "pt"}
    again = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)


def test_saved_weights_can_be_rounded_to_bfloat16(tmp_path: Path) -> None:
    model = load_policy(scratch_folder(tmp_path / "a"))
    save_weights(model, tmp_path / "b", "bfloat16")
    assert {tensor.dtype for tensor in load_file(tmp_path / "b" / "model.safetensors").values()} == {torch.bfloat16}


def test_a_folder_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    def give_up() -> None:
        with whole_folder(tmp_path / "a") as unfinished:
            (unfinished / "half").touch()
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        give_up()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_differs_deep_inside_is_replaced(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with whole_folder(tmp_path / "a") as unfinished:
            (unfinished / "deep").mkdir()
            (unfinished / "deep" / "file").write_text(text)
    assert (tmp_path / "a" / "deep" / "file").read_text() == "new"


def test_the_config_names_no_code_that_could_be_run(tmp_path: Path) -> None:
    folder = scratch_folder(tmp_path / "a")
    assert "auto_map" not in json.loads((folder / "config.json").read_text())
    assert not list(folder.glob("*.py"))
