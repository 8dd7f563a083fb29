"""The login page for browsers: it takes a key and starts a session. Plain HTML, so that it needs no session itself."""

from __future__ import annotations

import html
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from services.api.http.app_parts import Parts
from services.api.security.access import LOGIN_PATH, LOGOUT_PATH
from services.api.security.sessions import COOKIE

router = APIRouter(include_in_schema=False)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>GiGPO: log in</title>
<style>
:root {{ color-scheme: light dark; font-family: system-ui, sans-serif; }}
body {{ display: grid; min-height: 100vh; margin: 0; place-items: center; }}
form {{ display: grid; gap: .75rem; width: min(22rem, 90vw); }}
input, button {{ font: inherit; padding: .6rem .75rem; border: 1px solid GrayText; border-radius: .4rem; }}
button {{ cursor: pointer; }} p {{ margin: 0; }} [role=alert] {{ color: light-dark(#b00020, #ff8a80); }}
</style></head><body><main><form method="post" action="{action}">
<h1>GiGPO</h1>{problem}<label for="key">API key</label>
<input id="key" name="key" type="password" required autofocus autocomplete="current-password" placeholder="gigpo_…">
<input type="hidden" name="next" value="{next}"><button>Log in</button>
<p><small>An administrator makes keys with <code>gigpo keys create</code>.</small></p>
</form></main></body></html>"""


@router.get(LOGIN_PATH)
async def page(parts: Parts, next: Annotated[str, Query(max_length=2_000)] = "/") -> Response:
    """The form; in an open installation there is nothing to log in to."""
    if not parts.security.keys_wanted:
        return RedirectResponse(_local(next), 303)
    return _form(next)


@router.post(LOGIN_PATH)
async def log_in(request: Request, parts: Parts) -> Response:
    """Begin a session with the form's key."""
    form = parse_qs((await request.body()).decode(errors="replace"))
    key, target = form.get("key", [""])[0].strip(), form.get("next", ["/"])[0]
    address = parts.security.address(request)
    caller = await parts.security.authenticator.by_token(key)
    if caller is None:
        await parts.security.rates.count_failure(address)
        return _form(target, "This key is unknown, expired or revoked.")
    request.state.caller = caller  # read by the audit log
    answer = RedirectResponse(_local(target), 303)
    parts.security.sessions.begin(answer, caller.key_id, secure=request.url.scheme == "https")
    return answer


@router.post(LOGOUT_PATH)
async def log_out(request: Request, parts: Parts) -> Response:
    """End the session; without one this is the way to the form."""
    answer = RedirectResponse(LOGIN_PATH, 303)
    if COOKIE in request.cookies:
        parts.security.sessions.end(answer)
    return answer


def _form(target: str, problem: str = "") -> HTMLResponse:
    alert = f'<p role="alert">{html.escape(problem)}</p>' if problem else ""
    page = _PAGE.format(action=LOGIN_PATH, problem=alert, next=html.escape(_local(target), quote=True))
    return HTMLResponse(page, 401 if problem else 200, headers={"Cache-Control": "no-store"})


def _local(target: str) -> str:
    """The target when it is a path of ours, otherwise the first page: a login must not lead to another site."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_path else "/"
