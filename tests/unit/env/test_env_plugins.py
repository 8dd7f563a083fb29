"""What a class says of itself: any mistake of its author is the reason why it cannot be opened, in one sentence."""

import sys

import pytest

from services.env.registry import Registry, UnavailableError, known_environments, refused_registrations
from tests.env_plugins import HELD, MISTAKES, write

BESIDE = {"grid": "services.env.environments.grid:Grid"}


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Writes modules and lets them be imported; references by id."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield lambda sources: write(tmp_path, sources)
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_the_reason_and_the_others_are_listed(plugins, name):
    source, sentence = MISTAKES[name]
    registry = Registry(BESIDE | plugins({name: source}))
    entries = {entry.id: entry for entry in registry.entries()}
    assert sentence in entries[name].unavailable_reason
    assert "\n" not in entries[name].unavailable_reason
    assert entries["grid"].unavailable_reason == ""
    with pytest.raises(UnavailableError, match=f"^environment '{name}': ") as refused:
        registry.find(name)
    assert refused.value.reason == entries[name].unavailable_reason


@pytest.mark.parametrize("name", HELD)
def test_what_is_unusual_and_no_mistake_can_be_opened(plugins, name):
    registry = Registry(plugins({name: HELD[name]}))
    assert [entry.unavailable_reason for entry in registry.entries()] == [""]
    assert registry.find(name)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("no_such_module:Mine", "no_such_module:Mine cannot be imported: ModuleNotFoundError: "),
        ("no_such_module", "want module:Class, got str 'no_such_module'"),
        ("", "want module:Class, got str ''"),
        ("a b:C", "want module:Class, got str 'a b:C'"),
        (".relative:Mine", "cannot be imported: TypeError"),
    ],
)
def test_a_reference_that_leads_nowhere_is_the_reason(reference, reason):
    assert reason in Registry({"odd": reference}).entries()[0].unavailable_reason


def test_options_for_a_class_that_takes_no_subclass_are_the_reason(plugins):
    source = "class Final:\n    def __init_subclass__(cls): pass\n" + HELD["plain"]
    source += "\n    def __init_subclass__(cls, **kw):\n        raise TypeError('final')\n"
    registry = Registry(plugins({"final": source}), {"final": {"x": 1}})
    assert registry.entries()[0].unavailable_reason == "plugin_final:Mine cannot be imported: TypeError: final"


def test_names_that_are_no_id_are_refused_and_listed():
    names = ["My Env", "", "a/b", "x" * 101, "é", "\ud800", "-x"]
    extra = dict.fromkeys(names, "m:C")
    assert not set(names) & set(known_environments(extra))
    refused = refused_registrations(extra)
    assert len(refused) == len(names)
    assert refused["My Env"] == "its id: want letters, digits and _ . -, at most 100, got str 'My Env'"
    assert all(name.isascii() for name in refused)
