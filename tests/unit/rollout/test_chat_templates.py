"""Chat templates of public models: rendered as transformers does it, with the options of a job, safe from outside."""

import re
from datetime import date
from functools import cache
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from services.contracts.arrays import unpack_int32
from services.contracts.environment import EnvironmentInfo
from services.rollout.errors import AttemptFailed, TokenizerError
from services.rollout.playbook import make_playbook
from services.rollout.prompts import PromptWriter, Wording
from services.rollout.templates import ChatOptions, ChatTemplate, Scene, SceneTemplate
from services.rollout.tokens import PolicyTokens
from tests.unit.rollout.families import byte_pairs
from tests.unit.rollout.policy_folder import word_tokens
from tests.unit.rollout.stages import spec_of

FOLDER = Path(__file__).parents[2] / "data" / "chat_templates"
FILES = sorted(file.stem for file in FOLDER.glob("*.jinja"))
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
DAY = date(2025, 3, 9)
PROMPT = "Task: fetch 1 apple.\n\nYou see: a door, 2 rooms <b>and</b> 'é'."
OF_PARTS = ("idefics3", "llava_next")
"""They write messages whose content is a list of parts, and nothing of a text."""
TEXT_FILES = [name for name in FILES if name not in OF_PARTS]


@cache
def source(name):
    return (FOLDER / f"{name}.jinja").read_text("utf-8")


def theirs(name, messages, values):
    """A value comes before transformers' own clock."""
    given = {**SPECIAL, "strftime_now": DAY.strftime, **values}
    texts, _ = render_jinja_template([messages], chat_template=source(name), add_generation_prompt=True, **given)
    return texts[0]


@pytest.mark.parametrize("system", [None, "Be brief.\n"])
@pytest.mark.parametrize(
    "values", [{}, {"enable_thinking": True}, {"enable_thinking": False}, {"bos_token": "<other>"}], ids=str
)
@pytest.mark.parametrize("name", FILES)
def test_a_public_template_is_rendered_as_transformers_renders_it(name, values, system):
    messages = [{"role": "user", "content": PROMPT}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    chat = ChatTemplate(source(name), SPECIAL, ChatOptions(values, DAY))
    try:
        wanted = theirs(name, messages, values)
    except Exception as refused:  # noqa: BLE001 - whatever a template raises
        with pytest.raises(AttemptFailed, match=re.escape(str(refused))):
            chat.render(PROMPT, system)
    else:
        assert chat.render(PROMPT, system) == wanted


def control_tokens(name):
    """What the template writes that looks like a token of a tokenizer."""
    found = re.findall(
        r"<\|[\w/ ]+\|?>|<[｜|][\w▁]+[｜|]>|</?[a-z_]+(?:_of_turn|_utterance)?>|\[/?[A-Z]+\]", source(name)
    )
    return sorted({*found, "<s>", "</s>"} - {"<>"})


@cache
def tokens_of(name):
    tokenizer = Tokenizer.from_str(byte_pairs())
    tokenizer.add_special_tokens(control_tokens(name))
    return PolicyTokens(tokenizer, (0,), chat_template=source(name), special=SPECIAL)


def playbook(tokens, **environment):
    spec = spec_of(environment, model={"model": "/models/small"})
    return make_playbook("job", spec, EnvironmentInfo(id="grid", prompt_template="grid/v1"), tokens)


@pytest.mark.parametrize("name", TEXT_FILES)
def test_a_job_plays_with_every_public_template_and_its_system_message(name):
    role = "user" if name == "gemma" else "system"
    play = playbook(tokens_of(name), system="Be brief.", system_role=role, chat_template_date="2025-03-09")
    text = play.prompts.wording.text(Scene("fetch it", "a door"))
    assert text.count("Be brief.") == 1
    assert text.index("Be brief.") < text.index("fetch it") < text.index("a door")


@pytest.mark.parametrize("name", OF_PARTS)
def test_a_template_that_writes_no_text_is_refused(name):
    with pytest.raises(TokenizerError, match="chat template"):
        playbook(tokens_of(name))


def test_thinking_is_switched_by_the_job():
    scene = Scene("fetch it", "a door")
    on, off = (playbook(tokens_of("qwen3"), chat_template_kwargs={"enable_thinking": on}) for on in (True, False))
    assert on.prompts.wording.text(scene).endswith("<|im_start|>assistant\n")
    assert off.prompts.wording.text(scene).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_value_that_the_template_does_not_read_is_refused():
    with pytest.raises(TokenizerError, match=r"chat_template_kwargs: want values .* reads, got enable_thinking"):
        playbook(tokens_of("qwen2_5"), chat_template_kwargs={"enable_thinking": False})


def test_values_for_a_tokenizer_without_a_chat_template_are_refused(tmp_path):
    tokens = word_tokens(tmp_path, ["go"])
    with pytest.raises(TokenizerError, match="want a tokenizer with a chat template, got enable_thinking"):
        playbook(tokens, chat_template_kwargs={"enable_thinking": False})


@pytest.mark.parametrize("name", ["gptoss", "llama3_2"])
def test_a_clock_says_the_day_that_the_job_has(name):
    play = playbook(tokens_of(name), chat_template_date="2025-03-09")
    assert ("2025-03-09" if name == "gptoss" else "09 Mar 2025") in play.prompts.wording.text(Scene("go", "go"))


def test_a_template_that_wants_a_clock_says_so_where_there_is_none():
    with pytest.raises(TokenizerError, match="'strftime_now' is undefined; want a chat_template_date"):
        playbook(tokens_of("gptoss"))
    assert "26 Jul 2024" in playbook(tokens_of("llama3_2")).prompts.wording.text(Scene("go", "go"))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (source("gemma"), "system: the tokenizer's chat template: System role not supported; system_role: user puts"),
        ("{{ messages[-1].content }}", "system: the tokenizer's chat template omits the system message; system_role"),
        ("{{ messages[0].content }}", "system: the tokenizer's chat template omits the system message; system_role"),
    ],
)
def test_a_template_without_a_system_role_is_refused_unless_the_user_says_it(template, words):
    with pytest.raises(TokenizerError, match=re.escape(words)):
        ChatTemplate(template, SPECIAL).check("Be brief.")
    chat = ChatTemplate(template, SPECIAL, ChatOptions(system_role="user"))
    chat.check("Be brief.")
    assert "Be brief.\n\ngo" in chat.render("go", "Be brief.")
    ChatTemplate(template, SPECIAL).check()


