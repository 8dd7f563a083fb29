"""A judge is asked over HTTP: retries, faults that are nobody's reward, a cache, and what it costs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gigpo.env.environment import InfraFault, KwargsError
from services.contracts.rewards import Rewards
from services.env.environments.prompts import judge
from services.env.environments.prompts.completion import Completion
from services.env.environments.prompts.environment import Prompts, PromptsKwargs
from services.env.environments.prompts.judge import Judge, spent_tokens


class Api(ThreadingHTTPServer):
    """An OpenAI-compatible API that answers as the test wants."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, object]] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def says(self, *texts: str) -> None:
        usage = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
        self.answers += [(200, {"choices": [{"message": {"content": text}}], "usage": usage}) for text in texts]


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers["Authorization"])
        status, body = self.server.answers.pop(0) if self.path == "/v1/chat/completions" else (404, "no such path")
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(judge, "_PAUSES_S", (0.0, 0.0, 0.0))
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def settings(api: Api, **more: object) -> Rewards:
    given = {"judge_url": api.url, "judge_model": "grader", "judge_prompt": "Is it kind?", **more}
    return Rewards.model_validate({"reward_funcs": ["judge"], **given})


def asked(api: Api, reply: str = "hello", **more: object) -> float | None:
    return Judge(settings(api, **more), {f"{api.url}/": ""})(Completion(reply, 1, "say hello", "hi"))


def test_a_reply_is_scored_once_and_its_tokens_are_counted(api: Api) -> None:
    api.says("It is kind. <score>0.75</score>")
    before = spent_tokens()
    assert [asked(api), asked(api)] == [0.75, 0.75]
    assert spent_tokens() - before == 42
    (request,) = api.asked
    assert (request["model"], request["temperature"]) == ("grader", 0)
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert request["messages"][0]["content"].startswith("Is it kind?\n")
    assert request["messages"][1]["content"] == "Task:\nsay hello\n\nReference answer:\nhi\n\nReply:\nhello"
    assert api.keys == [None]


@pytest.mark.parametrize("text", ["I cannot say.", "<score>7</score>", "<score></score>", ""])
def test_a_judge_without_a_score_abstains(api: Api, text: str) -> None:
    api.says(text)
    assert asked(api) is None


@pytest.mark.parametrize(
    ("text", "score"),
    [("<score>1</score>", 1.0), ("<score> .5 </score>", 0.5), ("<score>0.2</score> no: <score>0</score>", 0.0)],
)
def test_the_last_score_counts(api: Api, text: str, score: float) -> None:
    api.says(text)
    assert asked(api) == score


def test_a_busy_judge_is_asked_again(api: Api) -> None:
    api.answers = [(503, "busy"), (429, "slower")]
    api.says("<score>1</score>")
    assert asked(api) == 1.0
    assert len(api.asked) == 3


def test_a_judge_that_does_not_answer_is_nobodys_reward(api: Api) -> None:
    api.answers = [(503, "busy")] * 4
    with pytest.raises(InfraFault, match=r"the judge at http.* gives no answer: status 503: .*busy"):
        asked(api)
    api.answers = [(401, "no such key")]
    with pytest.raises(InfraFault, match="status 401"):
        asked(api)
    api.answers = [(200, {"error": "none"})]
    with pytest.raises(InfraFault, match="answers with no chat completion"):
        asked(api)
    assert len(api.asked) == 6
    api.server_close()
    with pytest.raises(InfraFault, match="ConnectError"):
        asked(api)


def test_the_operator_says_which_addresses_are_asked_and_holds_their_keys(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KwargsError, match=r"judge_url: want an address that the operator allows .*none is set\), got"):
        Judge(settings(api), {})
    with pytest.raises(KwargsError, match="wants the key in JUDGE_KEY, which is not set here"):
        Judge(settings(api), {api.url: "JUDGE_KEY"})
    monkeypatch.setenv("JUDGE_KEY", "secret")
    api.says("<score>1</score>")
    assert Judge(settings(api), {api.url: "JUDGE_KEY"})(Completion("a", 1, "b")) == 1.0
    assert api.keys == ["Bearer secret"]


def test_an_episode_knows_what_its_judge_has_cost(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prompts, "options", {"judges": {api.url: ""}})
    api.says("<score>0.5</score>", "no idea")
    both = settings(api).model_copy(update={"reward_funcs": ["format", "judge"], "reward_weights": [1.0, 2.0]})
    rows = ({"prompt": "be kind", "solution": "x"},)
    prompts = Prompts(PromptsKwargs(rows=rows, split_dataset_ratio=0, rewards=both))
    prompts.reset(0, "train")
    outcome = prompts.answer("one", 1)
    assert (outcome.reward, outcome.rewards, outcome.judge_tokens) == (1.0, (0.0, 0.5), 42)
    outcome = prompts.answer("two", 1)
    assert (outcome.reward, outcome.rewards, outcome.judge_tokens) == (0.0, (0.0, None), 42)


async def test_replies_of_one_worker_are_judged_side_by_side(served: Any) -> None:
    """Each answer waits until every reply is asked about."""
    asked = threading.Barrier(3)

    class Together(Handler):
        def do_POST(self) -> None:
            try:
                asked.wait(60)
            except threading.BrokenBarrierError:
                self.server.answers.clear()
            super().do_POST()

    with Api() as api:
        api.RequestHandlerClass = Together  # type: ignore[assignment]
        api.says(*["<score>1</score>"] * 3)
        thread = threading.Thread(target=api.serve_forever)
        thread.start()
        try:
            caller = await served(workers=1, options={"prompts": {"judges": {api.url: ""}}})
            rewards = settings(api).model_dump(mode="json", exclude_none=True, exclude_unset=True)
            leases = await caller.open("prompts", n=3, kwargs_json=json.dumps({"rewards": rewards}))
            results = await caller.batch(*((lease, 1, f"reply {place}") for place, lease in enumerate(leases)))
            assert [one.outcome.reward for one in results] == [1.0] * 3
            assert sorted(one.outcome.judge_tokens for one in results) == [42] * 3
        finally:
            api.shutdown()
            thread.join()
