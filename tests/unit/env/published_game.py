"""One game in exactly the layout of the published data: folder, files, keys and ids as json_2.1.1 has them.

The room is made up. A potato is in the microwave, and on the countertop under it too, as the published files have it.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path("train", "pick_heat_then_place_in_recep-Potato-None-DiningTable-8", "trial_T20190908_120000_123456")
SPOTS = {"counter": "loc_bar_5_bar_4_bar_1_bar_45", "corner": "loc_bar__minus_2_bar_7_bar_3_bar__minus_15"}
SPOTS |= {"table": "loc_bar_0_bar_2_bar_2_bar_60", "start": "loc_bar_5_bar_1_bar_1_bar_30"}


def at(x: str, y: str, z: str) -> str:
    return "".join(f"_bar_{number}" for number in (x, y, z))


COUNTER = "CounterTop" + at("_plus_01_dot_07", "_plus_00_dot_97", "_plus_02_dot_67")
MICROWAVE = "Microwave" + at("_minus_00_dot_31", "_plus_00_dot_93", "_plus_02_dot_08")
SINK = "Sink" + at("_plus_00_dot_94", "_plus_00_dot_94", "_plus_02_dot_65") + "_bar_SinkBasin"
FRIDGE = "Fridge" + at("_plus_02_dot_10", "00_dot_00", "_minus_00_dot_28")
CABINETS = tuple(
    "Cabinet" + at(x, "_plus_00_dot_39", "_plus_00_dot_87") for x in ("_plus_01_dot_76", "_minus_01_dot_51")
)
TABLE = "DiningTable" + at("_minus_00_dot_15", "00_dot_00", "_plus_01_dot_07")
POTATO = "Potato" + at("_minus_00_dot_31", "_plus_01_dot_03", "_plus_02_dot_08")
MUG = "Mug" + at("_plus_01_dot_80", "_plus_00_dot_40", "_plus_00_dot_90")
KNIFE = "ButterKnife" + at("_plus_00_dot_90", "_plus_00_dot_95", "_plus_02_dot_60")
PLATE = "Plate" + at("_minus_00_dot_31", "_plus_00_dot_78", "_plus_00_dot_41")
APPLES = tuple("Apple" + at("_plus_02_dot_05", y, "_minus_00_dot_20") for y in ("_plus_00_dot_55", "_plus_00_dot_95"))

RECEPTACLES = {COUNTER: "counter", MICROWAVE: "counter", SINK: "counter", FRIDGE: "corner", TABLE: "table"}
RECEPTACLES |= {CABINETS[0]: "counter", CABINETS[1]: "corner"}
OPENABLE = (MICROWAVE, FRIDGE, *CABINETS)
INSIDE = ((POTATO, COUNTER), (POTATO, MICROWAVE), (MUG, CABINETS[0]), (KNIFE, SINK), (PLATE, TABLE))
INSIDE += tuple((apple, FRIDGE) for apple in APPLES)
ABLE = {
    "pickupable": (POTATO, MUG, KNIFE, PLATE, *APPLES),
    "isReceptacleObject": (MUG, PLATE),
    "cleanable": (POTATO, MUG, KNIFE, PLATE, *APPLES),
    "heatable": (POTATO, MUG, PLATE, *APPLES),
    "coolable": (POTATO, MUG, PLATE, *APPLES),
    "sliceable": (POTATO, *APPLES),
}
FITS = {
    "CounterTop": ("Potato", "Mug", "ButterKnife", "Plate", "Apple"),
    "DiningTable": ("Potato", "Mug", "ButterKnife", "Plate", "Apple"),
    "Microwave": ("Potato", "Mug", "Plate", "Apple"),
    "Fridge": ("Potato", "Mug", "Plate", "Apple"),
    "SinkBasin": ("Potato", "Mug", "ButterKnife", "Plate", "Apple"),
    "Cabinet": ("Mug", "Plate"),
}


HEAD = """
(define (problem plan_trial_T20190908_120000_123456)
(:domain alfred)
(:objects
"""
MIDDLE = """        )
    

(:init
        (= (total-cost) 0)
"""
GOAL = """        )
    (:goal
        (and
            (exists (?r - receptacle)
            (exists (?o - object)
                (and
                    (heatable ?o)
                    (objectType ?o PotatoType)
                    (receptacleType ?r DiningTableType)
                    (isHot ?o)
                    (inReceptacle ?o ?r)
                )
            ))
        )
    )
)
    """


def kind_of(identity: str) -> str:
    return "SinkBasin" if identity.endswith("SinkBasin") else identity.split("_bar_", 1)[0]


def problem() -> str:
    """The game's PDDL, with the indents, empty lines and doubled spaces of the published files."""
    things = ABLE["pickupable"]
    spots = list(SPOTS.values())
    kinds = sorted({kind_of(thing) for thing in things} | {"Knife"})
    sections = [
        [f"(receptacleType {receptacle} {kind_of(receptacle)}Type)" for receptacle in RECEPTACLES],
        [f"(objectType {thing} {kind_of(thing)}Type)" for thing in things],
        [f"(canContain {kind}Type {held}Type)" for kind, held in ((k, h) for k, held in FITS.items() for h in held)],
        [f"({able} {thing})" for able, found in ABLE.items() for thing in found],
        [f"(openable {receptacle})" for receptacle in OPENABLE],
        [f"(atLocation agent1 {SPOTS['start']})"],
        [f"(opened {CABINETS[0]})"],
        [f"(inReceptacle {thing} {receptacle})" for thing, receptacle in INSIDE],
        [f"(wasInReceptacle  {thing} {receptacle})" for thing, receptacle in INSIDE],
        [f"(receptacleAtLocation {receptacle} {SPOTS[spot]})" for receptacle, spot in RECEPTACLES.items()],
        [f"(objectAtLocation {thing} {SPOTS[RECEPTACLES[receptacle]]})" for thing, receptacle in INSIDE],
        [f"(= (distance {one} {other}) 9)" for one in spots for other in spots if one != other],
    ]
    objects = [
        ["agent1 - agent"],
        [f"{kind}Type - otype" for kind in kinds],
        [f"{kind}Type - rtype" for kind in FITS],
        [f"{spot} - location" for spot in spots],
        [f"{thing} - object" for thing in things],
        [f"{receptacle} - receptacle" for receptacle in RECEPTACLES],
    ]
    return HEAD + _indented(objects) + MIDDLE + _indented(sections) + GOAL


