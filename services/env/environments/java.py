"""Engines in Java: one JVM per worker process and jar. The worker's sessions share it and take turns in it.

One JVM per session would cost too much (a second and 40 MB before the first game), and one JVM is enough: a worker
takes one step at a time, and the engines keep each game in its own object. The JVM ends with its worker: it belongs to
the worker's process group, and exits when its standard input closes. Calls to it need its secret token.
"""

import contextlib
import logging
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from gigpo.env.environment import Capabilities, CostClass, Environment, HomeLost, InfraFault

if TYPE_CHECKING:
    from py4j.java_gateway import JavaGateway, JavaObject

T = TypeVar("T")

OPTIONS = (
    "-Xmx768m",
    "-Xss1m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:ReservedCodeCacheSize=64m",
    "-XX:CompressedClassSpaceSize=64m",
    "-XX:-UsePerfData",
    "-XX:+UnlockExperimentalVMOptions",
    "-XX:hashCode=2",
)
"""Reserve little: the worker's limit on address space holds for its JVM too. Without them it reserves more than the
default limit of 4 GiB; with them it stays below 2.2 GiB. UsePerfData would leave files in /tmp. With one hash code for
all objects, sets of objects have one order in every JVM: ScienceWorld tells things in that order."""
ENDS_WITHIN_S = 2.0
MOST_KEPT = 64
"""Games that wait for a later session, in one JVM."""
NO_JAVA = "Java, such as apt-get install default-jre-headless"


class Engine:
    """The JVM's gateway to a jar's classes.

    Args:
        package: the module that the jar lies beside; its folder is the JVM's working directory.
        jar: the jar's name.
        interface: the class whose instances each play one game.
    """

    def __init__(self, package: str, jar: str, interface: str) -> None:
        self._package = package
        self._jar = jar
        self._interface = interface
        self._gateway: JavaGateway | None = None
        self._kept: dict[str, list[Game]] = defaultdict(list)

    def new_game(self) -> "Game":
        """A game of its own. InfraFault: no JVM could be started. HomeLost: it is gone."""
        if self._gateway is None:
            self._gateway = _start(Path(str(import_module(self._package).__file__)).with_name(self._jar))
        gateway = self._gateway
        return Game(self, gateway, self.ask(gateway, lambda: attrgetter(self._interface)(gateway.jvm)()))

    def kept_game(self, name: str) -> "Game | None":
        """One that an earlier session left under this name (`Game.keep`); None where there is none."""
        kept = self._kept[name]
        return kept.pop() if kept else None

    @property
    def pid(self) -> int | None:
        """Process id of the JVM that the next game will be in, while there is one."""
        return None if self._gateway is None else int(self._gateway.java_process.pid)

    def ask(self, gateway: "JavaGateway", method: Callable[..., T], *arguments: object) -> T:
        """The method's answer. HomeLost: the JVM is gone; the next game gets another."""
        from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError

        try:
            return method(*arguments)
        except Py4JJavaError:
            raise  # the engine's own, so it lives
        except (Py4JError, OSError) as error:
            # py4j hides a connection that is lost within a call behind a plain Py4JError
            if not isinstance(error, Py4JNetworkError | OSError) and not _ends(gateway.java_process):
                raise
            self._end(gateway)
            raise HomeLost(f"the JVM of {self._jar} is gone: {error}") from error

    def keep(self, name: str, game: "Game", gateway: "JavaGateway") -> bool:
        """Hold a game ready, unless its JVM is gone or there are enough; whether it is held."""
        if gateway is not self._gateway or sum(map(len, self._kept.values())) >= MOST_KEPT:
            return False
        self._kept[name].append(game)
        return True

    def stop(self) -> None:
        """End the JVM; games in it are lost. The next game gets another."""
        if self._gateway is not None:
            self._end(self._gateway)

    def _end(self, gateway: "JavaGateway") -> None:
        if self._gateway is gateway:
            self._gateway = None
            self._kept.clear()
        gateway.close()
        process = gateway.java_process
        process.kill()
        process.wait()
        process.stdin.close()


class Game:
    """One game in a JVM: `game("step", "look")` calls its method `step`."""

    def __init__(self, engine: Engine, gateway: "JavaGateway", interface: "JavaObject") -> None:
        self._engine = engine
        self._gateway = gateway
        self._interface = interface
        self._sound = True

    def __call__(self, method: str, *arguments: object) -> Any:
        """The method's answer; HomeLost: the JVM is gone."""
        sound, self._sound = self._sound, False
        answer = self._engine.ask(self._gateway, getattr(self._interface, method), *arguments)
        self._sound = sound
        return answer

    def keep(self, name: str) -> None:
        """Leave it to a later session, which finds it under this name. One that failed before is closed instead."""
        if not (self._sound and self._engine.keep(name, self, self._gateway)):
            self.close()

    def close(self) -> None:
        """Let the JVM forget it; fine where it is gone."""
        with contextlib.suppress(HomeLost):
            self._engine.ask(self._gateway, self._gateway.detach, self._interface)


def _ends(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it has ended, or does so at once: its sockets close before it is gone."""
    try:
        process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        return False
    return True


class JavaEnvironment(Environment):
    """An environment that a jar plays: each session is a game in its worker's JVM."""

    engine: ClassVar[Engine]
    """This process's own; its JVM starts with the first game."""
    capabilities = Capabilities(thread_safe=False, cost_class=CostClass.HEAVY)
    splits = ("train", "dev", "test")
    _game: Game | None = None

    @property
    def game(self) -> Game:
        """The game that `reset` started."""
        assert self._game is not None
        return self._game

    def close(self) -> None:
        if self._game is not None:
            self.leave(self._game)
            self._game = None

    def leave(self, game: Game) -> None:
        """The fate of the game when its session ends."""
        game.close()

    @classmethod
    def unavailable_reason(cls) -> str:
        return "" if shutil.which("java") else NO_JAVA


def _start(jar: Path) -> "JavaGateway":
    from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
    from py4j.protocol import Py4JError

    try:
        port, token, process = launch_gateway(
            classpath=str(jar),
            cwd=str(jar.parent),
            javaopts=list(OPTIONS),
            die_on_exit=True,
            return_proc=True,
            enable_auth=True,
        )
    except (Py4JError, OSError, ValueError) as error:
        raise InfraFault(f"no JVM could be started for {jar.name}; the worker may lack memory: {error}") from error
    logging.getLogger("py4j").setLevel(
        logging.CRITICAL
    )  # it logs each lost connection with a trace; InfraFault says it
    parameters = GatewayParameters(port=port, auth_token=token)
    return JavaGateway(gateway_parameters=parameters, java_process=process)
