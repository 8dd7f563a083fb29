"""A request that no engine could answer is seen before one gets it."""

import msgspec
import pytest

from services.contracts import keys
from services.contracts.arrays import pack_int32
from services.contracts.messages import ContractError, GenerateItem, GenerateRequest, encode
from services.contracts.sampling import Sampling
from services.inference.consumer import request_in


def request(*choices: bytes) -> GenerateRequest:
    item = GenerateItem(item_id="e:0:0", prompt_ids=pack_int32([3, 4]), seed=7, choices=choices)
    return GenerateRequest(
        job_id="job",
        reply_to=keys.replies_stream("w"),
        items=[item],
        min_version=0,
        temperature=1.0,
        max_tokens=4,
        stop_token_ids=[1],
        deadline_unix_s=4e9,
    )


@pytest.mark.parametrize("choices", [(), (pack_int32([5, 1]), pack_int32([1]))])
def test_choices_come_as_they_were_sent(choices):
    asked = request(*choices)
    assert request_in(encode(asked)) == asked


@pytest.mark.parametrize("choice", [b"", b"abc", b"12345"])
def test_choices_that_are_no_token_ids_are_refused(choice):
    with pytest.raises(ContractError, match="choices: want int32 numbers, at least one in each"):
        request_in(encode(request(pack_int32([5, 1]), choice)))


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"top_k": -1}, "top_k, top_p, min_p: want them"),
        ({"top_p": 0.0}, "top_k, top_p, min_p: want them"),
        ({"top_p": float("nan")}, "top_k, top_p, min_p: want them"),
        ({"min_p": 1.0}, "top_k, top_p, min_p: want them"),
        ({"stop_words": ["a", ""]}, "stop_words: want texts of at least one character"),
    ],
)
def test_limits_of_sampling_that_no_engine_could_keep_are_refused(limits, sentence):
    asked = msgspec.structs.replace(request(), top_k=4, top_p=0.5, min_p=0.1, stop_words=["a"])
    assert request_in(encode(asked)).sampling == Sampling(
        1.0, 4, (1,), top_k=4, top_p=0.5, min_p=0.1, stop_words=("a",)
    )
    with pytest.raises(ContractError, match=sentence):
        request_in(encode(msgspec.structs.replace(asked, **limits)))
