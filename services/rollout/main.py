"""A rollout worker as a process: python -m services.rollout.main. Settings: ROLLOUT_* (settings.py)."""

import asyncio

from services.contracts.service_settings import read_settings
from services.kit.lifecycle import announce, instance_name, stop_event
from services.kit.log import configure_logging
from services.kit.pulse import Work
from services.kit.redis import connect
from services.kit.side_port import NotReady, Sources, observed
from services.kit.tracing import start_tracing
from services.ledger.presence import present
from services.ledger.warnings import Warnings
from services.rollout.agents import connected_agents
from services.rollout.environments import connected_environments
from services.rollout.inference import connected_inference
from services.rollout.metrics import families
from services.rollout.service import RolloutWorker
from services.rollout.settings import Settings

MOST_SHOWN = 50
"""Environment services in the heartbeat, those with trouble first: a thousand would be 100 kB every other second."""


async def serve(settings: Settings) -> None:
    """Play groups until SIGTERM or SIGINT, then drain."""
    stop, worker = stop_event(), instance_name("rollout")
    redis = connect(settings.redis_url)
    async with (
        redis,
        connected_environments(
            settings.env_address, settings.environment_limits(), Warnings(redis, "rollout").count
        ) as environments,
        connected_inference(redis, worker, settings.inference_limits()) as inference,
        connected_agents(redis, worker) as agents,
    ):
        rollout = RolloutWorker(redis, environments, inference, settings, worker, agents=agents)

        def detail() -> dict[str, object]:
            known = sorted(environments.services(), key=lambda one: bool(one["reachable"]) and not one["draining"])
            shown = {"environment_services": known[:MOST_SHOWN], "environment_services_known": len(known)}
            return {**rollout.detail(), **shown}

        async def usable_environments() -> None:
            if not any(one["reachable"] and not one["draining"] for one in environments.services()):
                raise NotReady("no environment service answers")

        sources = Sources(
            {"redis": redis.ping, "env": usable_environments},
            stop.is_set,
            lambda: families(rollout.load(), environments.services()),
        )
        async with (
            present(redis, "rollout", worker, detail),
            observed(settings, sources, Work(lambda: rollout.turns)) as metrics,
        ):
            announce("rollout", None, settings.address_file, metrics)
            await rollout.run(stop)


def main() -> None:
    """Read the settings and play; exit status 0 after a drain."""
    settings = read_settings(Settings)
    configure_logging("rollout", settings.log_level)
    start_tracing("rollout", settings)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
