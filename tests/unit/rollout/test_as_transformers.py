"""A folder's tokenizer files are read as transformers reads them: equal ids for a text and for a conversation."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from services.contracts.arrays import unpack_int32
from services.rollout.errors import AttemptFailed, TokenizerError
from services.rollout.templates import ChatTemplate
from services.rollout.tokens import load_tokens
from tests.unit.rollout.families import byte_pairs

TEXT = "Task: fetch 1 apple.\nYou see: a door, 2 rooms. 蘋果"
CHAT = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }} {{ eos_token }}\n{% endfor %}"
SPECIAL = ("<s>", "</s>", "<e>", "<img>")


def tokenizer(*, begins=False, added=()):
    found = Tokenizer.from_str(byte_pairs())
    found.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    found.add_tokens([AddedToken(text, normalized=False) for text in added])
    if begins:
        first = [("<s>", found.token_to_id("<s>"))]
        found.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=first)
    return found


def token(content, **flags):
    plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {"content": content, **plain, **flags}


def folder_of(tmp_path, config, files=(), made=None):
    (made or tokenizer()).save(str(tmp_path / "tokenizer.json"))
    said = {"bos_token": "<s>", "eos_token": "</s>", **config}
    documents = {"tokenizer_config.json": said, "config.json": {"eos_token_id": 1}, **dict(files)}
    for name, content in documents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("first", [None, True, False])
@pytest.mark.parametrize("last", [None, True])
def test_a_text_without_a_chat_template_has_the_ends_that_transformers_gives_it(begins, first, last, tmp_path):
    said = {"add_bos_token": first, "add_eos_token": last}
    config = {name: value for name, value in said.items() if value is not None}
    folder = folder_of(tmp_path, config, made=tokenizer(begins=begins))
    wanted = PreTrainedTokenizerFast.from_pretrained(folder)(TEXT).input_ids
    assert unpack_int32(load_tokens(folder).encode(TEXT, ends=True)) == wanted


SAID = {
    "nothing more": ({}, {}),
    "the older map decides": ({}, {"special_tokens_map.json": {"eos_token": "<e>"}}),
    "the newer config decides": (
        {"added_tokens_decoder": {"0": token("<s>")}},
        {"special_tokens_map.json": {"eos_token": "<e>"}},
    ),
    "a token of the model's own": ({"image_token": "<img>", "chat_template": "{{ image_token }}" + CHAT}, {}),
    "tokens by name": (
        {"extra_special_tokens": {"boi_token": "<img>"}, "chat_template": "{{ boi_token }}" + CHAT},
        {},
    ),
    "further names": (
        {"sep_token": "<e>", "cls_token": "<s>", "chat_template": "{{ sep_token }}{{ cls_token }}" + CHAT},
        {},
    ),
    "special words": ({"additional_special_tokens": ["You", "user"]}, {}),
    "special words, newer": ({"extra_special_tokens": ["You", "user"]}, {}),
    "special words of the older map": ({}, {"special_tokens_map.json": {"additional_special_tokens": ["You", "user"]}}),
    "a token that the tokenizer lacks": (
        {"added_tokens_decoder": {"900": token("<new>", special=False)}, "chat_template": "<new>" + CHAT},
        {},
    ),
    "flags that the tokenizer lacks": (
        {"added_tokens_decoder": {"385": token("</s>", rstrip=True)}},
        {},
    ),
    "tokens in a file of their own": ({"chat_template": "<new>" + CHAT}, {"added_tokens.json": {"<new>": 900}}),
    "a word that is not special": (
        {"pad_token": "<t>", "chat_template": "<t>" + CHAT},
        {},
    ),
    "no beginning": ({"bos_token": None, "chat_template": "{{ bos_token }}" + CHAT}, {}),
    "a file beside": ({"chat_template": None}, {"chat_template.jinja": CHAT}),
    "a file before the config": ({"chat_template": "no"}, {"chat_template.jinja": CHAT}),
    "the default of several": (
        {"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHAT}]},
        {},
    ),
    "by name": ({"chat_template": {"default": CHAT, "rag": "no"}}, {}),
    "further files": ({}, {"chat_template.jinja": CHAT, "additional_chat_templates/tool_use.jinja": "no"}),
}


@pytest.mark.parametrize("name", SAID)
def test_a_conversation_has_the_ids_that_transformers_gives_it(name, tmp_path):
    config, files = SAID[name]
    folder = folder_of(tmp_path, {"chat_template": CHAT, **config}, files, tokenizer(added=("<t>",)))
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    wanted = theirs.apply_chat_template([{"role": "user", "content": TEXT}], add_generation_prompt=True)["input_ids"]
    tokens = load_tokens(folder)
    assert unpack_int32(tokens.encode(ChatTemplate(tokens.chat_template, tokens.special).render(TEXT))) == wanted


@pytest.mark.parametrize(
    "config", [{"pad_token": "[PAD]"}, {"eos_token": "[PAD]"}, {"extra_special_tokens": ["[PAD]"]}]
)
def test_a_special_token_that_no_file_gives_an_id_is_letters(config, tmp_path):
    folder = folder_of(tmp_path, {**config, "chat_template": CHAT})
    tokens = load_tokens(folder)
    assert max(tokens.stop_ids) < 400
    assert unpack_int32(tokens.encode("[PAD]")) == tokenizer().encode("[PAD]").ids


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ({"chat_template": [{"name": "rag", "template": CHAT}, {"name": "tool_use", "template": CHAT}]}, {}),
        ({"chat_template": {"rag": CHAT, "tool_use": CHAT}}, {}),
        ({}, {f"additional_chat_templates/{name}.jinja": CHAT for name in ("rag", "tool_use")}),
    ],
)
def test_templates_of_which_none_is_the_default_are_refused_where_one_is_used(config, files, tmp_path):
    tokens = load_tokens(folder_of(tmp_path, config, files))
    with pytest.raises(AttemptFailed, match="none is named default, only rag, tool_use"):
        ChatTemplate(tokens.chat_template, tokens.special).render(TEXT)


@pytest.mark.parametrize("template", [7, ["x"], [{"name": "default"}], {"default": 7}, {}])
def test_what_is_no_chat_template_is_named(template, tmp_path):
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json: chat_template: want .*, got [7\[{]"):
        load_tokens(folder_of(tmp_path, {"chat_template": template}))


def test_an_added_token_without_a_text_is_named(tmp_path):
    with pytest.raises(TokenizerError, match="added_tokens_decoder: want tokens with content"):
        load_tokens(folder_of(tmp_path, {"added_tokens_decoder": {"7": {"lstrip": True}}}))
