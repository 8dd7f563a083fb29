"""A policy that can never fit is refused before its optimizer takes the machine's memory."""

from pathlib import Path

import pytest
from learner_cases import SCRATCH, job_spec, scratch_folder

from services.contracts.learner_memory import Decoder, RankCount
from services.kit.memory import main_memory
from services.trainer.learner.errors import LearnerError
from services.trainer.learner.fitting import check_memory, decoder_of
from services.trainer.learner.policy import load_policy


def test_a_policy_is_refused_where_its_states_alone_exceed_what_a_rank_has(tmp_path: Path) -> None:
    model = load_policy(scratch_folder(tmp_path / "base"))
    check_memory(job_spec(), model, RankCount(), model.num_parameters())
    many = main_memory()[0] // 16 + 1  # float32 weights, gradients and two moments
    with pytest.raises(LearnerError, match=r"need .* GB of .*memory on each of 1 ranks, want at most"):
        check_memory(job_spec(), model, RankCount(), max(many, 10**11))
    check_memory(job_spec(tuner_type="lora"), model, RankCount(), many // 2)


def test_the_sizes_are_those_of_the_config(tmp_path: Path) -> None:
    model = load_policy(scratch_folder(tmp_path / "base"))
    wanted = Decoder(7, SCRATCH.hidden_size, SCRATCH.intermediate_size, 2, 15, SCRATCH.hidden_size)
    assert decoder_of(model, 7) == wanted
