"""The last resort: an unexpected error becomes a problem without internal details, and a line in the log."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.stdlib import BoundLogger

from services.api.rest.problems import Problem, answer


class Defects:
    """Stands outside of the guard, whose defects it answers too, and inside of what audits answers and adds headers."""

    def __init__(self, app: ASGIApp, *, log: BoundLogger) -> None:
        self._app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception as error:
            if scope["type"] != "http" or begun:
                raise
            self._log.error("request_failed", path=scope["path"], exc_info=error)
            await answer(Problem(500, "the request failed; the log of the API has the cause"))(scope, receive, send)
