"""Pipelines name no command that redis-py refuses in the pipelines of a cluster, where MGET of one key would do."""

import re
from inspect import iscoroutinefunction
from pathlib import Path

from redis.asyncio.cluster import ClusterPipeline
from redis.cluster import PIPELINE_BLOCKED_COMMANDS

import services

REFUSED = {command.replace(" ", "_").lower() for command in PIPELINE_BLOCKED_COMMANDS}
AWAITED = {"execute", "reset", "watch", "unwatch", "discard", "initialize"}
"""Of a pipeline itself; every other method that is a coroutine, as `unlink` of a cluster's, queues nothing."""
CALL = re.compile(r"\bpipe\.(\w+)\(")


def calls() -> dict[str, set[str]]:
    """What pipelines are told to do -> the files that do so."""
    root, found = Path(services.__file__).parent, dict[str, set[str]]()
    for file in root.rglob("*.py"):
        for name in CALL.findall(file.read_text()):
            found.setdefault(name, set()).add(str(file.relative_to(root)))
    return found


def test_pipelines_use_commands_that_a_cluster_takes():
    found = calls()
    assert {"hget", "xadd", "execute"} <= found.keys()
    assert {name: files for name, files in found.items() if name in REFUSED} == {}
    coroutines = {name for name in found if iscoroutinefunction(getattr(ClusterPipeline, name))}
    assert {name: found[name] for name in coroutines - AWAITED} == {}
