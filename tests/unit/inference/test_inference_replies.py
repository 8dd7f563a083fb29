"""Answers that fit no message together are written in several."""

from redis.asyncio import Redis

from services.contracts import messages
from services.contracts.messages import Generated, GenerateReply, decode
from services.inference.consumer import RequestConsumer
from services.inference.sampler import Sampler, SamplerLimits


def consumer() -> RequestConsumer:
    sampler = Sampler(SamplerLimits(8, 0.0))
    return RequestConsumer(Redis(), "r1", sampler, lambda _: True, max_outstanding=8)


def answers(count: int) -> list[Generated]:
    return [Generated(b"1234" * 20, b"1234" * 20, b"1234" * 20, item_id=f"item {number}") for number in range(count)]


def test_as_many_answers_as_fit_go_in_one_message(monkeypatch):
    monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", 1_500)
    left, seen = answers(16), []
    while left:
        payload, count = consumer()._reply(left)
        assert len(payload) <= 1_500
        seen += [result.item_id for result in decode(payload, GenerateReply).results]
        del left[:count]
    assert seen == [f"item {number}" for number in range(16)]


def test_an_answer_that_fits_no_message_is_refused_for_good(monkeypatch):
    monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", 250)
    payload, count = consumer()._reply(answers(2))
    (result,) = decode(payload, GenerateReply).results
    assert (count, result.item_id, result.retryable) == (1, "item 0", False)
    assert "GenerateReply: want at most 250 bytes" in result.error
