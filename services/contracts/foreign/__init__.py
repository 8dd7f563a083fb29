"""Names of other trainers' settings: which of ours each is, or why there is none and what to use instead."""

from services.contracts.foreign.row import Foreign
from services.contracts.foreign.table import SOURCES, Source, foreign_name, synonyms

__all__ = ["SOURCES", "Foreign", "Source", "foreign_name", "synonyms"]
