"""The policy's tokenizer."""

import pytest
from tokenizers import Tokenizer

from services.contracts.arrays import pack_int32, unpack_int32
from services.rollout.errors import TokenizerError
from services.rollout.tokens import load_tokens
from tests.model_folders import write_model
from tests.unit.rollout.policy_folder import word_tokens, write_policy_folder

WORDS = ["go", "north", "south"]


def test_a_reply_ends_with_the_first_stop_token_and_reads_without_it(tmp_path):
    tokens = load_tokens(write_policy_folder(tmp_path, WORDS, stop=[1, 0]))
    reply = tokens.encode_reply("go north")
    assert unpack_int32(reply) == [3, 4, 1]
    assert tokens.reply_text(reply) == "go north"
    assert tokens.reply_text(pack_int32([3, 4, 0])) == "go north"
    assert tokens.reply_text(pack_int32([1])) == ""


def test_special_tokens_inside_a_reply_stay_so_that_they_spoil_the_action(tmp_path):
    tokens = word_tokens(tmp_path, WORDS)
    assert tokens.reply_text(pack_int32([3, 0, 4, 1])) == "go <pad> north"


def test_what_a_folder_lacks_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load_tokens(tmp_path)
    folder = write_policy_folder(tmp_path, WORDS)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(TokenizerError, match="eos_token_id"):
        load_tokens(folder)


def test_the_chat_template_is_found_beside_or_inside_the_tokenizers_config(tmp_path):
    assert word_tokens(tmp_path / "none", WORDS).chat_template is None
    assert word_tokens(tmp_path / "inside", WORDS, chat_template="x").chat_template == "x"
    folder = write_policy_folder(tmp_path / "beside", WORDS, chat_template="x")
    (folder / "chat_template.jinja").write_text("y")
    assert load_tokens(folder).chat_template == "y"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert word_tokens(tmp_path / "named", WORDS, chat_template=named).chat_template == "d"


def test_unknown_words_are_told(tmp_path):
    tokens = word_tokens(tmp_path, WORDS)
    assert tokens.placeholder == "<unk>"
    assert tokens.unknown_words(["go", "act"]) == ["act"]


def test_truncation_and_padding_that_a_tokenizer_was_saved_with_never_touch_a_prompt(tmp_path):
    folder = write_policy_folder(tmp_path, WORDS)
    plain = load_tokens(folder)
    saved = Tokenizer.from_file(str(folder / "tokenizer.json"))
    saved.enable_truncation(2)
    saved.enable_padding(length=16)
    saved.save(str(folder / "tokenizer.json"))
    tokens = load_tokens(folder)
    for text in ("go", "go north south go"):
        assert tokens.encode(text) == plain.encode(text)
        assert tokens.encode_reply(text) == plain.encode_reply(text)
    assert unpack_int32(tokens.encode("go north south go")) == [3, 4, 5, 3]


def test_merges_that_a_tokenizer_was_trained_to_leave_out_at_random_are_made(tmp_path):
    folder = tmp_path / "model"
    write_model(folder)
    plain = load_tokens(folder)
    saved = Tokenizer.from_file(str(folder / "tokenizer.json"))
    saved.model.dropout = 0.9
    saved.save(str(folder / "tokenizer.json"))
    text = "the environment answers with an observation and admissible actions"
    assert load_tokens(folder).encode(text) == plain.encode(text)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("generation_config.json", b"{eos", "generation_config.json: want a JSON object, got Expecting property name"),
        ("tokenizer_config.json", b"[]", "tokenizer_config.json: want a JSON object, got a list"),
        ("config.json", b'{"a": "\xe9"}', "config.json: want a JSON object, got 'utf-8' codec"),
        ("tokenizer.json", b"{}", "tokenizer.json: want a tokenizer of the tokenizers library, got"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(file, content, words, tmp_path):
    folder = write_policy_folder(tmp_path, WORDS)
    (folder / file).write_bytes(content)
    with pytest.raises(TokenizerError, match=words):
        load_tokens(folder)