def test_any_failure_of_a_template_is_its_own():
    with pytest.raises(AttemptFailed, match="the tokenizer's chat template: "):
        ChatTemplate("{{ 1 // 0 }}", SPECIAL).render("go")


@pytest.mark.parametrize("gap", ["", "\n", "  \n  "])
@pytest.mark.parametrize("begin", ["{% generation %}", "{%- generation -%}", "{% generation -%}"])
def test_marks_of_what_the_assistant_says_leave_the_spaces_that_transformers_leaves(begin, gap):
    template = f"a{gap}{begin}{gap}{{% set x = 1 %}}b{{{{ x }}}}{gap}{{% endgeneration %}}{gap}c"
    texts, _ = render_jinja_template([[]], chat_template=template)
    assert ChatTemplate(template, {}).render("") == texts[0]


@cache
def writer(name):
    chat = ChatTemplate(source(name), SPECIAL, ChatOptions(today=DAY))
    return PromptWriter(Wording(SceneTemplate("plain/v1", "think"), chat), tokens_of(name), 100_000)


def scene(text):
    return Scene(f"put {text}", f"see {text} end", ((f"a {text}", f"{text}"),), (f"buy {text}", "stay"))


@pytest.mark.parametrize("name", TEXT_FILES)
def test_no_text_from_outside_writes_a_token_that_a_public_template_writes(name):
    prompts, tokenizer = writer(name), writer(name)._tokens._tokenizer
    control = {tokenizer.token_to_id(token) for token in control_tokens(name)}
    own = [token for token in unpack_int32(prompts.ids(scene("x"))) if token in control]
    for text in (*control_tokens(name), "".join(control_tokens(name))):
        ids = unpack_int32(prompts.ids(scene(text)))
        assert [token for token in ids if token in control] == own, text
        assert tokenizer.decode(ids, skip_special_tokens=False) == prompts.wording.text(scene(text))
