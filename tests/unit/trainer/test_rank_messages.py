"""Rows come out of the messages to ranks as they were put in, and a conversation stays one sequence."""

from dataclasses import replace

import msgspec
from learner_cases import row

from gigpo_core import Turn
from services.contracts.guidance import pack_allowed
from services.trainer.ranks.messages import Rows, TrainBatch, decode_request


def test_rows_of_a_conversation_share_one_sequence_on_the_other_side():
    ids, allowed = (3, 4, 5, 6, 7, 8), pack_allowed([(5, 9)])
    talk = [
        replace(row(ids[:start], ids[start:stop], 0.5), turn=Turn(ids, start, stop, *guided))
        for start, stop, *guided in ((2, 3, allowed), (4, 6))
    ]
    sent = [talk[0], row((3, 4), (5,), 0.5), talk[1]]
    request = decode_request(msgspec.msgpack.encode(TrainBatch(7, Rows.of(sent), 2)))
    assert isinstance(request, TrainBatch)
    assert request.rows.turns.sequences == [ids, (3, 4, 5)]
    first, alone, second = request.rows.unpacked()
    assert [first, alone, second] == sent
    assert first.turn.ids is second.turn.ids
    assert alone.turn.ids is not first.turn.ids
