"""A template of others that never ends, or writes without end, is an error within seconds."""

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.contracts.templates.bounded import BoundedSandbox, TemplateUnbounded
from services.rollout.errors import TokenizerError
from services.rollout.templates import ChatOptions, ChatTemplate

MESSAGE = "{{ messages[0].content }}"


def doubling(step: str) -> str:
    """A template whose `n.t` doubles 60 times by `step`."""
    return "{% set n = namespace(t='xy') %}{% for i in range(60) %}" + step + "{% endfor %}"


ENDLESS = {
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "much to write": "{% for i in range(99999) %}{{ messages[0].content * 1000 }}{% endfor %}",
    "a text times a number": "{{ 'x' * 10 ** 10 }}",
    "a number times a text": "{{ 10 ** 10 * 'x' }}",
    "a list times a number": "{{ ([0] * 10 ** 10) | length }}",
    "a power": "{{ 10 ** (10 ** 10) }}",
    "a text that doubles by +": doubling("{% set n.t = n.t + n.t %}"),
    "a text that doubles by ~": doubling("{% set n.t = n.t ~ n.t %}"),
    "a block that doubles": doubling("{% set n.t %}{{ n.t }}{{ n.t }}{% endset %}"),
    "a block with a filter that doubles": doubling("{% set n.t | upper %}{{ n.t }}{{ n.t }}{% endset %}"),
    "a text that doubles by replacement": doubling("{% set n.t = n.t.replace('x', 'xx') %}"),
    "a large replacement": "{{ ('x' * 10 ** 7).replace('x', 'x' * 10 ** 7) }}",
    "a large replacement by a filter": "{{ ('x' * 10 ** 7) | replace('x', 'x' * 10 ** 7) }}",
    "a width": "{{ 'x'.center(10 ** 10) }}",
    "a width of a filter": "{{ 'x' | center(10 ** 10) }}",
    "an indent": "{{ messages | tojson(indent=10 ** 10) }}",
    "a filled batch": "{{ [1] | batch(10 ** 10, 'x') | list }}",
    "a format": "{{ '{:9999999999}'.format(1) }}",
    "a format whose width is a value": "{{ '{:{}}'.format(1, 10 ** 10) }}",
    "a format by % whose width is a value": "{{ '%*d' % (10 ** 10, 1) }}",
    "a format by %": "{{ '%9999999999d' % 1 }}",
    "a format by a filter": "{{ '%9999999999d' | format(1) }}",
    "a joined list": "{{ ('x' * 10 ** 7).join(['1', '2'] * 10 ** 6) }}",
    "a joined list by a filter": "{{ ([1, 2] * 10 ** 6) | join('x' * 10 ** 7) }}",
}  # fmt: skip
LARGE = "{% set s = 'x' * 10 ** 6 %}"
REFERRING = {
    "a written list": "{{ [s] * 10 ** 4 }}",
    "a list as a text": "{{ ([s] * 10 ** 4) | string }}",
    "a list beside a text": "{{ ([s] * 10 ** 4) ~ '' }}",
    "a list as JSON": "{{ ([s] * 10 ** 4) | tojson }}",
    "a list of sections as JSON": "{{ ([{'a': s, 'b': [s]}] * 10 ** 4) | tojson }}",
    "lists in lists": "{{ [[[s] * 100] * 100] * 100 }}",
    "a section that is printed": "{{ {'a': [s] * 10 ** 4} | pprint }}",
    "a joined attribute": "{{ ([{'a': s}] * 10 ** 4) | map(attribute='a') | join }}",
    "a sum of lists": "{{ ([[0] * 10 ** 6] * 10 ** 4) | sum(start=[]) | length }}",
    "a format of one field": "{{ ('{0}' * 10 ** 4).format(s) | length }}",
    "a format of many values": "{{ ('%s' * 10 ** 4) | format(*([s] * 10 ** 4)) | length }}",
    "a format by % of one name": "{{ ('%(a)s' * 10 ** 4 % {'a': s}) | length }}",
    "indented lines": "{{ ('\\n' * 10 ** 6) | indent(10 ** 4) | length }}",
    "tabs": "{{ ('\\t' * 10 ** 6).expandtabs(10 ** 4) | length }}",
    "many texts that are kept": (
        "{% set n = namespace(l=[]) %}{% for i in range(9999) %}{% set n.l = n.l + [s[1:] ~ i] %}{% endfor %}"
    ),
    "many texts of a filter": "{{ (range(9999) | map('string') | map('center', 10 ** 6)) | list | length }}",
}  # fmt: skip


@pytest.mark.parametrize("case", REFERRING)
def test_a_text_that_is_referred_to_often_is_counted_as_often(case: str) -> None:
    with pytest.raises(TokenizerError, match=r"want at most [\d,]+ characters.*, it makes more"):
        ChatTemplate(LARGE + REFERRING[case] + MESSAGE, {}, ChatOptions()).check()


@pytest.mark.parametrize("case", ENDLESS)
def test_a_chat_template_without_end_is_refused_in_one_sentence(case: str) -> None:
    template = ChatTemplate(ENDLESS[case] + MESSAGE, {}, ChatOptions())
    with pytest.raises(
        TokenizerError, match=r"the tokenizer's chat template: want at most [\d,]+ .*, it (takes|makes)"
    ):
        template.check()


@pytest.mark.parametrize("case", [case for case in ENDLESS if "width is a value" not in case])
def test_a_template_that_jinja_alone_renders_is_rendered_alike_within_the_bounds(case: str) -> None:
    """What counts and limits does not change what is written."""
    small = ENDLESS[case]
    for large in (
        "99999",
        "9999999999",
        "10 ** 10 ** 10",
        "10 ** 10",
        "10 ** 7",
        "10 ** 6",
        "* 1000",
        "range(60)",
        "f(60)",
    ):
        small = small.replace(large, {"range(60)": "range(3)", "f(60)": "f(3)", "* 1000": "* 2"}.get(large, "3"))
    values = {"messages": [{"content": "Hello."}]}
    sandbox = BoundedSandbox()
    bounded = sandbox.bounded(sandbox.from_string(small + MESSAGE), **values)
    assert bounded == ImmutableSandboxedEnvironment().from_string(small + MESSAGE).render(**values)


def test_one_rendering_does_not_use_up_the_next_ones_turns() -> None:
    sandbox = BoundedSandbox()
    template = sandbox.from_string("{% for i in range(90000) %}{% endfor %}")
    for _ in range(15):
        assert sandbox.bounded(template) == ""


def test_cpu_time_bounds_what_turns_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.contracts.templates.bounded.MOST_CPU_S", 0.05)
    sandbox = BoundedSandbox()
    slow = "{% set t = 'xy' * 1000000 %}{% for i in range(99999) %}{% set u = t.count('yy') %}{% endfor %}"
    with pytest.raises(TemplateUnbounded, match=r"want at most 0\.05 s, it takes more"):
        sandbox.bounded(sandbox.from_string(slow))
