"""Templates and their budget."""

import pytest

from services.contracts.arrays import unpack_int32
from services.rollout.errors import AttemptFailed, PromptTooLong
from services.rollout.prompts import PLAIN_LAYOUTS, ChatTemplate, PlainTemplate, PromptWriter, Scene, chosen_template
from tests.unit.rollout.policy_folder import word_tokens

SCENE = Scene(
    task="put apple in box",
    observation="apple here .",
    history=(("apple 1 north .", "go south"), ("apple 2 north .", "go north")),
    admissible_actions=("go north", "take apple"),
)
CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = [*"put apple in box here . 1 2 north south go act".split(), *"abcdefgh"]  # noqa: SIM905


def writer(tmp_path, budget, template=None):
    return PromptWriter(template or PlainTemplate("plain/1"), word_tokens(tmp_path, WORDS), budget)


def text(prompts: PromptWriter, scene: Scene) -> str:
    return prompts._tokens.reply_text(prompts.ids(scene))


def test_plain_layouts_are_the_words_as_they_are():
    scene = Scene("put apple in box", "apple here .")
    assert {name: PlainTemplate(name).render(scene) for name in PLAIN_LAYOUTS} == {
        "plain/1": "put apple in box . apple here . act",
        "plain/2": "apple here . put apple in box act",
    }
    assert PlainTemplate("plain/1").words == [".", "act"]


def test_plain_history_comes_before_the_observation_oldest_first():
    assert PlainTemplate("plain/1").render(SCENE) == (
        "put apple in box . apple 1 north . go south . apple 2 north . go north . apple here . act"
    )


def test_braces_in_an_observation_are_words_like_others():
    assert PlainTemplate("plain/1").render(Scene("t", "{task} {0}")) == "t . {task} {0} act"


def test_chat_renders_the_tokenizers_template_with_task_history_observation_and_actions():
    rendered = ChatTemplate(CHAT, {"eos_token": "<eos>"}).render(SCENE)
    assert rendered.startswith("<|system|>You act")
    assert rendered.endswith("<action>your action</action>.<eos>\n<|assistant|>")
    positions = [rendered.index(part) for part in ("put apple in box", "You did: go south", "You did: go north")]
    positions += [rendered.index(part) for part in ("You see: apple here .", "- go north", "- take apple")]
    assert positions == sorted(positions)


def test_a_chat_template_cannot_reach_python_and_its_refusal_is_a_failed_attempt():
    for source in ("{{ raise_exception('system role not supported') }}", "{{ messages.__class__.__mro__ }}"):
        with pytest.raises(AttemptFailed, match="chat template"):
            ChatTemplate(source, {}).render(SCENE)


def test_a_prompt_has_no_trace_of_time():
    template = ChatTemplate("{% if strftime_now is defined %}{{ strftime_now('%d') }}{% endif %}x", {})
    assert template.render(SCENE) == "x"


def test_generation_marks_render_to_nothing():
    assert ChatTemplate("{% generation %}x{%- endgeneration -%}", {}).render(SCENE) == "x"


def test_within_the_budget_nothing_goes(tmp_path):
    prompts = writer(tmp_path, 23)
    assert text(prompts, SCENE).startswith("put apple in box . apple 1 north . go south")
    assert prompts.cut_observations == 0


def test_history_goes_first_and_the_oldest_turn_before_the_newer(tmp_path):
    assert text(writer(tmp_path, 16), SCENE) == "put apple in box . apple 2 north . go north . apple here . act"
    assert text(writer(tmp_path, 15), SCENE) == "put apple in box . apple here . act"


def test_the_list_of_actions_goes_before_the_observation(tmp_path):
    class Listing:
        name = "listing"

        def render(self, scene):
            return " ".join([scene.task, *(o for o, _ in scene.history), *scene.admissible_actions, scene.observation])

    assert text(writer(tmp_path, 15, Listing()), SCENE) == (
        "put apple in box apple 2 north . go north <unk> apple apple here ."
    )
    assert text(writer(tmp_path, 11, Listing()), SCENE) == "put apple in box go north <unk> apple apple here ."
    assert text(writer(tmp_path, 10, Listing()), SCENE) == "put apple in box apple here ."


def test_words_of_the_observation_go_last_and_only_as_many_as_must(tmp_path):
    scene = Scene("put apple in box", "a b c d e f g h")
    for budget in range(6, 14):
        prompts = writer(tmp_path / str(budget), budget)
        kept = ["a", "b", "c", "d", "e", "f", "g", "h"][: budget - 6]
        assert text(prompts, scene) == " ".join(["put apple in box .", *kept, "act"])
        assert prompts.cut_observations == 1


def test_a_task_that_exceeds_the_budget_alone_is_refused(tmp_path):
    with pytest.raises(PromptTooLong, match="max_prompt_tokens: want <= 5"):
        writer(tmp_path, 5).ids(SCENE)


def test_equal_scenes_give_equal_prompts(tmp_path):
    prompts = writer(tmp_path, 64)
    assert prompts.ids(SCENE) == prompts.ids(Scene(*(getattr(SCENE, name) for name in SCENE.__struct_fields__)))
    assert all(0 <= token < len(WORDS) + 3 for token in unpack_int32(prompts.ids(SCENE)))


def test_auto_is_chat_where_the_tokenizer_has_a_template(tmp_path):
    plain = word_tokens(tmp_path / "plain", WORDS)
    chat = word_tokens(tmp_path / "chat", WORDS, chat_template=CHAT)
    assert chosen_template("auto", "plain", plain).name == "plain/1"
    assert chosen_template("auto", "plain", chat).name == "chat/1"
    assert chosen_template("plain", "never heard of", chat).name == "plain/1"
    with pytest.raises(AttemptFailed, match="want plain, got chat"):
        chosen_template("chat", "plain", plain)
