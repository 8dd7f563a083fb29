"""The revisions, each named by its number: `revision_0002_projects.py`."""
