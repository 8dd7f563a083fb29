"""Sessions of outside agents: episodes of a job with `interaction: outside` that a harness of your own plays."""

from __future__ import annotations

from gigpo.client.asynchronous.base import Calls
from gigpo.client.http.call import Call, get, given, reads
from gigpo.client.models import ActionResult, OpenedSession, Session


class SessionCalls(Calls):
    """Everything about sessions but their completions, which a client of OpenAI's API asks for."""

    async def open_session(self, job_id: str) -> OpenedSession:
        """Take the episode that has waited longest.

        Its `path` behind the API's address is the `base_url` for a client of OpenAI's API, and `api_key` its key.

        Raises:
            NotFound; Conflict: the job has ended, or is none for outside agents; ServerFailed: no episode is open now.
        """
        path, names = "/v1/jobs/{job_id}/sessions", {"job_id": job_id}
        return await self._perform(Call("POST", path, reads(OpenedSession), names=names, repeatable=False))

    async def session(self, session_id: str) -> Session:
        """A session, also for ten minutes after its end."""
        return await self._perform(get("/v1/sessions/{session_id}", Session, session_id=session_id))

    async def act(self, session_id: str, action: str) -> ActionResult:
        """Act in the session's environment; the reward belongs to the last completion."""
        path, names, body = "/v1/sessions/{session_id}/actions", {"session_id": session_id}, given(action=action)
        return await self._perform(Call("POST", path, reads(ActionResult), names=names, body=body, repeatable=False))

    async def close_session(self, session_id: str, *, reward: float | None = None, won: bool | None = None) -> Session:
        """End a session. Without a reward it is abandoned, and its group is played again.

        Args:
            reward: added to the last completion.
            won: None: whether the sum of the rewards is above 0.
        """
        path, names = "/v1/sessions/{session_id}/close", {"session_id": session_id}
        body = given(reward=reward, won=won)
        return await self._perform(Call("POST", path, reads(Session), names=names, body=body, repeatable=False))
