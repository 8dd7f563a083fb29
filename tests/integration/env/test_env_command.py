"""`gigpo env`: list, show, play, check, bench and new, as a user runs them, without a platform."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FAULTY = {
    "ENV_SERVICE_EXTRA_ENVIRONMENTS": json.dumps({"broken": "broken_environment:Broken", "gone": "no_such_module:X"}),
    "PYTHONPATH": str(Path(__file__).parent),
}
FAR = FAULTY | {"ENV_SERVICE_EXTRA_ENVIRONMENTS": json.dumps({"far": "broken_environment:Elsewhere"})}

Gigpo = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def gigpo(tmp_path: Path) -> Gigpo:
    """Runs `gigpo env ...` in an empty folder; status, stdout and stderr."""

    def run(*arguments: str, typed: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
        variables["PYTHONPATH"] = os.pathsep.join([variables.get("PYTHONPATH", ""), str(ROOT), str(ROOT / "proto")])
        return subprocess.run(
            [sys.executable, "-m", "gigpo.client.main", "env", *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=150,
            cwd=tmp_path,
            env=os.environ | variables,
        )

    return run


def test_without_a_stack_the_listing_is_this_installations(gigpo):
    extra = {"gone": "no_such_module:X", "elsewhere": "broken_environment:Elsewhere"}
    shown = gigpo("list", "--json", **FAULTY | {"ENV_SERVICE_EXTRA_ENVIRONMENTS": json.dumps(extra)})
    views = {view["info"]["id"]: view for view in json.loads(shown.stdout)}
    assert {"alfworld", "grid", "gymnasium", "openenv", "gone"} <= set(views)
    assert views["grid"]["info"]["kwargs_schema"]["properties"]["size"]
    assert views["grid"]["unavailable_reason"] == ""
    assert {name: views["grid"]["info"][name] for name in ("thread_safe", "cost_class")} == {
        "thread_safe": True,
        "cost_class": "light",
    }
    assert views["elsewhere"]["info"]["description"]  # an extra that is not installed is shown as fully as what is
    assert views["elsewhere"]["info"]["kwargs_schema"]["properties"]["colour"]
    assert "gigpo-platform[casino]" in views["elsewhere"]["unavailable_reason"]
    assert "cannot be imported" in views["gone"]["unavailable_reason"]
    table = gigpo("list", **FAR)
    assert table.returncode == 0
    assert "alfworld" in table.stdout
    assert "[casino]" in table.stdout  # the extra's name is no markup


def test_one_environment_is_shown_with_the_values_and_defaults_of_its_keys(gigpo):
    shown = gigpo("show", "gymnasium")
    assert shown.returncode == 0, shown.stderr
    rows = {line.split()[0]: line.split() for line in shown.stdout.splitlines() if line.strip()}
    assert rows["id"][1:3] == ["string", "(required)"]
    assert rows["random_map"][1:7] == ["integer", "from", "0", "to", "64", "0"]
    assert json.loads(gigpo("show", "gymnasium", "--json").stdout)["info"]["kwargs_schema"]["required"] == ["id"]
    unknown = gigpo("show", "gim")
    assert unknown.returncode == 2
    assert "want one of alfworld, " in unknown.stderr
    assert "got 'gim'" in unknown.stderr


def test_a_person_plays_by_words_and_numbers(gigpo):
    shown = gigpo("play", "grid", "--kwargs", '{"size": [2], "walls": [0]}', typed="1\ndance\nquit\n")
    assert shown.returncode == 0, shown.stderr
    assert "task: put " in shown.stdout
    assert "  anchor: put " in shown.stdout
    assert "    1  " in shown.stdout
    assert "not a valid action" in shown.stdout
    assert "left after 2 steps" in shown.stdout


def test_what_was_played_is_a_document(gigpo):
    lake = '{"id": "FrozenLake-v1", "options": {"is_slippery": false}}'
    way = "down\ndown\nright\nright\ndown\nright\n"
    shown = gigpo("play", "gymnasium", "--kwargs", lake, "--json", typed=way)
    played = json.loads(shown.stdout)
    assert (played["environment"], played["score"], played["won"]) == ("gymnasium", 1.0, True)
    assert [step["action"] for step in played["steps"]] == ["down", "down", "right", "right", "down", "right"]
    assert played["steps"][-1]["terminated"]
    assert played["first"]["admissible_actions"] == ["left", "down", "right", "up"]
    assert "won after 6 steps" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("play", "gird"), "unknown environment 'gird'; known: alfworld"),
        (("play", "grid", "--kwargs", "{'a'"), "want a JSON object"),
        (("play", "grid", "--kwargs", '{"sise": 3}'), "sise: unknown key; did you mean size?"),
        (("play", "grid", "--split", "nope"), "split: want one of train, test, got 'nope'"),
        (("check", "gird"), "did you mean grid?; `gigpo env list` shows them; one of yours is known once its package"),
        (("check",), "--all"),
        (("new", "Tic-Tac"), "small letters"),
        (("new", "class"), "'class' is a word of the Python language"),
        (("new", "grid"), "an environment 'grid' is registered already"),
        (("new", "random"), "a module 'random' is installed already"),
        (("new", "mine"), "mine exists already"),
        (("new", "chess", "--in", "a_file"), "a_file/chess: Not a directory"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_status_two(gigpo, arguments, sentence, tmp_path):
    (tmp_path / "mine").symlink_to("nowhere")
    (tmp_path / "a_file").touch()
    shown = gigpo(*arguments)
    assert shown.returncode == 2
    assert sentence in " ".join(shown.stderr.replace("│", " ").split())
    assert "goaway" not in shown.stderr  # gRPC's own words about a service that is cut off
    assert "Traceback" not in shown.stderr


def test_a_broken_environment_fails_its_checks_and_the_status_says_so(gigpo):
    shown = gigpo("check", "broken", "gone", "--json", **FAULTY)
    assert shown.returncode == 1
    document = json.loads(shown.stdout)
    failed = {one["check"]: one["note"] for one in document["findings"] if one["result"] == "failed"}
    assert set(failed) == {
        *("described", "determinism", "rebuild", "anchors", "state keys", "rewards", "actions", "invalid action"),
        *("vocabulary", "close", "available"),
    }
    assert document["failed"] == len(failed)
    assert "colour" in failed["described"]
    assert "files behind" in failed["close"]
    assert "strange" in failed["vocabulary"]
    assert "cannot be imported" in failed["available"]


def test_sessions_of_one_seed_that_differ_are_a_warning_whatever_is_claimed(gigpo):
    dice = {"dice": "broken_environment:Dice", "shared": "broken_environment:GlobalDice"}
    shown = gigpo("check", *dice, "--json", **FAULTY | {"ENV_SERVICE_EXTRA_ENVIRONMENTS": json.dumps(dice)})
    findings = {(one["environment"], one["check"]): one for one in json.loads(shown.stdout)["findings"]}
    assert findings["dice", "one seed"]["result"] == "warned"
    assert findings["dice", "one seed"]["note"].startswith(
        "two sessions of one seed differ after the same 1 action(s), the last one 'roll': a group would compare"
    )
    for check in ("one seed", "determinism", "rebuild"):
        assert findings["shared", check]["result"] == "passed", findings["shared", check]["note"]


def test_an_action_that_raises_fails_the_check_by_name_however_rarely_it_is_played(gigpo):
    trap = FAULTY | {"ENV_SERVICE_EXTRA_ENVIRONMENTS": json.dumps({"trap": "broken_environment:Trap"})}
    shown = gigpo("check", "trap", "--json", **trap)
    assert shown.returncode == 1
    failed = {one["check"]: one["note"] for one in json.loads(shown.stdout)["findings"] if one["result"] == "failed"}
    assert "the action 'trap' failed: " in failed["actions"]
    assert "AttributeError" in failed["actions"]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("EXTRA_ENVIRONMENTS", "{'bad json'", "want JSON, got \"{'bad json'\""),
        ("EXTRA_ENVIRONMENTS", "[1]", "want a mapping of keys to values, got [1]"),
        ("WORKERS", "many", "want a whole number, got 'many'"),
    ],
)
@pytest.mark.parametrize("command", ["list", "check"])
def test_a_wrong_setting_is_named_with_its_variable(gigpo, command, name, value, sentence):
    arguments = (command, "grid") if command == "check" else (command,)
    shown = gigpo(*arguments, **{f"ENV_SERVICE_{name}": value})
    assert (shown.returncode, shown.stderr) == (2, f"ENV_SERVICE_{name}: {sentence}\n")


def test_a_missing_extra_is_named_and_no_failure(gigpo):
    shown = gigpo("check", "far", **FAR)
    assert shown.returncode == 0
    assert "not installed" in shown.stdout
    assert "gigpo-platform[casino]" in shown.stdout


def test_a_new_package_installs_passes_its_test_and_conforms(gigpo, tmp_path):
    made = gigpo("new", "tic_tac", "--json")
    assert made.returncode == 0, made.stderr
    package, target = tmp_path / "tic_tac", tmp_path / "target"
    assert {Path(file).name for file in json.loads(made.stdout)["files"]} >= {"environment.py", "job.yaml"}
    assert gigpo("new", "tic_tac").returncode == 2
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    subprocess.run([sys.executable, *install, str(target), str(package)], check=True, timeout=150)
    path = os.pathsep.join([str(target), str(ROOT), str(ROOT / "proto")])
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package / "tests")]
    subprocess.run(tests, check=True, timeout=150, cwd=package, env=os.environ | {"PYTHONPATH": path})
    shown = gigpo("check", "tic_tac", "--json", PYTHONPATH=str(target))
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["passed"] >= 13
    shown = gigpo("show", "tic_tac", PYTHONPATH=str(target))
    assert "tic_tac.v1.think.jinja" in shown.stdout
    (target / "tic_tac" / "templates" / "tic_tac.v1.think.jinja").write_text("{% if task %}")
    shown = gigpo("show", "tic_tac", PYTHONPATH=str(target))
    assert "tic_tac.v1.think.jinja, line 1: TemplateSyntaxError: Unexpected end of template" in " ".join(
        shown.stdout.split()
    )


def test_the_bench_measures_and_says_what_it_did_not_compare(gigpo):
    options = ("--seconds", "0.5", "--sessions", "16", "--latency-sessions", "4", "--hold", "0.2", "--env", "grid")
    shown = gigpo("bench", *options, "--json")
    assert shown.returncode == 0, shown.stderr
    figures = json.loads(shown.stdout)
    assert figures["steps_per_s"] > 0
    assert figures["batched_steps_per_s"] > 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert (figures["sessions"], figures["environment"]) == (16, "grid")
    assert figures["held_sessions"] == 256 * figures["cores"]
    assert figures["openenv_steps_per_s"] is None  # this folder has no .venv-openenv
    assert "make install-openenv" in figures["openenv"]


def test_the_bench_refuses_what_it_does_not_know_in_one_sentence(gigpo):
    shown = gigpo("bench", "--env", "gird")
    assert (shown.returncode, shown.stdout) == (2, "")
    (sentence,) = shown.stderr.splitlines()
    assert sentence.startswith("gigpo: environment 'gird': unknown; known: alfworld, ")
