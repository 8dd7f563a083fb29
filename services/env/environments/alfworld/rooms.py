"""What a household has: receptacles by room, objects, where an object may lie, and what can be done to it.

The words are those of AI2-THOR's classes, as ALFWorld writes them; who belongs where is this file's own choice.
"""


def _words(text: str) -> list[str]:
    return text.split()


ROOMS: dict[str, dict[str, int]] = {
    "kitchen": {
        **{"cabinet": 3, "countertop": 2, "diningtable": 1, "drawer": 3, "fridge": 1, "garbagecan": 1},
        **{"microwave": 1, "shelf": 2, "sinkbasin": 1, "stoveburner": 2},
    },
    "bathroom": {
        **{"bathtubbasin": 1, "cabinet": 2, "countertop": 1, "drawer": 2, "garbagecan": 1},
        **{"shelf": 1, "sinkbasin": 1, "toilet": 1},
    },
    "bedroom": {
        **{"armchair": 1, "bed": 1, "desk": 1, "drawer": 3, "dresser": 1, "garbagecan": 1, "shelf": 2, "sidetable": 2},
    },
    "livingroom": {
        **{"armchair": 1, "coffeetable": 1, "diningtable": 1, "drawer": 2, "dresser": 1, "garbagecan": 1},
        **{"shelf": 2, "sidetable": 2, "sofa": 1},
    },
}
"""Room -> class of receptacle -> how many a full room has."""

_TABLES = "coffeetable desk diningtable dresser shelf sidetable"
_KITCHEN_TOPS = "countertop diningtable"
BELONGS: dict[str, frozenset[str]] = {
    name: frozenset(places.split())
    for name, places in {
        "alarmclock": _TABLES,
        "apple": f"{_KITCHEN_TOPS} fridge garbagecan microwave sinkbasin",
        "book": f"{_TABLES} armchair bed cabinet drawer sofa",
        "bowl": f"{_TABLES} {_KITCHEN_TOPS} cabinet fridge microwave sinkbasin",
        "box": f"{_TABLES} armchair cabinet sofa",
        "bread": f"{_KITCHEN_TOPS} fridge garbagecan microwave",
        "candle": f"{_TABLES} bathtubbasin cabinet countertop drawer toilet",
        "cd": f"{_TABLES} bed drawer garbagecan",
        "cellphone": f"{_TABLES} armchair bed drawer sofa",
        "cloth": "bathtubbasin cabinet countertop drawer garbagecan shelf sinkbasin toilet",
        "creditcard": f"{_TABLES} armchair drawer sofa",
        "cup": f"{_KITCHEN_TOPS} cabinet fridge microwave shelf sinkbasin",
        "dishsponge": f"{_KITCHEN_TOPS} bathtubbasin cabinet drawer garbagecan sinkbasin toilet",
        "egg": f"{_KITCHEN_TOPS} fridge garbagecan microwave sinkbasin",
        "fork": f"{_KITCHEN_TOPS} drawer sinkbasin",
        "keychain": f"{_TABLES} armchair bed drawer sofa",
        "laptop": "armchair bed coffeetable desk diningtable dresser sofa",
        "lettuce": f"{_KITCHEN_TOPS} fridge garbagecan sinkbasin",
        "mug": f"{_KITCHEN_TOPS} cabinet desk dresser fridge microwave shelf sidetable sinkbasin",
        "newspaper": f"{_TABLES} armchair bed drawer garbagecan sofa",
        "pan": f"{_KITCHEN_TOPS} cabinet fridge sinkbasin stoveburner",
        "pen": f"{_TABLES} bed drawer garbagecan",
        "pencil": f"{_TABLES} bed drawer garbagecan",
        "pillow": "armchair bed sofa",
        "plate": f"{_KITCHEN_TOPS} cabinet coffeetable fridge microwave shelf sidetable sinkbasin",
        "pot": f"{_KITCHEN_TOPS} cabinet fridge sinkbasin stoveburner",
        "potato": f"{_KITCHEN_TOPS} fridge garbagecan microwave sinkbasin",
        "remotecontrol": f"{_TABLES} armchair drawer sofa",
        "saltshaker": f"{_KITCHEN_TOPS} cabinet drawer shelf",
        "soapbar": "bathtubbasin cabinet countertop drawer garbagecan shelf sinkbasin toilet",
        "soapbottle": f"{_KITCHEN_TOPS} bathtubbasin cabinet drawer garbagecan shelf sinkbasin toilet",
        "spatula": f"{_KITCHEN_TOPS} drawer sinkbasin",
        "spoon": f"{_KITCHEN_TOPS} drawer sinkbasin",
        "spraybottle": "cabinet countertop drawer garbagecan shelf toilet",
        "statue": _TABLES,
        "tissuebox": f"{_TABLES} cabinet countertop drawer garbagecan toilet",
        "toiletpaper": "cabinet countertop drawer garbagecan shelf toilet",
        "tomato": f"{_KITCHEN_TOPS} fridge garbagecan microwave sinkbasin",
        "vase": _TABLES,
        "watch": f"{_TABLES} armchair drawer sofa",
    }.items()
}
"""Class of object -> classes of receptacle that may hold it."""

OBJECTS: dict[str, tuple[str, ...]] = {
    "kitchen": tuple(
        _words(
            "apple bowl bread cup dishsponge egg fork lettuce mug "
            "pan plate pot potato saltshaker soapbottle spatula spoon tomato"
        )
    ),
    "bathroom": tuple(_words("candle cloth dishsponge soapbar soapbottle spraybottle tissuebox toiletpaper")),
    "bedroom": tuple(
        _words(
            "alarmclock book bowl box cd cellphone creditcard keychain laptop mug newspaper pen pencil pillow tissuebox"
        )
    ),
    "livingroom": tuple(
        _words("book box candle creditcard keychain laptop newspaper pillow plate remotecontrol statue vase watch")
    ),
}
"""Room -> classes of objects found in it."""

OPENABLE = frozenset({"cabinet", "drawer", "fridge", "microwave"})
LAMP = "desklamp"
LAMP_STANDS_ON = frozenset(_words(_TABLES))
LIT = frozenset(OBJECTS["bedroom"] + OBJECTS["livingroom"])
"""What one can be asked to look at under a lamp."""
CHANGES: dict[str, tuple[str, frozenset[str]]] = {
    "clean": (
        "sinkbasin",
        frozenset(
            _words(
                "apple bowl cloth cup dishsponge egg fork lettuce mug pan plate pot potato soapbar spatula spoon tomato"
            )
        ),
    ),
    "heat": ("microwave", frozenset(_words("apple bread cup egg mug plate potato tomato"))),
    "cool": ("fridge", frozenset(_words("apple bowl bread cup egg lettuce mug pan plate pot potato tomato"))),
}
"""Verb -> the receptacle it is done with, and the classes of objects it can be done to."""
RECEPTACLES = tuple(sorted({name for room in ROOMS.values() for name in room}))
OBJECT_NAMES = tuple(sorted(BELONGS))
