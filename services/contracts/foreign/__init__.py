"""Settings of other trainers: the name of ours for each, or the reason why it has none, and the alternative."""

from services.contracts.foreign.row import Foreign
from services.contracts.foreign.table import SOURCES, Source, foreign_name, synonyms

__all__ = ["SOURCES", "Foreign", "Source", "foreign_name", "synonyms"]
