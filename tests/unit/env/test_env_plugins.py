"""A class's description of itself: any mistake of its author is the reason why it cannot be opened, in one sentence."""

import sys

import pytest
from pydantic import ValidationError

from services.api.jobs.checks import installed_problems
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.env.edge.translation import environment_message
from services.env.settings import Settings
from services.env.workers.listing import worker_config
from services.env.workers.process import worker_environment
from services.env.workers.registry import Registry, UnavailableError, known_environments, refused_registrations
from services.env.workers.worker import WorkerConfig
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


@pytest.mark.parametrize("names", ["HF_HOME,MY_KEY", "HF_HOME, MY_KEY", "HF_HOME MY_KEY", '["HF_HOME", "MY_KEY"]'])
def test_variables_for_workers_are_named_as_a_list_or_with_commas(monkeypatch, names):
    monkeypatch.setenv("ENV_SERVICE_PASS_ENV", names)
    assert Settings().pass_env == ("HF_HOME", "MY_KEY")


@pytest.mark.parametrize("names", ["MY-KEY", "A=b", '["MY KEY"]', "[MY_KEY", "9LIVES"])
def test_a_name_that_no_variable_has_stops_the_start(monkeypatch, names):
    monkeypatch.setenv("ENV_SERVICE_PASS_ENV", names)
    with pytest.raises(ValidationError, match="pass_env"):
        Settings()


def test_workers_see_the_usual_variables_and_those_that_were_named_and_keep_their_hash_seed():
    config = WorkerConfig({}, {}, 0, 0.0, pass_env=("KEY", "PYTHONHASHSEED", "OMP_NUM_THREADS", "ABSENT"))
    inherited = {"KEY": "k", "SECRET": "s", "PATH": "/bin", "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "4"}
    given = worker_environment(inherited, config)
    kept = {name: given.get(name) for name in ("KEY", "SECRET", "PATH", "PYTHONHASHSEED", "OMP_NUM_THREADS", "ABSENT")}
    assert kept == {
        "KEY": "k",
        "SECRET": None,
        "PATH": "/bin",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "4",
        "ABSENT": None,
    }


def test_the_present_folder_is_searched_only_for_a_module_of_the_settings_that_lies_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.py").touch()
    (tmp_path / "json.py").touch()  # one of this name is installed
    (tmp_path / "no_package").mkdir()
    folders = {
        reference: worker_config(Settings(extra_environments={"mine": reference})).import_folder
        for reference in ("here:Mine", "json:Mine", "no_package:Mine", "elsewhere:Mine", "", "../x:Mine")
    }
    assert {reference for reference, folder in folders.items() if folder} == {"here:Mine"}
    assert folders["here:Mine"] == str(tmp_path)
    assert worker_config(Settings()).import_folder == ""


def test_a_job_in_an_unavailable_environment_is_refused_with_the_reason(plugins):
    entries = Registry(BESIDE | plugins({"splits": MISTAKES["splits"][0]})).entries()
    infos = [EnvironmentInfo.listed(environment_message(entry)).model_dump(mode="json") for entry in entries]
    views = [
        {"info": info, "unavailable_reason": entry.unavailable_reason}
        for info, entry in zip(infos, entries, strict=True)
    ]
    jobs = {
        name: JobSpec.model_validate({"model": {"model": "job:0/latest"}, "environment": {"environment": name}})
        for name in ("splits", "grid")
    }
    reason = "splits cannot be opened here: splits: want a list of texts, got str 'train'"
    assert installed_problems(jobs["splits"], views) == [f"environment.environment: {reason}"]
    assert installed_problems(jobs["grid"], views) == []
