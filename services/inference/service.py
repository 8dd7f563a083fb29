"""One replica: it chooses a job, keeps its engine on the newest policy version, and adopts requests of dead replicas.

`follow` reads the registry once and acts on it; `run` repeats that until the service stops.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
from redis.exceptions import RedisError

from services.contracts.events import cause_key
from services.contracts.policy import PolicyAck, PolicyManifest, PolicyRefusal, ReplicaStatus
from services.inference.engine import Engine, EngineError, EngineFailed, UpdateRejected, WrongWeights
from services.inference.metrics import LOAD_SECONDS, PAUSE_SECONDS
from services.inference.probe import wrong_weights
from services.inference.registry import Registry
from services.inference.sampler import Sampler
from services.kit.usage import cpu_s

log = structlog.get_logger("inference")

LOOK_AROUND_S = 1.0
"""How often the other replicas and the engine's health are looked at, seconds."""
FORGET_S = 60.0
"""How long a dead replica's stream is still watched: a worker may yet write to it, seconds."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pauses before an engine or a version that failed is tried again; they double, seconds."""
MOST_FAILURES = 5
"""Failures of an engine with one version, whatever the reasons, the last one at a start; two for one reason suffice."""


@dataclass
class _Setback:
    """A version that could not be served, and when to try it again."""

    manifest: PolicyManifest
    reason: str
    pause_s: float
    until: float
    failures: int
    """How often the engine itself failed with it, one after the other."""


