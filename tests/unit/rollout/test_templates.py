"""The templates as they are shipped: their names, forms, words and texts."""

import pytest
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.contracts.environment import EnvironmentInfo
from services.contracts.templates import (
    FORMS,
    SCENE,
    plain_words,
    reply_tags,
    suited_template,
    template_file,
    template_files,
    template_names,
)
from services.env.workers.registry import Registry, known_environments
from services.rollout.errors import AttemptFailed, TokenizerError
from services.rollout.prompts import Wording
from services.rollout.templates import ChatTemplate, Scene, SceneTemplate
from tests.unit.rollout.prompt_snapshots import FOLDER, chat_tokens, file_of, snapshot
from tests.unit.rollout.stages import spec_of

EVERY = [(name, form) for name in template_names() for form in FORMS]


@pytest.mark.parametrize(("template", "form"), EVERY)
def test_a_template_writes_what_its_snapshot_says(template, form, tmp_path):
    assert snapshot(template, form, chat_tokens(tmp_path)) == file_of(template, form).read_text()


def test_there_is_a_snapshot_of_every_template_and_of_nothing_else():
    assert set(FOLDER.glob("*.txt")) == {file_of(template, form) for template, form in EVERY}


def test_templates_know_of_nothing_but_the_scene():
    sandbox = ImmutableSandboxedEnvironment()
    for name, source in template_files().items():
        unknown = meta.find_undeclared_variables(sandbox.parse(source)) - set(Scene.__struct_fields__)
        assert not unknown, name
        assert "loop." not in source, name  # a turn's number is a trace of time


def test_a_template_may_show_what_a_scene_has():
    """Results of tools have messages of their own."""
    assert frozenset(Scene.__struct_fields__) - {"results"} == SCENE


def test_every_environment_here_names_a_known_template():
    for entry in Registry(known_environments({})).entries():
        if not entry.unavailable_reason:
            assert entry.prompt_template in template_names(), entry.id


def test_a_name_without_a_version_means_the_first_and_an_unknown_one_the_plain_template():
    assert suited_template("alfworld/v1") == suited_template("alfworld") == "alfworld/v1"
    assert suited_template("never/v7") == suited_template("") == "plain/v1"


def test_the_job_may_choose_another_template_than_its_environment_names():
    grid = EnvironmentInfo(id="grid", prompt_template="grid/v1")
    assert grid.template(spec_of({})) == "grid/v1"
    assert grid.template(spec_of({"prompt_template": "textworld/v1"})) == "textworld/v1"


def test_forms_that_a_template_lacks_are_those_of_the_plain_one():
    assert template_file("grid/v1", "plain") == template_file("plain/v1", "plain") == "plain.v1.plain.jinja"
    assert template_file("grid/v1", "think") == "grid.v1.think.jinja"


def test_words_that_a_tokenizer_needs_beside_the_environments_own():
    assert set(plain_words("grid/v1")) == {".", "act"}
    assert plain_words("prompts/v1") == []


def test_the_tags_of_a_reply_stand_in_the_first_line():
    tags = {name: reply_tags(name, "think") for name in template_names()}
    assert tags.pop("search_qa/v1") == ("search", "answer")
    assert tags.pop("prompts/v1") == ()
    assert set(tags.values()) == {("action",)}
    assert {reply_tags(name, "plain") for name in template_names()} == {()}


def test_the_plain_form_is_the_words_as_they_are():
    template = SceneTemplate("grid/v1", "plain")
    turns = (("apple 1 north .", "go south"), ("apple 2 north .", "go north"))
    assert template.render(Scene("put apple in box", "apple here .", turns, ("go north",))) == (
        "put apple in box . apple 1 north . go south . apple 2 north . go north . apple here . act"
    )
    assert template.render(Scene("t", "{{ task }} {0}")) == "t . {{ task }} {0} act"
    assert SceneTemplate("prompts/v1", "plain").render(Scene("3 plus 4", "")) == "3 plus 4"


def test_a_chat_template_cannot_reach_python_and_its_refusal_is_a_failed_attempt():
    for source in ("{{ raise_exception('system role not supported') }}", "{{ messages.__class__.__mro__ }}"):
        with pytest.raises(AttemptFailed, match="chat template"):
            ChatTemplate(source, {}).render("x")


def test_a_chat_template_sees_no_clock_and_its_generation_marks_render_to_nothing():
    assert ChatTemplate("{% if strftime_now is defined %}{{ strftime_now('%d') }}{% endif %}x", {}).render("") == "x"
    assert ChatTemplate("{% generation %}x{%- endgeneration -%}", {}).render("") == "x"


def test_a_system_message_comes_before_the_prompt_with_and_without_a_chat_template():
    template, scene = SceneTemplate("prompts/v1", "plain"), Scene("3 plus 4", "")
    chat = ChatTemplate("{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}", {})
    assert Wording(template, chat, "Be brief.").text(scene) == "[system] Be brief. [user] 3 plus 4 "
    assert Wording(template, chat).text(scene) == "[user] 3 plus 4 "
    assert Wording(template, None, "Be brief.").text(scene) == "Be brief.\n\n3 plus 4"


def test_a_chat_template_finds_what_transformers_gives_it():
    source = "{% if tools is not none or documents is not none %}tools{% endif %}{{ messages[0].content | tojson }}"
    assert ChatTemplate(source, {}).render("<b>'é'") == "\"<b>'é'\""


@pytest.mark.parametrize(
    "source",
    [
        "hello",
        "{% for part in messages[0].content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}",
        "{{ messages[0].content | upper }}",
        "{{ messages[0].content[:20] }}",
    ],
)
def test_a_chat_template_that_loses_the_prompt_is_refused(source: str):
    with pytest.raises(TokenizerError, match="omits the message's text"):
        ChatTemplate(source, {}).check()


def test_a_chat_template_that_refuses_the_jobs_system_message_is_refused_before_anything_is_played():
    gemma = (
        "{{ raise_exception('System role not supported') if messages[0].role == 'system' else messages[0].content }}"
    )
    ChatTemplate(gemma, {}).check()
    with pytest.raises(TokenizerError, match="System role not supported"):
        ChatTemplate(gemma, {}).check("be good")
