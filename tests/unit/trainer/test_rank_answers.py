"""The answers of a rank to requests that its learners can't fulfil."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import pytest

from services.trainer.errors import LearnerBroken, unexpected
from services.trainer.learner.ranks import ALONE
from services.trainer.ranks.answers import Learners
from services.trainer.ranks.group import RankGroup
from services.trainer.ranks.learner import asked
from services.trainer.ranks.messages import AnyAnswer, AnyRequest, Broken, BuildScratch, Probe, Refused, decode_answer
from services.trainer.ranks.process import answer
from tests.unit.trainer.learner_cases import SCRATCH


class Answering:
    """A group whose only rank is in this process."""

    learners = Learners(ALONE)

    def ask(self, request: AnyRequest) -> AnyAnswer:
        given = answer(self.learners, msgspec.msgpack.encode(request))
        return decode_answer(msgspec.msgpack.encode(given))


def test_an_unexpected_error_of_a_rank_fails_the_job_with_its_type_and_words():
    group = cast(RankGroup, Answering())
    assert isinstance(group.ask(Probe(7)), Broken)
    with pytest.raises(LearnerBroken, match="KeyError: 7") as broken:
        asked(group, Probe(7))
    assert unexpected(broken.value) == "unexpected: KeyError: 7"
    assert unexpected(ValueError("odd")) == "unexpected: ValueError: odd"


def test_a_new_policy_is_written_or_refused_by_the_ranks(tmp_path: Path):
    group = cast(RankGroup, Answering())
    document = SCRATCH.model_dump_json().encode()
    asked(group, BuildScratch(document, ["go", "north"], 0, str(tmp_path / "base")))
    assert (tmp_path / "base" / "model.safetensors").exists()
    assert isinstance(group.ask(BuildScratch(document, [], 0, str(tmp_path / "none"))), Refused)
    with pytest.raises(ValueError, match="want the words of the environment, got none"):
        asked(group, BuildScratch(document, [], 0, str(tmp_path / "none")))
