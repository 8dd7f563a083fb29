"""Migrations to the tables in `tables.py`: one module per revision in `versions`, applied at start."""
