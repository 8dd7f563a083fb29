"""Makes floor_plans.json from the alfworld package: the receptacles and objects of AI2-THOR's 120 rooms, the allowed
positions of objects, and the actions on them.

    python -m services.env.environments.alfworld.extract_floor_plans    # needs alfworld; writes beside this file

The package is under the MIT licence (LICENSE.alfworld.txt). It does not contain its games, so this file has none of
them.
"""

import json
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("floor_plans.json")
BASINS = {"Sink": "SinkBasin", "Bathtub": "BathtubBasin"}
"""Fixtures whose pose stands for the basin inside, which is what holds things."""
BURNERS = 4
"""Burners of a stove that have no pose of their own."""
_FIXED = (
    "Bathtub Blinds Boots Chair Curtains DeskLamp FloorLamp Footstool HousePlant LaundryHamperLid LightSwitch Mirror "
    "Painting PaperTowelRoll Poster ScrubBrush ShowerDoor ShowerGlass Sink StoveKnob TeddyBear Television Towel "
    "Window"
)
FIXED = frozenset(_FIXED.split())
"""Classes of objects that are never picked up."""
ABLE = ("Cleanable", "Heatable", "Coolable", "Sliceable")


def floor_plans() -> dict[str, Any]:
    """The whole table; names in lower case, as ALFWorld writes them."""
    constants = import_module("alfworld.gen.constants")
    layouts = Path(str(constants.__file__)).with_name("layouts")
    fits: dict[str, set[str]] = constants.VAL_RECEPTACLE_OBJECTS
    holders = set(constants.RECEPTACLES) - set(constants.MOVABLE_RECEPTACLES)
    movable = {name for name in constants.OBJECTS_SET - holders - FIXED if any(name in fits[h] for h in fits)}
    kinds = {number: kind for kind, numbers in constants.SCENE_TYPE.items() for number in numbers}
    rooms = []
    for number in sorted(constants.SCENE_NUMBERS):
        poses = json.loads((layouts / f"FloorPlan{number}-openable.json").read_text())
        classes = set(json.loads((layouts / f"FloorPlan{number}-objects.json").read_text()))
        names = [BASINS.get(name, name) for name in (identity.split("|")[0] for identity in poses)]
        receptacles = Counter(name for name in names if name in holders)
        for name in (classes & holders) - set(receptacles):
            receptacles[name] = BURNERS if name == "StoveBurner" else 1
        objects = {name for name in classes & movable if any(name in fits.get(holder, ()) for holder in receptacles)}
        rooms.append(
            {
                "number": number,
                "kind": kinds[number].lower(),
                "unseen": number in constants.TEST_SCENE_NUMBERS,
                "receptacles": {name.lower(): receptacles[name] for name in sorted(receptacles)},
                "objects": _lower(objects),
                "lamps": _lower(classes & constants.VAL_ACTION_OBJECTS["Toggleable"]),
            }
        )
    return {
        "source": "alfworld 0.4.2: gen/layouts, gen/constants.py; MIT, see LICENSE.alfworld.txt",
        "openable": _lower(constants.OPENABLE_CLASS_SET & holders),
        "holds_things": _lower(constants.MOVABLE_RECEPTACLES),
        "able": {able.lower(): _lower(constants.VAL_ACTION_OBJECTS[able] & movable) for able in ABLE},
        "fits": {name.lower(): _lower(fits[name] & movable) for name in sorted(set(fits) & holders)},
        "classes": _lower({*constants.OBJECTS_WSLICED, *constants.RECEPTACLES}),
        "rooms": rooms,
    }


def _lower(names: set[str]) -> list[str]:
    return sorted(name.lower() for name in names)


def main() -> None:
    """Write the file: one line a room, one line a table."""
    table = floor_plans()
    rooms = table.pop("rooms")
    head = json.dumps(table, indent=1, sort_keys=True).rstrip("}\n ")
    lines = ",\n".join(f"  {json.dumps(room)}" for room in rooms)
    TARGET.write_text(f'{head},\n "rooms": [\n{lines}\n ]\n}}\n')


if __name__ == "__main__":
    main()
