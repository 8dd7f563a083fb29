"""Which tasks are for testing only, where nothing else says it."""

from hashlib import blake2b


def in_test_split(task: str) -> bool:
    """Whether what names a task belongs to the test split: about one in six, the same ones everywhere."""
    return blake2b(task.encode(), digest_size=8).digest()[0] % 6 == 0
