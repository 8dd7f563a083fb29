"""ALFWorld's household in text: its words, commands and six task types, in rooms that are drawn here.

`rooms` says what there is and where it belongs, `game` draws a room and a task, `engine` holds the rules, `environment`
shows them to an agent. Nothing of the alfworld package is needed. Figures of the published benchmark cannot be compared
with figures from these rooms: the rules are the same, the rooms are not.
"""
