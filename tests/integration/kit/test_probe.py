"""scripts/probe.sh against a real side port: what it says, and that it ends only what hangs."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from services.kit.side_port import Sources, observed
from tests.integration.kit.test_side_port import Settings, well

PROBE = Path(__file__).parents[3] / "scripts/probe.sh"


def probe(port: int, *words: str) -> tuple[int, str]:
    """Exit status and stdout."""
    answer = subprocess.run(
        [PROBE, *words], env={**os.environ, "PROBE_PORT": str(port)}, capture_output=True, text=True, timeout=60
    )
    return answer.returncode, answer.stdout


async def test_it_tells_what_the_process_says_of_itself():
    stop = asyncio.Event()
    async with observed(Settings(), Sources({"redis": well}, stop.is_set)) as url:
        port = int(url.rpartition(":")[2])
        assert await asyncio.to_thread(probe, port, "/readyz") == (0, "redis: ok\n")
        stop.set()
        assert await asyncio.to_thread(probe, port, "/readyz") == (1, "draining\n")
        assert await asyncio.to_thread(probe, port, "/livez") == (0, "ok\n")
    assert await asyncio.to_thread(probe, port, "/livez") == (1, "nobody listens\n")


async def test_it_ends_what_hangs_and_only_that(tmp_path: Path):
    pulse = tmp_path / "pulse"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as service:
        async with observed(Settings(), Sources({}, lambda: False)) as url:
            port = int(url.rpartition(":")[2])
            assert (await asyncio.to_thread(probe, port, "/livez", str(pulse)))[0] == 0  # it has not started yet
            pulse.write_text(str(service.pid))
            assert (await asyncio.to_thread(probe, port, "/livez", str(pulse)))[0] == 0
            long_ago = time.time() - 1_000
            os.utime(pulse, (long_ago, long_ago))
            assert service.poll() is None
            service.send_signal(signal.SIGSTOP)
            assert (await asyncio.to_thread(probe, port, "/livez", str(pulse)))[0] == 1
        assert service.wait(30) == -signal.SIGKILL
