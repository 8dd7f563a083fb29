"""The synchronous client. `make client` generates it from `gigpo.client.asynchronous`: edit that one."""

from gigpo.client.synchronous.client import GigpoClient

__all__ = ["GigpoClient"]
