"""A language model as a reward function, asked over an OpenAI-compatible API that the operator allows."""

import os
import re
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from gigpo.env.environment import InfraFault, KwargsError
from gigpo.env.progress import allow_silence
from services.contracts.rewards import Rewards
from services.env.environments.prompts.completion import Completion

FORM = "Answer with <score>, a number from 0 to 1, and </score>."
_SCORE = re.compile(r"<score>\s*([01]?\.?\d+|[01]\.)\s*</score>")
_PAUSES_S = (0.5, 2.0, 4.0)
"""Pauses before the second attempt and later ones."""
_REPEATED = frozenset({408, 429, 500, 502, 503, 504})
_CACHED = 4_096
"""Replies recur where a policy is sure."""
_SHOWN = 200
"""Characters of a refusal that the fault's message shows."""
_spent = threading.local()
"""Tokens are counted per thread, as calls of several sessions overlap."""


def longest_s(settings: Rewards) -> float:
    """How long a judge may let one reply wait, seconds."""
    return sum(_PAUSES_S) + (1 + len(_PAUSES_S)) * settings.judge_timeout_s


def spent_tokens() -> int:
    """Tokens that the judges which this thread asked have read and written so far, as they say."""
    return int(getattr(_spent, "tokens", 0))


class Judge:
    """Scores replies from 0 to 1; abstains where the model answers with no such number.

    Args:
        settings: its `judge_` settings.
        allowed: address -> the environment variable that holds its key, "" where it wants none.

    Raises:
        KwargsError: the operator does not allow the address, or its key is missing.
    """

    def __init__(self, settings: Rewards, allowed: Mapping[str, Any]) -> None:
        url = str(settings.judge_url).rstrip("/")
        variables = {str(address).rstrip("/"): str(variable) for address, variable in allowed.items()}
        if url not in variables:
            known = ", ".join(variables) or "none is set"
            raise KwargsError(
                f"reward_funcs: judge_url: want an address that the operator allows (ENV_SERVICE_OPTIONS, "
                f"prompts.judges: {known}), got {url}"
            )
        variable = variables[url]
        if variable and variable not in os.environ:
            raise KwargsError(f"reward_funcs: judge_url: {url} wants the key in {variable}, which is not set here")
        self._asked = (url, os.environ.get(variable, ""), str(settings.judge_model), settings.judge_timeout_s)
        self._instruction = f"{settings.judge_prompt}\n{FORM}"

    def __call__(self, completion: Completion) -> float | None:
        """InfraFault: the API does not answer, or refuses."""
        reference = "" if completion.solution is None else f"\n\nReference answer:\n{completion.solution}"
        text = f"Task:\n{completion.prompt}{reference}\n\nReply:\n{completion.text}"
        answer = _answer(*self._asked, self._instruction, text)
        found = _SCORE.findall(answer)
        score = float(found[-1]) if found else -1.0
        return score if 0.0 <= score <= 1.0 else None


@lru_cache(_CACHED)  # what is raised is not kept
def _answer(url: str, key: str, model: str, timeout_s: float, instruction: str, text: str) -> str:
    messages = [{"role": "system", "content": instruction}, {"role": "user", "content": text}]
    document = {"model": model, "messages": messages, "temperature": 0}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    why = ""
    for pause_s in (0.0, *_PAUSES_S):
        with allow_silence(pause_s + timeout_s):
            time.sleep(pause_s)
            status, body = _posted(f"{url}/chat/completions", document, headers, timeout_s)
        if status == 200:
            return _content(url, body)
        why = f"status {status}: {body!s:.{_SHOWN}}" if status else str(body)
        if status and status not in _REPEATED:
            break
    raise InfraFault(f"the judge at {url} gives no answer: {why}")


def _posted(url: str, document: object, headers: Mapping[str, str], timeout_s: float) -> tuple[int, Any]:
    """Status and body; 0 and the reason where there is no answer."""
    import httpx

    try:
        answer = httpx.post(url, json=document, headers=dict(headers), timeout=timeout_s)
        return answer.status_code, answer.json() if answer.status_code == 200 else answer.text
    except (httpx.HTTPError, ValueError) as error:
        return 0, f"{type(error).__name__}: {error}"


def _content(url: str, body: Any) -> str:
    try:
        _spent.tokens = spent_tokens() + int((body.get("usage") or {}).get("total_tokens") or 0)
        return str(body["choices"][0]["message"]["content"] or "")
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InfraFault(f"the judge at {url} answers with no chat completion: {body!s:.{_SHOWN}}") from error
