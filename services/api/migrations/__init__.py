"""How the tables came to be what `services.api.tables` says: one module a revision in `versions`, applied at start."""
