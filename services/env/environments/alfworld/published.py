"""Reads the published games: a user's own folder json_2.1.1, unchanged.

    json_2.1.1/SPLIT/TASK-TYPE-.../trial_.../{game.tw-pddl, traj_data.json}

The real engine names things by their place among the sorted ids and counts downwards; so does this reader. Wording that
changed between versions of the data ("put X in/on Y", "You arrive at loc 5") is taken from the file.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from services.env.environments.alfworld.game import TASK_TYPES, Game, Receptacle, Thing, Wording
from services.env.environments.alfworld.pddl import IS, facts

GAME_FILE, TRAJECTORY_FILE = "game.tw-pddl", "traj_data.json"
LEFT_OUT = ("movable", "Sliced")
"""Words in the paths below the data's folder of games that ALFWorld does not play either."""
ABILITIES = ("pickupable", "toggleable", "cleanable", "heatable", "coolable", "sliceable", "isreceptacleobject")
TASK = re.compile(r"Your task is to: (.*?)\.?\"")
PUT = re.compile(r"action PutObject \{\s*template :: \"([^\"]*)\"")
PUT_SAID = re.compile(r"\"PutObject\.feedback\":\s*\[\s*\{\s*\"rhs\":\s*\"([^\"]*)\"")
HELP = re.compile(r"^action help\b", re.MULTILINE)
Arguments = Mapping[str, list[list[str]]]


class NoGameError(Exception):
    """The folder or a file in it is not what the published data looks like; the message says what is missing."""


@lru_cache(maxsize=16)
def game_folders(root: Path, split: str) -> tuple[Path, ...]:
    """Folders with a playable game, in order of their paths: one order on every machine."""
    found = sorted(
        (path.parent for path in (root / split).glob(f"**/{GAME_FILE}") if (path.parent / TRAJECTORY_FILE).exists()),
        key=lambda folder: folder.relative_to(root).as_posix(),
    )
    playable = tuple(folder for folder in found if not any(word in str(folder.relative_to(root)) for word in LEFT_OUT))
    if not playable:
        raise NoGameError(f"no {split}/**/{GAME_FILE} with {TRAJECTORY_FILE} beside it")
    return playable


def pick_folder(root: Path, split: str, seed: int, task_types: Collection[str]) -> Path:
    """The game that a seed names: seeds 0 to n - 1 go through all n games. It takes the next one from there that is
    marked solvable and of a wanted type. NoGameError: none is, or a file on the way is spoilt."""
    folders = game_folders(root, split)
    for step in range(len(folders)):
        folder = folders[(seed + step) % len(folders)]
        if _task_type(folder) in task_types and _solvable(folder):
            return folder
    raise NoGameError(f"none of the {len(folders)} games of {split} is solvable and of type {', '.join(task_types)}")


@lru_cache(maxsize=64)
def read_game(folder: Path) -> Game:
    """The game of one folder. NoGameError: it is none, or one of a kind that ALFWorld does not play."""
    try:
        trajectory, data = _document(folder / TRAJECTORY_FILE), _document(folder / GAME_FILE)
        wanted, task_type = trajectory["pddl_params"], trajectory["task_type"]
        if task_type not in TASK_TYPES or wanted.get("object_sliced"):
            raise NoGameError(f"{folder.name}: tasks of type {task_type} are not supported")
        look = task_type == "look_at_obj_in_light"
        return _game(
            facts(data["pddl_problem"]),
            data["grammar"],
            task_type=task_type,
            target=wanted["object_target"].lower(),
            goal=wanted["toggle_target" if look else "parent_target"].lower(),
        )
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise NoGameError(f"{folder.name}: {type(error).__name__}: {error}") from error


