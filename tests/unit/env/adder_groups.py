"""Groups of the test's own environment, and ways to lose them."""

from services.env.sessions import errors
from services.env.sessions.service import EnvService
from services.env.workers.wire import EpisodeSpec

ADDER = EpisodeSpec("adder", "", "", 0)
UNREPLAYABLE = EpisodeSpec("adder", '{"deterministic": false}', "", 0)


async def opened(service: EnvService, spec: EpisodeSpec = ADDER, key: str = "key") -> str:
    return (await service.open_group(key, spec, 1)).leases[0]


def died(*, running: bool = True) -> errors.WorkerLostError:
    return errors.WorkerLostError("it died", running=running)


def hung() -> errors.WorkerLostError:
    return errors.WorkerLostError("it hung", running=True, hung=True)
