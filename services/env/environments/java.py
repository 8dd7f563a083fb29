"""Engines in Java: one JVM per worker process and jar. The worker's sessions share it and take turns in it.

A JVM is too dear to have one per session (a second and 40 MB before the first game), and one suffices: a worker takes
one step at a time, and the engines keep each game in an object of its own. It ends with its worker: it belongs to the
worker's process group, and ends by itself when its standard input closes. Only who knows its token can talk to it.
"""

import contextlib
import logging
import shutil
import subprocess
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

from services.env.environment import HomeLost, InfraFault

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
NO_JAVA = "Java, such as apt-get install default-jre-headless"


class Engine:
    """What a jar's classes are reached by.

    Args:
        jar: the engine; its folder is the JVM's working directory.
        interface: the class whose instances each play one game.
    """

    def __init__(self, jar: Path, interface: str) -> None:
        self._jar = jar
        self._interface = interface
        self._gateway: Any = None

    def new_game(self) -> "Game":
        """A game of its own. InfraFault: no JVM could be started. HomeLost: it is gone."""
        if self._gateway is None:
            self._gateway = _start(self._jar)
        gateway = self._gateway
        return Game(self, gateway, self.ask(gateway, lambda: attrgetter(self._interface)(gateway.jvm)()))

    @property
    def pid(self) -> int | None:
        """Process id of the JVM that the next game will be in, while there is one."""
        return None if self._gateway is None else int(self._gateway.java_process.pid)

    def ask(self, gateway: Any, method: Callable[..., Any], *arguments: Any) -> Any:
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
            raise HomeLost(f"the JVM of {self._jar.name} is gone: {error}") from error

    def stop(self) -> None:
        """End the JVM; games in it are lost. The next game gets another."""
        if self._gateway is not None:
            self._end(self._gateway)

    def _end(self, gateway: Any) -> None:
        if self._gateway is gateway:
            self._gateway = None
        gateway.close()
        process = gateway.java_process
        process.kill()
        process.wait()
        process.stdin.close()


class Game:
    """One game in a JVM: `game("step", "look")` calls its method `step`."""

    def __init__(self, engine: Engine, gateway: Any, interface: Any) -> None:
        self._engine = engine
        self._gateway = gateway
        self._interface = interface

    def __call__(self, method: str, *arguments: Any) -> Any:
        """What the method answers; HomeLost: the JVM is gone."""
        return self._engine.ask(self._gateway, getattr(self._interface, method), *arguments)

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


def java_is_missing() -> str:
    """What to install where there is no Java; empty: there is one."""
    return "" if shutil.which("java") else NO_JAVA


def _start(jar: Path) -> Any:
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
        raise InfraFault(f"no JVM could be started for {jar.name}; has the worker room for it? {error}") from error
    logging.getLogger("py4j").setLevel(
        logging.CRITICAL
    )  # it logs each lost connection with a trace; InfraFault says it
    parameters = GatewayParameters(port=port, auth_token=token)
    return JavaGateway(gateway_parameters=parameters, java_process=process)
