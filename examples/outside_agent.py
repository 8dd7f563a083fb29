"""An agent of somebody else's, with nothing but HTTP: it plays the episodes of a job with `interaction: outside`.

    python examples/outside_agent.py URL JOB [--key KEY] [--agents 8]

URL is the API's address, JOB the id that `gigpo train` prints, KEY one with the scope `submit` where keys are wanted. A
client of OpenAI's API does the same: `OpenAI(base_url=URL + session["path"], api_key=session["api_key"])`.
"""

from __future__ import annotations

import argparse
import threading
import time
from typing import Any

import httpx

OVER = (404, 409)
"""There is no such job, or it has ended."""


def play_until_the_end(url: str, job: str, key: str | None = None) -> int:
    """Play one episode after another until the job has ended; how many."""
    played = 0
    with httpx.Client(base_url=url, timeout=300) as http:
        mine = {"Authorization": f"Bearer {key}"} if key else {}
        while True:
            opened = http.post(f"/v1/jobs/{job}/sessions", headers=mine)
            if opened.status_code in OVER:
                return played
            if opened.status_code == 503:  # none is open now
                time.sleep(0.2)
                continue
            session = opened.raise_for_status().json()
            played += play(http, session)


def play(http: httpx.Client, session: dict[str, Any]) -> bool:
    """One episode; False: its session was closed before its end."""
    headers = {"Authorization": f"Bearer {session['api_key']}"}
    shown, over = session["observation"], False
    messages = [{"role": "user", "content": f"{session['task']} {shown}"}]
    while not over:
        asked = http.post(f"{session['path']}/chat/completions", json={"messages": messages}, headers=headers)
        if asked.status_code == 410:
            return False
        reply = asked.raise_for_status().json()["choices"][0]["message"]
        acted = http.post(f"{session['path']}/actions", json={"action": reply["content"]}, headers=headers)
        if acted.status_code == 410:
            return False
        result = acted.raise_for_status().json()
        shown, over = result["observation"], result["over"]
        messages += [reply, {"role": "user", "content": shown}]
    return True


def main() -> None:
    """Play with several agents at once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("job")
    parser.add_argument("--key")
    parser.add_argument("--agents", type=int, default=8)
    options = parser.parse_args()
    agents = [
        threading.Thread(target=play_until_the_end, args=(options.url, options.job, options.key))
        for _ in range(options.agents)
    ]
    for agent in agents:
        agent.start()
    for agent in agents:
        agent.join()


if __name__ == "__main__":
    main()
