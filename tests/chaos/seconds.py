"""`python -m tests.chaos.seconds`: a second process of every service beside an embedded stack, until SIGTERM.

They share the first stack's Redis, folder and database. The second rollout worker plays in the second environment
service.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace

from services.kit.lifecycle import stop_event
from services.stack.child import ServicePlan
from services.stack.main import say
from services.stack.plan import stack_stages
from services.stack.settings import Settings
from services.stack.supervisor import Supervisor


def second(plan: ServicePlan) -> ServicePlan:
    """The plan of a second process, which writes no address where the first one's stands."""

    def variables(addresses: Mapping[str, str]) -> dict[str, str]:
        wanted = plan.variables(addresses)
        return {name: value for name, value in wanted.items() if not name.endswith("ADDRESS_FILE")}

    return replace(plan, variables=variables)


async def run(settings: Settings, redis_url: str) -> None:
    """Start, say so by a file, keep alive, stop."""
    stages = [[second(plan) for plan in stage] for stage in stack_stages(settings, None, redis_url)]
    supervisor = Supervisor(stages, settings.data_dir / "logs-2", say)
    stop = stop_event()
    await supervisor.start()
    (settings.data_dir / "seconds.json").write_text("{}")
    watching = asyncio.create_task(supervisor.watch())
    await stop.wait()
    watching.cancel()
    await supervisor.stop(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(run(Settings(), os.environ["CHAOS_REDIS_URL"]))
