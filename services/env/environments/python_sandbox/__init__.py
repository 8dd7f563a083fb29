"""Tasks that an agent solves by running Python in a process of its own, which reaches nothing.

environment.py: the tasks and tools. sandbox.py: one run, seen from the worker. runner.py: the process of that run.
"""
