"""How the tables came to be what `tables.py` says: one module a revision in `versions`, applied at start."""
