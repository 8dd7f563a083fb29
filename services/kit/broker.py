"""Celery's settings for a Redis address."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote

from services.kit.redis_address import RedisAddress, parse_address


def broker_settings(url: str, **transport_options: object) -> dict[str, Any]:
    """`broker_url`, and what goes with it: `broker_use_ssl`, `broker_transport_options`. Raises ValueError."""
    address = parse_address(url)
    if address.kind == "cluster":
        raise ValueError("want a server or a master that Sentinel knows as Celery's broker, got a cluster")
    scheme, path = ("sentinel", "0") if address.kind == "sentinel" else ("redis", str(address.database))
    login = ":".join(quote(part or "", safe="") for part in (address.username, address.password))
    at = f"{login}@" if address.login else ""
    found: dict[str, Any] = {
        "broker_url": ";".join(f"{scheme}://{at}{_place(host)}:{port}/{path}" for host, port in address.hosts),
        "broker_transport_options": transport_options,
    }
    if address.kind == "sentinel":
        options = {**address.sentinel, **({"ssl": True, **_tls(address)} if address.tls else {})}
        found["broker_transport_options"] |= {"master_name": address.master, "sentinel_kwargs": options}
    if address.tls:
        found["broker_use_ssl"] = _tls(address)
    return found


def _tls(address: RedisAddress) -> dict[str, Any]:
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, **address.files}


def _place(host: str) -> str:
    return f"[{host}]" if ":" in host else host
