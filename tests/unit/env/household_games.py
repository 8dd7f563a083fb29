"""Writes games as the published data set holds them."""

import json
from pathlib import Path

from services.env.environments.alfworld.game import Game
from services.env.environments.alfworld.pddl import problem

GRAMMAR = """
"task": [ { "rhs": "Your task is to: %s." } ],
"GotoLocation.feedback": [ { "rhs": "You arrive at {%s.name}. #examineReceptacle.feedback#" } ],
"PutObject.feedback": [ { "rhs": "%s" } ],
action PutObject {
    template :: "%s";
}
"""


def publish(game: Game, folder: Path, *, old: bool = False, **changed: object) -> Path:
    """Write a game as the published data set does."""
    folder.mkdir(parents=True)
    wording = ("lend", "You put the {o.name} in/on the {r.name}.", "put {o} in/on {r}")
    new = ("r", "You move the {o.name} to the {r.name}.", "move {o} to {r}")
    grammar = GRAMMAR % (game.task, *(wording if old else new)) + ("" if old else "action help {}\n")
    data = {"pddl_problem": problem(game), "grammar": grammar, "solvable": True, "pddl_domain": "", **changed}
    (folder / "game.tw-pddl").write_text(json.dumps(data))
    look = game.task_type == "look_at_obj_in_light"
    wanted = {"object_target": game.target.title(), "parent_target": "", "toggle_target": "", "object_sliced": False}
    wanted["toggle_target" if look else "parent_target"] = game.goal.title()
    (folder / "traj_data.json").write_text(json.dumps({"task_type": game.task_type, "pddl_params": wanted}))
    return folder
