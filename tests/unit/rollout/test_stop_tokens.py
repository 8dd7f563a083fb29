"""Which tokens end a reply: all that any file of the policy's folder names, and a word to the user when they differ."""

import json

import pytest
from tokenizers import Tokenizer

from services.rollout.errors import TokenizerError
from services.rollout.tokens import load_tokens
from tests.unit.rollout.families import FAMILIES, write_family
from tests.unit.rollout.policy_folder import write_policy_folder

WORDS = ["go", "north", "south", "<|end|>"]
PAD, EOS, UNK, END = 0, 1, 2, 6


def folder_of(tmp_path, **files):
    folder = write_policy_folder(tmp_path, WORDS)
    for name, document in files.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_the_token_behind_an_assistants_turn_ends_a_reply_whatever_the_config_says(name, tmp_path):
    family = FAMILIES[name]
    other = next(token for token in family.special if token not in (family.turn_end, family.eos))
    folder = write_family(tmp_path, family, stop=other)
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id
    tokens = load_tokens(folder)
    assert tokens.stop_ids[0] == ids(family.turn_end)
    assert set(tokens.stop_ids) == {ids(family.turn_end), ids(family.eos), ids(other)}
    assert f"{family.turn_end} ({ids(family.turn_end)})" in tokens.warning
    assert f"config.json says {other} ({ids(other)})" in tokens.warning


def test_every_file_that_names_a_stop_token_counts(tmp_path):
    folder = folder_of(
        tmp_path,
        generation_config={"eos_token_id": [3, 4]},
        config={"eos_token_id": 4, "text_config": {"eos_token_id": 5}},
    )
    assert load_tokens(folder).stop_ids == (3, 4, 5, EOS)


@pytest.mark.parametrize(
    "files",
    [
        {"config": {}},
        {"config": {"eos_token_id": None}, "generation_config": {"eos_token_id": None}},
        {"config": {}, "tokenizer_config": {}, "special_tokens_map": {"eos_token": {"content": "<eos>"}}},
        {"config": {}, "tokenizer_config": {"eos_token": "<eos>"}},
        {"config": {"text_config": {"eos_token_id": 1}}, "tokenizer_config": {}},
    ],
)
def test_one_place_that_names_it_suffices(files, tmp_path):
    tokens = load_tokens(folder_of(tmp_path, **files))
    assert (tokens.stop_ids, tokens.warning) == ((EOS,), None)


def test_files_that_agree_give_no_warning(tmp_path):
    folder = folder_of(tmp_path, config={"eos_token_id": EOS}, generation_config={"eos_token_id": [PAD, EOS]})
    assert (load_tokens(folder).stop_ids, load_tokens(folder).warning) == ((PAD, EOS), None)


def test_a_tokenizer_that_names_another_token_than_the_config_is_told(tmp_path):
    tokens = load_tokens(folder_of(tmp_path, config={"eos_token_id": PAD}))
    assert tokens.stop_ids == (PAD, EOS)
    assert tokens.warning == (
        "the model's files disagree about the token that ends a reply: config.json says <pad> (0); the tokenizer's "
        "eos_token says <eos> (1). Each of them ends one."
    )


def test_nothing_that_names_a_stop_token_is_refused(tmp_path):
    with pytest.raises(TokenizerError, match="eos_token"):
        load_tokens(folder_of(tmp_path, config={}, tokenizer_config={}))


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('only one turn') }}",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
        "{{ messages[0].content }}<pad>",
        "{{ messages[7].content.strip() }}",
    ],
)
def test_a_template_that_marks_no_end_of_a_turn_adds_no_stop_token(template, tmp_path):
    folder = write_policy_folder(tmp_path, WORDS, chat_template=template)
    assert load_tokens(folder).stop_ids == (EOS,)


def test_a_template_that_is_none_is_refused_with_its_line(tmp_path):
    folder = write_policy_folder(tmp_path, WORDS, chat_template="{% if %}")
    with pytest.raises(TokenizerError, match="chat template, line 1"):
        load_tokens(folder)
