"""A vLLM server's signs of life, for `watch.Watch`: its engine's answers, and the CPU time that its engine uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import structlog

from services.inference.vllm_process import VllmProcess
from services.inference.watch import Signs

log = structlog.get_logger("inference")

PULSE_PATH = "/inference/v1/pulse"


class VllmPulse:
    """Asks for a turn of the engine's loop, again and again.

    Args:
        dead: told the server's own word that its engine is dead.
    """

    def __init__(self, client: httpx.AsyncClient, process: VllmProcess, dead: Callable[[str], None]) -> None:
        self._client, self._process, self._dead = client, process, dead
        self._turns, self._work = 0, ""

    def signs(self) -> Signs:
        """The table of replicas now."""
        return Signs(self._turns, self._process.engine_cpu_s(), self._work)

    async def ask(self, every_s: float) -> None:
        """Ask until cancelled; the engine answers between two steps, so an answer may take long."""
        while True:
            try:
                answer = await self._client.get(PULSE_PATH)
            except httpx.HTTPError as error:  # no sign of life came; whoever waits for the process notices its end
                log.warning("vLLM does not answer", error=repr(error))
            else:
                if answer.status_code == httpx.codes.OK:
                    self._turns, self._work = self._turns + 1, answer.text
                else:
                    self._dead(f"the server says {answer.status_code}: {answer.text[:500]}")
            await asyncio.sleep(every_s)
