"""ALFWorld's household in text: its words, commands, rules and six task types.

`game` is one task in one room. It is drawn by `generator` in a room of the official floor plans (`floor_plans`,
`assignment`), or read from the published data set by `published`. `engine` holds the rules, `environment` shows them to
an agent; `real` and `real_environment` do so with ALFWorld's own engine, for which `pddl` writes our games. Figures of
the published benchmark can be compared with figures from its own games only: generated games have the same rules, rooms
and words, but other positions of things.
"""
