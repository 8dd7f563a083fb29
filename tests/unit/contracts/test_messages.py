"""Messages and arrays on the streams."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts import watching
from services.contracts.arrays import (
    pack_float32,
    pack_float64,
    pack_int32,
    pack_int64,
    unpack_float32,
    unpack_float64,
    unpack_int32,
    unpack_int64,
)
from services.contracts.messages import (
    MAX_MESSAGE_BYTES,
    CompleteGroup,
    ContractError,
    Episode,
    Generated,
    GenerateItem,
    GenerateReply,
    GenerateRequest,
    JobEvent,
    MessageTooLarge,
    OpenedGroup,
    ScoredGroup,
    Step,
    decode,
    encode,
)

STEP = Step(
    step_index=0, prompt_ids=b"p", response_ids=b"r", logprobs=b"l", versions=b"v", reward=0.5, anchor_key=b"a" * 16,
    state_key=b"s" * 16, anchor="at 1 .", action="go", action_valid=True,
)  # fmt: skip
MESSAGES = [
    OpenedGroup(
        job_id="j", group_id="g", purpose="train", cursor=3, task_seed=7, split="train", n=8, min_version=2,
        environment_kwargs={"size": [3, 4], "practice": True, "deep": {"x": None}},
    ),
    Episode(
        group_id="g", episode_id="g/0", k=0, attempt=1, task="put apple in box", steps=[STEP, STEP], won=True,
        score=1.0, terminated=True, truncated=False, worker="w",
    ),
    CompleteGroup(job_id="j", group_id="g", purpose="eval", cursor=0),
    ScoredGroup(
        group_id="g", purpose="train", cursor=0, advantage=b"a", episode_advantage=b"e", step_advantage=b"s",
        step_return=b"r", step_group=b"g", episodes_sha="ff", diagnostics={"groups": 2.0},
    ),
    GenerateRequest(
        job_id="j", reply_to="s", items=[GenerateItem(item_id="i", prompt_ids=b"p", seed=1)], min_version=0,
        temperature=1.0, max_tokens=8, stop_token_ids=[1], deadline_unix_s=1e9,
    ),
    GenerateReply(replica="r", results=[Generated.refusal("i", "no", retryable=False)]),
    JobEvent(kind="metrics", at_unix_s=1.5, data={"success": 0.5, "list": [1, "a", None]}),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was_and_always_as_the_same_bytes(message):
    payload = encode(message)
    assert decode(payload, type(message)) == message
    assert encode(decode(payload, type(message))) == payload


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"{}", encode(MESSAGES[2])[:-1], b"\x80"])
def test_bytes_that_are_no_message_are_refused_by_kind_and_length(payload):
    with pytest.raises(ContractError, match=rf"want a CompleteGroup, got {len(payload)} bytes"):
        decode(payload, CompleteGroup)


def test_a_message_of_another_kind_is_refused():
    with pytest.raises(ContractError, match="want a Episode"):
        decode(encode(MESSAGES[0]), Episode)


@pytest.mark.parametrize("schema", [1, 99])
def test_what_is_nested_too_deep_is_refused_as_a_message(schema: int):
    """msgspec raises RecursionError, which is no ContractError."""
    deep = b"\x82\xa6schema" + bytes([schema]) + b"\xa4data" + b"\x91" * 100_000
    with pytest.raises(ContractError):
        decode(deep, JobEvent)


def test_a_step_that_is_nested_too_deep_is_refused():
    with pytest.raises(ContractError):
        watching.decoded(b'{"kind":"step","x":' + b"[" * 100_000)


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_integers_come_back_from_four_little_endian_bytes_each(values):
    packed = pack_int32(values)
    assert packed == b"".join(value.to_bytes(4, "little", signed=True) for value in values)
    assert unpack_int32(packed) == values


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_labels_come_back_from_eight_little_endian_bytes_each(values):
    packed = pack_int64(values)
    assert packed == b"".join(value.to_bytes(8, "little", signed=True) for value in values)
    assert unpack_int64(packed) == values


def same(left, right):
    assert len(left) == len(right)
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(left, right, strict=True))


@given(st.lists(st.floats(width=32)))
def test_numbers_come_back_from_float32(values):
    assert same(values, unpack_float32(pack_float32(values)))


@given(st.lists(st.floats()))
def test_numbers_come_back_from_float64(values):
    packed = pack_float64(values)
    assert packed == struct.pack(f"<{len(values)}d", *values)
    assert same(values, unpack_float64(packed))


def test_numbers_are_rounded_to_float32():
    assert unpack_float32(pack_float32([0.1])) == [0.10000000149011612]


def test_what_does_not_fit_is_refused():
    with pytest.raises(OverflowError):
        pack_int32([2**31])
    with pytest.raises(OverflowError):
        pack_int64([2**63])
    for unpack in (unpack_int32, unpack_float32, unpack_int64, unpack_float64):
        with pytest.raises(ValueError, match="length"):
            unpack(b"12345")


def test_a_message_that_is_too_large_is_neither_written_nor_read():
    def message(size: int) -> CompleteGroup:
        return CompleteGroup(job_id="j", group_id="g" * size, purpose="train", cursor=0)

    room = MAX_MESSAGE_BYTES - len(encode(message(2**17))) + 2**17
    assert len(encode(message(room))) == MAX_MESSAGE_BYTES
    sizes = f"CompleteGroup: want at most {MAX_MESSAGE_BYTES} bytes, got {MAX_MESSAGE_BYTES + 1}"
    with pytest.raises(MessageTooLarge, match=sizes):
        encode(message(room + 1))
    with pytest.raises(MessageTooLarge, match=sizes):
        decode(b"\xc1" * (MAX_MESSAGE_BYTES + 1), CompleteGroup)
