"""The budget of a prompt, and which wording a job gets."""

import msgspec
import pytest

from services.contracts.arrays import unpack_int32
from services.contracts.environment import EnvironmentInfo
from services.contracts.templates import plain_words
from services.rollout.errors import AttemptFailed, PromptTooLong
from services.rollout.playbook import make_playbook
from services.rollout.prompts import PromptWriter, Wording
from services.rollout.templates import Scene, SceneTemplate
from tests.unit.rollout.families import family_tokens
from tests.unit.rollout.policy_folder import word_tokens
from tests.unit.rollout.stages import spec_of

SCENE = Scene(
    task="put apple in box",
    observation="apple here .",
    history=(("apple 1 north .", "go south"), ("apple 2 north .", "go north")),
    admissible_actions=("go north", "take apple"),
)
CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} {{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = [*"put apple in box here . 1 2 north south go take act".split(), *"abcdefgh"]  # noqa: SIM905


class Listing(SceneTemplate):
    """The plain words, and the admissible actions before the observation."""

    def render(self, scene):
        bare = msgspec.structs.replace(scene, admissible_actions=())
        return " ".join([*scene.admissible_actions, super().render(bare)])


def writer(tmp_path, budget, template=None):
    template = template or SceneTemplate("grid/v1", "plain")
    return PromptWriter(Wording(template), word_tokens(tmp_path, WORDS), budget)


def text(prompts: PromptWriter, scene: Scene) -> str:
    return prompts._tokens.reply_text(prompts.ids(scene))


def test_within_the_budget_nothing_goes(tmp_path):
    prompts = writer(tmp_path, 23)
    assert text(prompts, SCENE).startswith("put apple in box . apple 1 north . go south")
    assert prompts.cut_observations == 0


def test_history_goes_first_and_the_oldest_turn_before_the_newer(tmp_path):
    assert text(writer(tmp_path, 22), SCENE) == "put apple in box . apple 2 north . go north . apple here . act"
    assert text(writer(tmp_path, 15), SCENE) == "put apple in box . apple here . act"


def test_the_list_of_actions_goes_before_the_observation(tmp_path):
    listing = Listing("grid/v1", "plain")
    assert text(writer(tmp_path, 13, listing), SCENE) == "go north take apple put apple in box . apple here . act"
    prompts = writer(tmp_path, 12, listing)
    assert text(prompts, SCENE) == "put apple in box . apple here . act"
    assert prompts.cut_observations == 0


def test_words_of_the_observation_go_last_and_only_as_many_as_must(tmp_path):
    scene = Scene("put apple in box", "a b c d\ne f g h")
    for budget in range(6, 14):
        prompts = writer(tmp_path / str(budget), budget)
        kept = ["a", "b", "c", "d", "e", "f", "g", "h"][: budget - 6]
        assert text(prompts, scene) == " ".join(["put apple in box .", *kept, "act"])
        assert prompts.cut_observations == 1


@pytest.mark.parametrize("form", ["plain", "think"])
@pytest.mark.parametrize("budget", [360, 400, 501])
@pytest.mark.parametrize(
    "observation",
    [
        "你看到一张桌子，上面放着一个苹果和一本书。" * 40,
        '{"items":[' + ",".join(f'{{"id":{i},"name":"a_mug"}}' for i in range(200)) + "]}",
        "x" * 5_000,
        "https://example.org/" + "a/b-c" * 900 + " and two more words",
        "short words first " + "z" * 5_000,
        "short words first " + "蘋果" * 900 + " and last",
        "\n".join("🙂" * 60 for _ in range(40)),
    ],
    ids=["chinese", "json", "one word", "url", "a long word last", "a long word between", "long lines"],
)
def test_an_observation_without_spaces_keeps_what_fits_of_it(observation, budget, form, tmp_path):
    tokens = family_tokens(tmp_path, "chatml")
    prompts = PromptWriter(Wording(SceneTemplate("plain/v1", form)), tokens, budget)
    written = prompts.write(Scene("put a mug in the shelf", observation))
    shown = tokens.reply_text(written.ids)
    assert budget - 8 <= len(written.ids) // 4 <= budget
    kept = shown.partition("You see now:\n")[2].partition("\n\nThink")[0] if form == "think" else shown[24:-4].strip()
    assert observation.startswith(kept)
    assert len(kept) > 15
    assert written.cut


def test_words_stay_whole_where_they_are_short(tmp_path):
    tokens = family_tokens(tmp_path, "chatml")
    for budget in range(100, 140):
        prompts = PromptWriter(Wording(SceneTemplate("plain/v1", "plain")), tokens, budget)
        shown = tokens.reply_text(prompts.ids(Scene("put", "You see a desk 1 and a shelf 1. " * 40)))
        kept = shown.removeprefix("put . ").removesuffix(" act").split()
        assert kept == ("You see a desk 1 and a shelf 1. " * 40).split()[: len(kept)]


def test_a_little_room_shows_a_little_of_a_long_word_and_no_room_nothing(tmp_path):
    tokens = family_tokens(tmp_path, "chatml")
    scene = Scene("put", "蘋果桌子" * 200)
    bare = len(tokens.encode("put .  act")) // 4
    for room in range(14):
        prompts = PromptWriter(Wording(SceneTemplate("plain/v1", "plain")), tokens, bare + room)
        shown = tokens.reply_text(prompts.ids(scene))
        kept = shown.removeprefix("put . ").removesuffix(" act")
        assert scene.observation.startswith(kept)
        assert len(kept) >= room // 6  # tokens that a character takes at most, and a space before it


def test_a_long_observation_is_not_encoded_once_a_character(tmp_path):
    tokens = family_tokens(tmp_path, "chatml")
    prompts = PromptWriter(Wording(SceneTemplate("plain/v1", "plain")), tokens, 400)
    for observation in ("蘋果" * 10_000, "a b " * 10_000):
        prompts.ids(Scene("put", observation))
    assert prompts._encode.cache_info().misses < 80


def test_what_is_left_of_an_observation_keeps_its_lines(tmp_path):
    lines = []

    class Spy(SceneTemplate):
        def render(self, scene):
            lines.append(scene.observation)
            return super().render(scene)

    writer(tmp_path, 9, Spy("grid/v1", "plain")).ids(Scene("put apple in box", "a  b\n\nc d"))
    assert "a  b\n\nc" in lines


def test_a_task_that_exceeds_the_budget_alone_is_refused_with_what_it_takes(tmp_path):
    with pytest.raises(
        PromptTooLong, match=r"max_prompt_tokens: want at least 6 for the task and grid/v1 plain .*got 5"
    ):
        writer(tmp_path, 5).ids(SCENE)


def test_an_empty_prompt_is_the_end_of_what_was_before(tmp_path):
    assert unpack_int32(writer(tmp_path, 8, SceneTemplate("prompts/v1", "plain")).ids(Scene("", ""))) == [1]


def test_equal_scenes_give_equal_prompts(tmp_path):
    prompts = writer(tmp_path, 64)
    assert prompts.ids(SCENE) == prompts.ids(Scene(*(getattr(SCENE, name) for name in SCENE.__struct_fields__)))
    assert all(0 <= token < len(WORDS) + 3 for token in unpack_int32(prompts.ids(SCENE)))


BROUGHT = {
    "maze.v1.think.jinja": (
        '{# tags: move #}\n{% extends "base.v1.jinja" %}{% block intro %}You are in a maze.{% endblock %}'
    ),
    "maze.v1.plain.jinja": "maze {{ observation }} {{ admissible_actions[0] }}",
}


def test_an_environments_own_template_writes_its_prompts_and_reads_its_replies(tmp_path):
    info = EnvironmentInfo(id="maze", prompt_template="maze", templates=BROUGHT)
    chat = make_playbook("job", spec_of({}), info, word_tokens(tmp_path / "chat", WORDS, chat_template=CHAT))
    assert chat.prompts.wording.text(SCENE).startswith("<|user|> You are in a maze.\n\nTask: put apple in box\n")
    assert chat.projection.project("<think>so</think><move>go north</move>").action == "go north"
    plain = make_playbook("job", spec_of({}), info, word_tokens(tmp_path / "plain", WORDS))
    assert plain.prompts.wording.text(SCENE) == "maze apple here . go north"
    assert plain_words("maze/v1", BROUGHT) == ["maze"]


def test_a_template_that_fails_on_a_scene_is_a_failed_attempt_and_names_itself(tmp_path):
    info = EnvironmentInfo(id="maze", prompt_template="maze/v1", templates=BROUGHT)
    playbook = make_playbook("job", spec_of({}), info, word_tokens(tmp_path, WORDS))
    with pytest.raises(AttemptFailed, match="the prompt template maze/v1 plain: "):
        playbook.prompts.ids(Scene("", "apple"))


@pytest.mark.parametrize(
    ("environment", "chat", "beginning", "action"),
    [
        ({}, None, "put apple in box . ", "go north"),
        ({}, CHAT, "<|user|> You walk on a grid", ""),
        ({"prompt_form": "plain"}, CHAT, "<|user|> put apple in box . ", "go north"),
        ({"prompt_form": "think"}, None, "You walk on a grid", ""),
        ({"use_chat_template": False}, CHAT, "put apple in box . ", "go north"),
        ({"use_chat_template": False, "prompt_form": "think"}, CHAT, "You walk on a grid", ""),
        ({"prompt_template": "plain/v1", "prompt_form": "think"}, None, "You act in an environment", ""),
        ({"system": "Be brief."}, CHAT, "<|system|> Be brief. <eos>\n<|user|> You walk", ""),
    ],
)
def test_form_and_chat_template_follow_the_tokenizer_unless_the_job_says_otherwise(
    environment, chat, beginning, action, tmp_path
):
    tokens = word_tokens(tmp_path, WORDS, chat_template=chat)
    info = EnvironmentInfo(id="grid", prompt_template="grid/v1")
    playbook = make_playbook("job", spec_of(environment), info, tokens)
    assert playbook.prompts.wording.text(SCENE).startswith(beginning)
    assert playbook.projection.project("go north").action == action