@dataclass(eq=False)
class Replica:
    """The use cases of one replica.

    Args:
        engines: makers by the name that a manifest asks for.
        clock: seconds, monotonic.
    """

    name: str
    registry: Registry
    sampler: Sampler
    engines: Mapping[str, Callable[[], Engine]]
    poll_s: float = 0.05
    clock: Callable[[], float] = time.monotonic
    gpus: Callable[[PolicyManifest], int] = lambda _: 0
    """How many GPUs the engine of a version holds."""
    job_id: str | None = None
    state: str = "idle"
    served: PolicyManifest | None = None
    """The version that the engine serves now."""
    engine: Engine | None = None
    _setback: _Setback | None = None
    _proven: PolicyManifest | None = None
    """The newest version that was served: where a start with it fails, the version is not the cause."""
    _dead_since: dict[str, float] = field(default_factory=dict)
    _next_look: float = 0.0
    _cpu_s: float = 0.0
    _moving: str = ""
    """Why it left a job that goes on; it takes another one when all that it sampled for this one is answered."""

    def serves(self, job_id: str) -> bool:
        """Whether requests of the job belong here."""
        return self.job_id == job_id

    def status(self) -> ReplicaStatus:
        """The facts that routers need."""
        version = -1 if self.served is None or self.job_id is None else self.served.version
        engine = "" if self.engine is None else self.engine.name
        return ReplicaStatus(
            replica=self.name,
            job_id=self.job_id,
            version=version,
            engine=engine,
            state=self.state,
            cpu_s=self._cpu_s,
            gpus=0 if self.served is None else self.gpus(self.served),
            outstanding_tokens=self.sampler.outstanding_tokens,
        )

    async def warn(self, text: str) -> None:
        """Show a warning to the user of the job that is served; without one there is nobody to tell."""
        if self.job_id is not None:
            await self.registry.warn(self.job_id, text)

    async def engine_metrics(self) -> str:
        """The engine's own metrics; empty while there is none."""
        return "" if self.engine is None else await self.engine.metrics()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self.follow()
            if self.clock() >= self._next_look:
                self._next_look = self.clock() + LOOK_AROUND_S
                await self.look_around()
            await asyncio.sleep(self.poll_s)

    async def follow(self) -> None:
        """Take a job, leave an ended one, serve the newest version, start a broken engine again."""
        if self.job_id is None:
            if self._moving and self.sampler.outstanding:  # other weights must not continue what these began
                self.sampler.refuse_all(self._moving)
                return
            self._moving = ""
            manifest = await self.registry.neediest_job()
            if manifest is None or self._too_early(manifest):
                return
            self.job_id = manifest.job_id
            log.info("took a job", job=manifest.job_id)
        else:
            view = await self.registry.job(self.job_id)
            if not view.active:
                await self._leave(self.job_id, f"{self.job_id} is not active any more")
                return
            manifest = view.manifest
        broken = self.sampler.engine_failed.is_set()
        served = manifest == self.served and self.state == "serving" and not broken
        if manifest is None or served or self._too_early(manifest):
            return  # a job that was left and taken again is acknowledged again, though the weights are there
        await self._serve(manifest, broken=broken)

    async def look_around(self) -> None:
        """Tell the others of this replica, check the engine, adopt the requests of dead replicas, go where none is."""
        self._cpu_s = await asyncio.to_thread(cpu_s)  # reads of every process of the machine
        await self.registry.publish(self.status())
        if self.job_id is not None and await self.registry.is_spare(self.job_id):
            self._moving = f"{self.name} serves another job now"
            self.sampler.hold()
            await self._leave(self.job_id, self._moving)
            return
        if self.served is not None and self.engine is not None and not await self.engine.healthy():
            await self._lost_engine()
        for name, (status, beats) in (await self.registry.replicas()).items():
            if beats or name == self.name:
                self._dead_since.pop(name, None)
            else:
                await self._inherit(name, status)

    async def _lost_engine(self) -> None:
        log.error("the engine is not healthy", state=self.state)
        self.sampler.hold()
        if self.state == "serving":
            self.sampler.engine_failed.set()
        elif self.state == "idle":
            self.served = None  # nobody is owed anything; the next job starts it

    async def drain(self, within_s: float) -> None:
        """Answer what was taken, for at most `within_s` seconds, then end the engine and sign off."""
        self.state = "draining"
        await self.registry.publish(self.status())
        try:
            async with asyncio.timeout(within_s):
                await self.sampler.idle()
        except TimeoutError:
            log.warning("gave up on prompts in flight", prompts=self.sampler.outstanding)

    async def close(self) -> None:
        """End the engine."""
        if self.engine is not None:
            await self.engine.stop()

    async def _serve(self, manifest: PolicyManifest, *, broken: bool) -> None:
        """Bring the engine to `manifest`; where that fails, keep or restore what was served."""
        began = self.clock()
        try:
            pause_s = await self._bring_up(manifest, broken=broken)
        except WrongWeights as error:
            await self._set_back(manifest, str(error), final=True)
            await self._restore(manifest)
        except UpdateRejected as error:
            await self._set_back(manifest, str(error), final=error.final)
            if broken:
                await self._restore(manifest)
            else:
                self._resume(manifest)
        except RedisError:
            raise
        except Exception as error:  # an error that a manifest leads to is its job's trouble, not the replica's end
            if not isinstance(error, EngineFailed):
                log.exception("a version could not be served", policy_version=manifest.version)
            await self._set_back(manifest, _sentence(error), final=False, failed=True)
            await self._restore(manifest)
        else:
            self._setback = None
            await self._serving(manifest, load_s=self.clock() - began, pause_s=pause_s)

    async def _bring_up(self, manifest: PolicyManifest, *, broken: bool) -> float:
        """The pause in seconds; 0 for a start, before which nothing was sampled.

        An update that fails, or gives other weights than the version's, is followed by a start, which loads them in
        another way.
        """
        engine, setback = self.engine, self._setback
        broken = broken or (setback is not None and setback.manifest == manifest and setback.failures > 0)
        if engine is not None and engine.name == manifest.engine and not broken and self._can_update(manifest):
            pause_s = await engine.update(manifest)
            wrong = await wrong_weights(engine, manifest)
            if wrong is None:
                return pause_s
            log.error("an update gave wrong weights", policy_version=manifest.version, reason=wrong)
            broken = True
        self.sampler.hold()
        self.state = "starting"
        await self.registry.publish(self.status())
        if engine is None or engine.name != manifest.engine:
            await self._change_engine(manifest.engine)
            engine = self.engine
        elif broken:
            await self._hand_over()
            await engine.stop()  # whatever it still believes of itself
        assert engine is not None
        await engine.start(manifest)
        if (wrong := await wrong_weights(engine, manifest)) is not None:
            raise WrongWeights(wrong)
        return 0.0

    async def _hand_over(self) -> None:
        """Requests go back to the workers where another replica serves the job: a start takes long."""
        for name, status in (await self.registry.live_replicas()).items():
            if name != self.name and status.job_id == self.job_id and status.state == "serving":
                self.sampler.refuse_all(f"the engine of {self.name} failed")
                return

    async def _change_engine(self, name: str) -> None:
        if name not in self.engines:
            raise EngineFailed(f"this replica has no engine {name!r}, only {sorted(self.engines)}")
        if self.engine is not None:
            await self.engine.stop()
        self.served = None
        self.engine = self.engines[name]()

    async def _serving(self, manifest: PolicyManifest, *, load_s: float, pause_s: float) -> None:
        assert self.engine is not None
        self.served = self._proven = manifest
        self.state = "serving"
        LOAD_SECONDS.observe(load_s)
        PAUSE_SECONDS.observe(pause_s)
        self.sampler.serve(self.engine, manifest.version)
        ack = PolicyAck(
            replica=self.name,
            version=manifest.version,
            engine=self.engine.name,
            load_s=load_s,
            pause_s=pause_s,
        )
        await self.registry.acknowledge(manifest.job_id, ack)
        await self.registry.publish(self.status())
        log.info("serving", policy_version=manifest.version, load_s=round(load_s, 3), pause_s=round(pause_s, 3))

    def _resume(self, rejected: PolicyManifest) -> None:
        """`rejected` touched nothing: where the job was served before, its former version goes on."""
        former = self.served
        if former is not None and former.job_id == rejected.job_id and self.engine is not None:
            self.state = "serving"
            self.sampler.serve(self.engine, former.version)

    async def _restore(self, failed: PolicyManifest) -> None:
        """The engine broke on `failed`: start it with what it served before, so that the job goes on."""
        former = self.served
        self.sampler.hold()
        if former is None or former == failed or former.job_id != failed.job_id or self.engine is None:
            self._give_back(failed)
            return
        try:
            await self.engine.stop()
            await self.engine.start(former)
        except Exception:
            log.exception("the former version can't be served either", policy_version=former.version)
            self._give_back(failed)
        else:
            await self._serving(former, load_s=0.0, pause_s=0.0)

    def _give_back(self, failed: PolicyManifest) -> None:
        """Give the work back: this replica has no engine, nobody knows when it will have one, and another may have one
        before."""
        self.state = "starting"
        self.served = None  # the engine can't be updated any more: the next look starts one
        self.sampler.refuse_all(f"no engine of {self.name} serves version {failed.version}")

    def _can_update(self, manifest: PolicyManifest) -> bool:
        return self.served is not None and self.served.same_start(manifest)

    async def _set_back(self, manifest: PolicyManifest, reason: str, *, final: bool, failed: bool = False) -> None:
        former = self._setback if self._setback is not None and self._setback.manifest == manifest else None
        again = former is not None and cause_key(former.reason) == cause_key(reason)
        failures = failed + (0 if former is None else former.failures)
        if failed and self.state == "starting" and manifest != self._proven:
            final = final or (again and failures > 1) or failures >= MOST_FAILURES
        pause_s = FIRST_PAUSE_S if former is None else min(2 * former.pause_s, LONGEST_PAUSE_S)
        self._setback = _Setback(manifest, reason, pause_s, math.inf if final else self.clock() + pause_s, failures)
        text = f"{self.name} can't serve version {manifest.version}: {reason}"
        log.error(
            "a version can't be served", policy_version=manifest.version, reason=reason, again_in_s=pause_s, final=final
        )
        refusal = PolicyRefusal(replica=self.name, version=manifest.version, reason=reason, final=final)
        await self.registry.refuse(manifest.job_id, refusal)
        if not again:
            await self.registry.warn(manifest.job_id, text)

    def _too_early(self, manifest: PolicyManifest) -> bool:
        setback = self._setback
        return setback is not None and setback.manifest == manifest and self.clock() < setback.until

    async def _leave(self, job_id: str, why: str) -> None:
        """The job ended, or has other replicas: idle, with the engine kept warm for the next one."""
        log.info("left a job", job=job_id, why=why)
        self.job_id, self.state, self._setback = None, "idle", None
        self.sampler.refuse_all(why)
        await self.registry.leave_job(job_id)
        await self.registry.publish(self.status())

    async def _inherit(self, dead: str, status: ReplicaStatus) -> None:
        since = self._dead_since.setdefault(dead, self.clock())
        if self.state == "serving" and status.job_id == self.job_id:
            moved = await self.registry.adopt(dead)
            if moved:
                log.warning("adopted a dead replica's requests", dead=dead, requests=moved)
        if self.clock() - since > FORGET_S:
            await self.registry.forget(dead)
            del self._dead_since[dead]


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
