"""The asynchronous client, and the source of `gigpo.client.synchronous`: edit this one, then run `make client`."""

from gigpo.client.asynchronous.client import AsyncGigpoClient

__all__ = ["AsyncGigpoClient"]
