"""Files as WebShop publishes them."""

import json
from pathlib import Path
from typing import Any

ITEM = {
    "asin": "B000000001",
    "name": "Acme Cotton Shirt",
    "full_description": "A shirt.",
    "small_description": ["Soft", "Warm"],
    "pricing": "$1,019.50",
    "customization_options": {"Color": [{"value": " Red/Blue ", "image": None}, {"value": "GREEN"}], "Size": None},
    "query": " Shirts ",
    "product_category": "Clothing › Shirts",
    "category": "fashion",
    "images": ["x.jpg"],
}
ABOUT = {"attributes": ["soft", "warm"], "instruction": "find me a soft shirt", "instruction_attributes": ["soft"]}
ASKED = {
    "asin": "B000000001",
    "instruction": "i want a red shirt.",
    "instruction_attributes": ["soft"],
    "instruction_options": ["red | blue"],
    "worker_id": "nobody",
}


def written(folder: Path, items: Any, about: Any, human: Any = None) -> Path:
    """A folder with WebShop's files."""
    folder.mkdir()
    (folder / "items_shuffle_1000.json").write_text(json.dumps(items))
    (folder / "items_ins_v2_1000.json").write_text(json.dumps(about))
    if human is not None:
        (folder / "items_human_ins.json").write_text(json.dumps(human))
    return folder


def item(number: int = 1, **fields: Any) -> dict[str, Any]:
    return ITEM | {"asin": f"B{number:09d}"} | fields