def _game(holds: Arguments, grammar: str, *, task_type: str, target: str, goal: str) -> Game:
    names = _names({argument for name, rows in holds.items() if name != "distance" for row in rows for argument in row})
    return Game(
        task_type=task_type,
        task=_found(TASK, grammar),
        target=target,
        goal=goal,
        receptacles=_receptacles(holds, names, arrive_at_location="{lend.name}" in grammar),
        things=_things(holds, names),
        fits=_fits(holds),
        start=holds["atlocation"][0][1],
        wording=Wording(
            put=_found(PUT, grammar),
            put_said=_found(PUT_SAID, grammar).replace("{o.name}", "{o}").replace("{r.name}", "{r}"),
            helps=HELP.search(grammar) is not None,
        ),
    )


def _receptacles(holds: Arguments, names: dict[str, str], *, arrive_at_location: bool) -> dict[str, Receptacle]:
    kinds = {identity: kind.removesuffix("type") for identity, kind in holds["receptacletype"]}
    openable, opened = ({identity for (identity,) in holds.get(name, ())} for name in ("openable", "opened"))
    return {
        names[identity]: Receptacle(
            kind=kinds.get(identity, ""),
            location=location,
            openable=identity in openable,
            opened=identity in opened,
            arrival=names[location] if arrive_at_location else "",
        )
        for identity, location in sorted(holds["receptacleatlocation"])
    }


def _things(holds: Arguments, names: dict[str, str]) -> dict[str, Thing]:
    kinds, location = (dict(holds.get(name, ())) for name in ("objecttype", "objectatlocation"))
    inside = dict(holds.get("inreceptacleobject", ()))
    standing = {identity for identity, _ in holds["receptacleatlocation"]}
    able, marks, places = defaultdict(set), defaultdict(set), defaultdict(list)
    for identity, place in sorted(holds.get("inreceptacle", ())):
        if place in standing:
            places[identity].append(names[place])
    for ability in ABILITIES:
        for (identity,) in holds.get(ability, ()):
            able[identity].add(ability)
    for mark, predicate in IS.items():
        for (identity,) in holds.get(predicate.lower(), ()):
            marks[identity].add(mark)
    return {
        names[identity]: Thing(
            kind=kinds[identity].removesuffix("type"),
            places=tuple(places[identity]),
            location=location.get(identity, ""),
            able=frozenset(able[identity]),
            marks=frozenset(marks[identity]),
            inside=names.get(inside.get(identity, ""), ""),
        )
        for identity in sorted(kinds)
    }


def _fits(holds: Arguments) -> dict[str, frozenset[str]]:
    fits = defaultdict(set)
    for receptacle, held in holds.get("cancontain", ()):
        fits[receptacle.removesuffix("type")].add(held.removesuffix("type"))
    return {kind: frozenset(held) for kind, held in fits.items()}


def _names(identities: set[str]) -> dict[str, str]:
    """Id -> name: its first part and a number, the highest of each for the first in order."""
    kinds = {identity: _kind(identity) for identity in sorted(identities) if "_bar_" in identity}
    left = Counter(kinds.values())
    names = {}
    for identity, kind in kinds.items():
        names[identity] = f"{kind} {left[kind]}"
        left[kind] -= 1
    return names


def _kind(identity: str) -> str:
    return identity.split("_bar_", 1)[0] + ("basin" if "basin" in identity else "")


def _found(pattern: re.Pattern[str], grammar: str) -> str:
    found = pattern.search(grammar)
    if found is None:
        raise ValueError(f"the grammar has no {pattern.pattern!r}")
    return found.group(1)


@lru_cache(maxsize=8192)
def _task_type(folder: Path) -> str:
    return str(_document(folder / TRAJECTORY_FILE).get("task_type"))


@lru_cache(maxsize=8192)
def _solvable(folder: Path) -> bool:
    return bool(_document(folder / GAME_FILE).get("solvable"))


def _document(file: Path) -> dict[str, Any]:
    """The content of a file. NoGameError: it cannot be read, or holds no JSON object."""
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise NoGameError(f"{file.parent.name}/{file.name}: {type(error).__name__}: {error}") from error
    if not isinstance(document, dict):
        raise NoGameError(f"{file.parent.name}/{file.name}: want a JSON object, got {type(document).__name__}")
    return document
