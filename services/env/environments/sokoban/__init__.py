"""Sokoban in text: push every box onto a target.

`room` holds the rules, `drawing` makes rooms by playing backwards from the solved state, `environment` shows them.
"""
