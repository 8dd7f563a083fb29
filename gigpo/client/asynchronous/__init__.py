"""The client that is awaited, and the source of `gigpo.client.synchronous`: change it here, then `make client`."""

from gigpo.client.asynchronous.client import AsyncGigpoClient

__all__ = ["AsyncGigpoClient"]
