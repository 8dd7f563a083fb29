"""The households: AI2-THOR's 120 rooms, the allowed positions of things, and the actions on them.

The table is data (floor_plans.json, made by extract_floor_plans.py); names are in lower case, as ALFWorld writes them.
"""

from pathlib import Path

import msgspec


class Room(msgspec.Struct, frozen=True):
    """One floor plan."""

    number: int
    kind: str
    """kitchen, livingroom, bedroom or bathroom."""
    unseen: bool
    """One of the 24 rooms that the official split keeps for valid_unseen."""
    receptacles: dict[str, int]
    """Class -> how many."""
    objects: tuple[str, ...]
    """Classes of things that lie about and can be picked up."""
    lamps: tuple[str, ...]


class FloorPlans(msgspec.Struct, frozen=True):
    """All rooms, and what holds in all of them."""

    source: str
    openable: frozenset[str]
    """Classes of receptacles with a door or a lid."""
    holds_things: frozenset[str]
    """Classes of objects that are receptacles themselves: of those one only says that they are normal."""
    able: dict[str, frozenset[str]]
    """cleanable, heatable, coolable, sliceable -> classes of objects."""
    fits: dict[str, frozenset[str]]
    """Class of receptacle -> classes of objects that it may hold."""
    classes: tuple[str, ...]
    """Every class that ALFRED knows, be it in these rooms or only in the published games."""
    rooms: tuple[Room, ...]


PLANS = msgspec.json.decode(Path(__file__).with_name("floor_plans.json").read_bytes(), type=FloorPlans)
LAMPS = ("desklamp", "floorlamp")
LAMP_STANDS = frozenset({"coffeetable", "desk", "diningtable", "dresser", "shelf", "sidetable"})
"""The places of lamps; this file's own choice, as the package does not say."""
_LIT = (
    "alarmclock baseballbat basketball book bowl box cd cellphone creditcard keychain laptop mug newspaper pen pencil "
    "pillow plate remotecontrol statue tennisracket tissuebox vase watch wateringcan"
)
LIT = frozenset(_LIT.split())
"""Objects that an agent may be asked to look at under a lamp; this file's own choice too."""
