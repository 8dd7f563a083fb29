"""Where the API listens."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from services.api.main import _listener
from services.api.settings import Settings


def settings(port: int, *, optional: bool) -> Settings:
    return Settings(redis_url="redis://x", data_dir=Path("/tmp"), env_address="x:1", port=port, port_optional=optional)


def test_a_taken_port_is_replaced_only_where_any_will_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _listener(settings(port, optional=True)) as other:
            assert other.getsockname()[1] not in (0, port)
        with pytest.raises(OSError, match="in use"):
            _listener(settings(port, optional=False))
    with _listener(settings(port, optional=True)) as wanted:
        assert wanted.getsockname() == ("127.0.0.1", port)
