"""Chat templates of public models in a conversation that goes on, and with tools."""

import pytest

from services.rollout.errors import AttemptFailed, TokenizerError
from services.rollout.templates import ChatOptions, ChatTemplate
from services.rollout.tool_calls import Call
from tests.unit.rollout.test_chat_templates import DAY, SPECIAL, TEXT_FILES, source

STOPS = ("<|im_end|>", "<|eot_id|>", "</s>", "<end_of_turn>", "<turn|>", "<|end|>", "<|call|>", "<|observation|>",
         "<|user|>", "<|END_OF_TURN_TOKEN|>", "<|END_RESPONSE|>", "<｜end▁of▁sentence｜>")  # fmt: skip
ADD = {
    "name": "add_up",
    "description": "Adds numbers.",
    "parameters": {"type": "object", "properties": {"a": {"type": "number", "description": "one"}}, "required": ["a"]},
}
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
    "{% if tools and loop.last %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "[INST] {{ m.content }}[/INST]{% elif m.role == 'tool' %}{% if m.tool_call_id | length != 9 %}"
    "{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}"
    "[TOOL_RESULTS] {\"content\": {{ m.content | tojson }}, \"call_id\": \"{{ m.tool_call_id }}\"}[/TOOL_RESULTS]"
    "{% elif m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}{\"name\": \"{{ c.function.name }}\", "
    "\"arguments\": {{ c.function.arguments | tojson }}, \"id\": \"{{ c.id }}\"}"
    "{{ ', ' if not loop.last }}{% endfor %}]"
    "{{ eos_token }}{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)  # fmt: skip
THINKING = {"deepseekv3", "glm4moe", "glm4moe_training", "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra",
            "qwen3_5_nothink", "qwen3_5_think", "qwen3_6"}  # fmt: skip
"""They write or remove thoughts in earlier turns; what the policy said stays as it was sampled."""
ANOTHER_REPLY = {"gptoss", "gptoss_training", "qwen3_training"}
"""They write a channel, or an empty thought, before what the assistant said."""
FORMATS = {
    "hermes": ("qwen2_5", "qwen3", "qwen3_instruct_2507", "qwen3_training", "qwen3_vl"),
    "function tags": ("nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra", "qwen3_5_nothink", "qwen3_5_think",
                      "qwen3_6", "tiny_aya"),
    "json": ("llama3_1", "llama3_2"),
    "harmony": ("gptoss", "gptoss_training"),
}  # fmt: skip
ONE_CALL = ("llama3_1", "llama3_2", "gptoss", "gptoss_training")


def chat(name, tools=()):
    text = MISTRAL if name == "mistral" else source(name)
    return ChatTemplate(text, SPECIAL, ChatOptions(today=DAY, stop_texts=STOPS, tools=tuple(tools)))


@pytest.mark.parametrize("name", [*TEXT_FILES, "mistral"])
def test_a_conversation_goes_on_in_the_templates_own_turns(name):
    one = chat(name)
    one.check_turns()
    behind = one.behind([{"role": "user", "content": "And then?"}])
    assert behind.startswith(STOPS)
    assert behind.count("And then?") == 1
    if name not in THINKING | ANOTHER_REPLY:
        messages = [
            {"role": "user", "content": "Hi."},
            {"role": "assistant", "content": "Ho."},
            {"role": "user", "content": "And then?"},
        ]
        rendered = one._write(messages, add_generation_prompt=True)
        said = " Ho." if name == "mistral" else "Ho."
        assert rendered == one.render("Hi.") + said + behind


@pytest.mark.parametrize(("written", "name"), [(w, n) for w, names in FORMATS.items() for n in names])
def test_tools_are_called_and_answered_in_the_models_format(written, name):
    one = chat(name, [ADD])
    found, several = one.call_format()
    assert (found.name, several) == (written, name not in ONE_CALL)
    assert "add_up" in one.render("What is 1 + 2?")
    assert "Adds numbers." in one.render("What is 1 + 2?")
    calls = [Call("add_up", {"a": 1})] * (1 + several)
    results = ["first 7", "second 8"][: 1 + several]
    behind = one.behind_calls(calls, results)
    assert behind.startswith(STOPS)
    assert [result for result in results if behind.count(result) == 1] == results
    assert "Adds numbers." not in behind


def test_mistrals_results_carry_the_ids_of_their_calls():
    one = chat("mistral", [ADD])
    assert one.call_format()[0].name == "mistral"
    behind = one.behind_calls([Call("add_up", {})] * 2, ["7", "8"])
    assert behind == (
        '</s>[TOOL_RESULTS] {"content": "7", "call_id": "call00000"}[/TOOL_RESULTS]'
        '[TOOL_RESULTS] {"content": "8", "call_id": "call00001"}[/TOOL_RESULTS]'
    )


@pytest.mark.parametrize("name", ["gemma3", "llama3", "phi3", "deepseekv3", "lfm2_2_5", "glm4moe", "cohere2"])
def test_a_template_without_tools_or_in_another_format_is_refused(name):
    with pytest.raises(TokenizerError, match=r"^prompt_form: tools: "):
        chat(name, [ADD]).call_format()


def test_a_template_that_takes_one_turn_alone_is_refused():
    once = "{% if messages | length > 1 %}{{ raise_exception('one message') }}{% endif %}{{ messages[0].content }}"
    with pytest.raises(TokenizerError, match=r"^interaction: .*one message"):
        ChatTemplate(once, SPECIAL).check_turns()
    with pytest.raises(AttemptFailed, match="omits what the assistant said"):
        ChatTemplate("{{ messages[-1].content }}", SPECIAL).behind([{"role": "user", "content": "And then?"}])


def test_the_mark_of_a_reply_in_what_is_said_later_changes_nothing():
    one, trap = chat("qwen3", [ADD]), "Reply 5f3a. <|im_end|> Reply 5f3a."
    assert one.behind([{"role": "user", "content": trap}]).count(trap) == 1
    behind = one.behind_calls([Call("add_up", {})] * 2, [trap, trap])
    assert behind.count(trap) == 2
    assert behind.startswith("<|im_end|>\n<|im_start|>user\n<tool_response>")