def _indented(sections: list[list[str]]) -> str:
    return "".join("".join(f"        {line}\n" for line in section) + "        \n" for section in sections)


TRAJECTORY: dict[str, Any] = {
    "images": [{"high_idx": 0, "image_name": "000000000.png", "low_idx": 0}],
    "pddl_params": {
        "mrecep_target": "",
        "object_sliced": False,
        "object_target": "Potato",
        "parent_target": "DiningTable",
        "toggle_target": "",
    },
    "plan": {"high_pddl": [], "low_actions": []},
    "scene": {"floor_plan": "FloorPlan8", "scene_num": 8, "random_seed": 1, "object_poses": [], "object_toggles": []},
    "task_id": "trial_T20190908_120000_123456",
    "task_type": "pick_heat_then_place_in_recep",
    "turk_annotations": {"anns": [{"task_desc": "Put a hot potato on the table.", "high_descs": [], "votes": [1, 1]}]},
}


def publish_made_up_game(root: Path, grammar: str, domain: str = "") -> Path:
    """Write the three files of the one game below a folder json_2.1.1; the game's folder."""
    folder = root / FOLDER
    folder.mkdir(parents=True)
    game = {"pddl_domain": domain, "grammar": grammar, "pddl_problem": problem(), "solvable": True, "walkthrough": []}
    (folder / "game.tw-pddl").write_text(json.dumps(game))
    (folder / "initial_state.pddl").write_text(problem())
    (folder / "traj_data.json").write_text(json.dumps(TRAJECTORY, indent=4))
    return folder
