"""The checks of `gigpo doctor`: each reports a state and, for a problem, how to fix it."""
