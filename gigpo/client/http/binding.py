"""Binds a flow to a client: the same definition is a plain call on GigpoClient and a coroutine on AsyncGigpoClient."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from gigpo.client.http.flow import Flow, Source

if TYPE_CHECKING:
    from gigpo.client.asynchronous import AsyncGigpoClient
    from gigpo.client.synchronous import GigpoClient

P = ParamSpec("P")
T = TypeVar("T")


def _without_self(make: Callable[..., Any]) -> inspect.Signature:
    """What `help` shows of the bound call."""
    signature = inspect.signature(make)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


class endpoint(Generic[P, T]):
    """A call that has one value: `T` of a GigpoClient, awaitable of an AsyncGigpoClient."""

    def __init__(self, make: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self._make, self._signature = make, _without_self(make)
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: GigpoClient, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncGigpoClient, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: GigpoClient | AsyncGigpoClient | None, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self._make)
        def bound(*arguments: P.args, **options: P.kwargs) -> Any:
            return client.run_flow(self._make(client, *arguments, **options))

        bound.__signature__ = self._signature  # type: ignore[attr-defined]
        return bound


class source(Generic[P, T]):
    """A call that has many values, one after the other: an iterator, or an async iterator."""

    def __init__(self, make: Callable[Concatenate[Any, P], Source[T]]) -> None:
        self._make, self._signature = make, _without_self(make)
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: GigpoClient, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: AsyncGigpoClient, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: GigpoClient | AsyncGigpoClient | None, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self._make)
        def bound(*arguments: P.args, **options: P.kwargs) -> Any:
            return client.run_source(self._make(client, *arguments, **options))

        bound.__signature__ = self._signature  # type: ignore[attr-defined]
        return bound
