"""Sessions whose calls wait for something else, such as a server: each in a thread of its own, so that none waits for
another. All calls of a session, from its constructor to `close`, come from its one thread."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

STACK_BYTES = 1 << 20
"""Stack of one thread. The default of 8 MiB would use up a worker's address space; C code of authors wants more than
.5."""
LOOK_EVERY_S = 0.1
_starting = threading.Lock()
"""The size of stacks is set for the whole process."""


@dataclass
class Call:
    """One call under way."""

    session: int
    request: int
    due: float
    """Time when it counts as hung, by the clock of `time.monotonic`."""
    limit_s: float = 0.0
    """How long the environment itself allows it to show no life; 0: the usual time."""


class Overlap:
    """The threads of such sessions, and their calls under way.

    Args:
        usual_s: how long a call may show no life, unless it is given more; 0: for ever.
    """

    def __init__(self, usual_s: float) -> None:
        self._usual_s = usual_s
        self.threads: dict[int, SimpleQueue[Callable[[], None] | None]] = {}
        """Orders for each session's thread, by session."""
        self.calls: dict[int, Call] = {}
        """Calls under way, by request."""
        self._own = threading.local()
        self._looked_at = time.monotonic()

    def begin(self, session: int, request: int, work: Callable[[], Callable[[], None]]) -> None:
        """Have the session's thread do `work`, then what that returns, unless the call was given up meanwhile.

        RuntimeError: there can be no further thread.
        """
        if session not in self.threads:
            self.threads[session] = _started(session)
        call = self.calls[request] = Call(session, request, time.monotonic() + self._usual_s)

        def carry_out() -> None:
            self._own.call = call
            finish = work()
            self._own.call = None
            if self.calls.pop(request, None) is not None:
                finish()

        self.threads[session].put(carry_out)

    def end(self, session: int, work: Callable[[], None]) -> None:
        """Have the session's thread do `work` once its call is over, and end."""
        if (orders := self.threads.pop(session, None)) is not None:
            orders.put(work)
            orders.put(None)

    def show_life(self, unseen_s: float) -> bool:
        """The present thread's call goes on, and may show nothing for `unseen_s` seconds. False: it has none here."""
        call: Call | None = getattr(self._own, "call", None)
        if call is not None:
            call.due = time.monotonic() + max(self._usual_s, unseen_s, call.limit_s)
        return call is not None

    def allow(self, limit_s: float) -> bool:
        """The present thread's call may always show nothing for so long. False: it has none here."""
        call: Call | None = getattr(self._own, "call", None)
        if call is not None:
            call.limit_s = limit_s
        return self.show_life(0.0)

    def given_up(self) -> list[Call]:
        """The calls that hang. Their threads cannot be ended: nobody waits for them any longer."""
        now = time.monotonic()
        if not self._usual_s or now - self._looked_at < LOOK_EVERY_S:
            return []
        self._looked_at = now
        late = [call for call in list(self.calls.values()) if call.due < now]
        return [call for call in late if self.calls.pop(call.request, None) is not None]


def _started(session: int) -> "SimpleQueue[Callable[[], None] | None]":
    orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def run() -> None:
        while (order := orders.get()) is not None:
            order()

    with _starting:
        usual = threading.stack_size(STACK_BYTES)
        try:
            threading.Thread(target=run, name=f"session {session}", daemon=True).start()
        finally:
            threading.stack_size(usual)
    return orders
