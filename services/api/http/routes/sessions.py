"""Outside agents: open a session, ask the policy by OpenAI's chat completions, act, close."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.responses import Response, StreamingResponse

from services.api.http.app_parts import Parts
from services.api.http.event_streams import MEDIA_TYPE, stream_content
from services.api.http.openai_chat import asked, chunks, completion
from services.api.http.routes.parameters import FoundJob
from services.api.jobs import agents
from services.api.rest.caller import Asking
from services.api.rest.problems import Problem, responses
from services.api.security.access import is_safe
from services.contracts.agents import End, SessionRecord
from services.contracts.rest.access import Scope
from services.contracts.rest.sessions import (
    ActionRequest,
    ActionResult,
    ChatCompletion,
    ChatRequest,
    CloseRequest,
    ModelEntry,
    ModelList,
    OpenedSession,
    SessionView,
)

router = APIRouter(tags=["sessions"])

SessionId = Annotated[str, Path(pattern=r"^j[0-9a-f]{1,31}\.[0-9a-f]{1,32}$", description="Id of the session.")]
RetryCount = Annotated[
    int,
    Header(
        alias="x-stainless-retry-count",
        ge=0,
        le=1_000,
        description="Above 0, the request before it, which is equal, got no answer: this one gets that answer.",
    ),
]


async def _found(session_id: SessionId, parts: Parts, caller: Asking, request: Request) -> SessionRecord:
    if caller.session_key is None:
        scope = Scope.READ if is_safe(request.method) else Scope.SUBMIT
        if not caller.may(scope):
            raise Problem(403, f"want a key with the scope {scope}, or the session's own")
    try:
        return await agents.find_session(parts.database, parts.agent_calls, caller, session_id)
    except Problem:
        if caller.session_key is not None:
            await parts.security.rates.count_failure(parts.security.address(request))
        raise


Found = Annotated[SessionRecord, Depends(_found)]


@router.post("/v1/jobs/{job_id}/sessions", status_code=201, responses=responses(404, 409, 503))
async def open_session(job: FoundJob, parts: Parts) -> OpenedSession:
    """Take an episode of a job with `interaction: outside`, the one that has waited longest.

    `path`, behind the API's address, is the `base_url` for a client of OpenAI's API, and `api_key` its key.
    """
    return await agents.open_session(parts.redis, parts.agent_calls, job)


@router.get("/v1/sessions/{session_id}", responses=responses(404))
async def show_session(session: Found) -> SessionView:
    """A session; for ten minutes after its end."""
    return agents.view_of(session)


@router.post(
    "/v1/sessions/{session_id}/chat/completions",
    response_model=ChatCompletion,
    responses={**responses(404, 410), 200: {"content": stream_content()}},
)
async def complete_chat(
    session: Found, wanted: ChatRequest, parts: Parts, retry_count: RetryCount = 0
) -> ChatCompletion | Response:
    """A reply of the policy's, as OpenAI's API has it. Its tokens are recorded as they were sampled, and trained."""
    said = await agents.complete(parts.agent_calls, session, asked(wanted, repeated=retry_count > 0))
    whole = completion(session, said)
    if not wanted.stream:
        return whole
    usage = wanted.stream_options is not None and wanted.stream_options.include_usage
    return StreamingResponse(chunks(whole, usage=usage), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})


@router.post("/v1/sessions/{session_id}/actions", responses=responses(404, 409, 410))
async def act_in_session(session: Found, wanted: ActionRequest, parts: Parts) -> ActionResult:
    """Act in the session's environment. The reward belongs to the last completion."""
    acted = await agents.act(parts.agent_calls, session, wanted.action)
    return ActionResult(
        observation=acted.observation,
        admissible_actions=acted.admissible_actions,
        reward=acted.reward,
        action_valid=acted.action_valid,
        over=acted.over,
    )


@router.post("/v1/sessions/{session_id}/close", responses=responses(404, 409, 410))
async def close_session(session: Found, wanted: CloseRequest, parts: Parts) -> SessionView:
    """End a session with its reward. Without one it is abandoned, and its group is played again."""
    return await agents.close(parts.agent_calls, session, End(reward=wanted.reward, won=wanted.won))


@router.get("/v1/sessions/{session_id}/models", responses=responses(404))
async def list_session_models(session: Found) -> ModelList:
    """The job's policy as the one model, for clients of OpenAI's API that ask."""
    return ModelList(data=[ModelEntry(id=session.job_id)])
