"""The tools' client repeats a call whose answer is not there yet."""

import grpc
import pytest

from services.env.tools.local import TRIES, _answered, status_text


def refusal(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


class Called:
    """A call that answers after its refusals."""

    def __init__(self, *refusals: grpc.StatusCode) -> None:
        self.left = list(refusals)
        self.times = 0

    async def __call__(self) -> str:
        self.times += 1
        if self.left:
            raise refusal(self.left.pop(0))
        return "answer"


async def test_a_call_is_repeated_while_its_answer_is_not_there_yet():
    call = Called(*[grpc.StatusCode.DEADLINE_EXCEEDED] * (TRIES - 1))
    assert await _answered(call) == "answer"
    assert call.times == TRIES


@pytest.mark.parametrize(
    ("refusals", "times"),
    [
        ([grpc.StatusCode.DEADLINE_EXCEEDED] * TRIES, TRIES),
        ([grpc.StatusCode.INVALID_ARGUMENT], 1),
        ([grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE], 2),
    ],
)
async def test_it_is_not_repeated_for_ever_nor_for_another_reason(refusals, times):
    call = Called(*refusals)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _answered(call)
    assert raised.value.code() is refusals[-1]
    assert call.times == times


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (grpc.StatusCode.NOT_FOUND, "no environment 'nope'"),
        (grpc.StatusCode.INVALID_ARGUMENT, "no environment 'nope'"),
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE: no environment 'nope'"),
    ],
)
def test_a_refusal_is_told_without_its_code(code: grpc.StatusCode, said: str) -> None:
    nothing = grpc.aio.Metadata()
    assert status_text(grpc.aio.AioRpcError(code, nothing, nothing, details="no environment 'nope'")) == said
