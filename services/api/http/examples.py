"""Examples of bodies and answers in the OpenAPI document, by operation.

They were taken from real calls; long lists and specs are cut. A test requires one for every body and every successful
answer, and validates each against its schema.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EXAMPLES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("examples.json").read_text(encoding="utf-8"))
"""operationId -> `body`, and `answers`: status -> media type -> example."""
