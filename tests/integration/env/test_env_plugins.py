"""Plugins whose import or description does harm: each is listed with its reason, and everything else goes on."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from gigpo_proto.env.v1 import env_pb2

from services.env.tools.catalogue import local_catalogue
from tests.env_plugins import FATAL, HANGING, HELD, MISTAKES, plugin, write

ROOT = Path(__file__).parents[3]
LONG_S = 120.0
"""Longer than an import takes on the busiest machine."""
SOME = ("exits", "words", "splits", "sessions_none", "no_schema", "metaclass")
SAYS_ITS_KEY = plugin(
    "def reset(self, seed, split):\n    import os\n    return Observation(text=os.environ['MINE_KEY'])"
)


async def listed(caller) -> dict[str, str]:
    """Reason by id; empty: it can be opened."""
    answer = await caller.stub.ListEnvironments(env_pb2.ListEnvironmentsRequest())
    return {entry.id: entry.unavailable_reason for entry in answer.environments}


async def refusal(caller, environment: str) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open(environment)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    return refused.value.details()


def command(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`gigpo env ...`, as its script runs it: the present folder is not among those where modules are looked for."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "proto")])
    return subprocess.run(
        [sys.executable, "-P", "-m", "gigpo.client.main", "env", *arguments],
        capture_output=True,
        text=True,
        timeout=170,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "ENV_SERVICE_PLUGIN_TIMEOUT_S": str(LONG_S)} | variables,
    )


async def test_plugins_that_end_their_process_or_say_nonsense_keep_nothing_else_from_starting(
    served, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    bad = {name: MISTAKES[name] for name in SOME} | FATAL
    sources = {name: source for name, (source, _) in bad.items()} | {"talks": HELD["talks"]}
    extra = write(tmp_path, sources) | {"faulty": "faulty_environment:Faulty", "My Env": "m:C", "gone": "no_such:C"}
    caller = await served(extra_environments=extra, plugin_timeout_s=LONG_S)
    reasons = await listed(caller)
    for name, (_, sentence) in bad.items():
        assert sentence in reasons[name]
        assert await refusal(caller, name) == f"environment '{name}': {reasons[name]}"
    assert reasons["My Env"].startswith("its id: want ")
    assert "no_such:C cannot be imported" in reasons["gone"]
    for name in ("grid", "talks", "faulty"):
        assert reasons[name] == ""
        assert await caller.open(name)


async def test_a_plugin_that_hangs_is_given_up_after_its_limit(served, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    caller = await served(extra_environments=write(tmp_path, HANGING), plugin_timeout_s=2.0)
    reasons = await listed(caller)
    sentence = "its import and description are not done within 2 s (ENV_SERVICE_PLUGIN_TIMEOUT_S)"
    assert [reasons[name] for name in HANGING] == [sentence] * len(HANGING)
    assert await refusal(caller, "hangs") == f"environment 'hangs': {sentence}"
    assert await caller.open("grid")


def test_the_listing_without_a_service_is_as_safe(tmp_path, monkeypatch, capfd):
    monkeypatch.syspath_prepend(tmp_path)
    sources = {name: (MISTAKES | FATAL)[name][0] for name in ("exits", "leaves")} | {"talks": HELD["talks"]}
    monkeypatch.setenv("ENV_SERVICE_EXTRA_ENVIRONMENTS", json.dumps(write(tmp_path, sources)))
    monkeypatch.setenv("ENV_SERVICE_PLUGIN_TIMEOUT_S", str(LONG_S))
    reasons = {view["info"]["id"]: view["unavailable_reason"] for view in local_catalogue()}
    assert MISTAKES["exits"][1] in reasons["exits"]
    assert FATAL["leaves"][1] in reasons["leaves"]
    assert (reasons["talks"], reasons["grid"]) == ("", "")
    assert capfd.readouterr().out == ""


def test_the_commands_name_the_mistake_and_play_the_rest(tmp_path):
    extra = json.dumps(write(tmp_path, {"splits": MISTAKES["splits"][0], "plain": HELD["plain"]}))
    sentence = "splits: want a list of texts, got str 'train'"
    checked = command(tmp_path, "check", "splits", "--json", ENV_SERVICE_EXTRA_ENVIRONMENTS=extra)
    assert checked.returncode == 1
    (finding,) = json.loads(checked.stdout)["findings"]
    assert (finding["environment"], finding["result"], finding["note"]) == ("splits", "failed", sentence)
    shown = command(tmp_path, "list", "--json", ENV_SERVICE_EXTRA_ENVIRONMENTS=extra)
    reasons = {view["info"]["id"]: view["unavailable_reason"] for view in json.loads(shown.stdout)}
    assert (reasons["splits"], reasons["plain"]) == (sentence, "")  # both lie in the folder, which no variable names
    played = command(tmp_path, "play", "plain", ENV_SERVICE_EXTRA_ENVIRONMENTS=extra)
    assert (played.returncode, "start" in played.stdout) == (0, True), played.stderr


async def test_the_operator_names_the_variables_that_workers_see(served, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MINE_KEY", "secret of mine")
    extra = write(tmp_path, {"keyed": SAYS_ITS_KEY}) | {"faulty": "faulty_environment:Faulty"}
    caller = await served(extra_environments=extra, plugin_timeout_s=LONG_S, pass_env=("MINE_KEY", "NOT_SET"))
    assert (await caller.group("keyed")).observation.text == "secret of mine"


async def test_other_variables_stay_with_the_service(served, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MINE_KEY", "secret of mine")
    extra = write(tmp_path, {"keyed": SAYS_ITS_KEY}) | {"faulty": "faulty_environment:Faulty"}
    caller = await served(extra_environments=extra, plugin_timeout_s=LONG_S)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open("keyed")
    assert str(refused.value.details()).startswith("KeyError: 'MINE_KEY' (plugin_keyed.py, line ")


def test_the_environment_of_the_documentation_conforms_as_it_stands_there(tmp_path):
    page, quickstart = ((ROOT / name).read_text() for name in ("services/env/README.md", "docs/quickstart.md"))
    (source,) = [block for block in re.findall(r"```python\n(.*?)```", quickstart, re.S) if "class Corridor" in block]
    (variable,) = set(re.findall(r"ENV_SERVICE_EXTRA_ENVIRONMENTS='(\S+ \S+)' gigpo env check corridor", page))
    (tmp_path / "corridor.py").write_text(source)
    shown = command(tmp_path, "check", "corridor", "--json", ENV_SERVICE_EXTRA_ENVIRONMENTS=variable)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["failed"] == 0
