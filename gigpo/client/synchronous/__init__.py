"""The client that waits. Generated from `gigpo.client.asynchronous` by `make client`: change that one."""

from gigpo.client.synchronous.client import GigpoClient

__all__ = ["GigpoClient"]
