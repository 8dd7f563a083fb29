"""The environment service's list, as jobs, the API and the command know it."""

import pytest
from gigpo_proto.env.v1 import env_pb2

from services.contracts.environment import EnvironmentInfo


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (env_pb2.COST_CLASS_LIGHT, "light"),
        (env_pb2.COST_CLASS_MODERATE, "moderate"),
        (env_pb2.COST_CLASS_HEAVY, "heavy"),
        (env_pb2.COST_CLASS_UNSPECIFIED, None),
    ],
)
def test_a_listed_environment_keeps_every_capability(number, word):
    able = env_pb2.Capabilities(deterministic=True, thread_safe=True, cost_class=number)
    entry = env_pb2.EnvironmentInfo(
        id="coin", kwargs_schema_json='{"type": "object"}', capabilities=able, default_max_turns=7, splits=["train"]
    )
    info = EnvironmentInfo.listed(entry)
    assert (info.deterministic, info.gives_anchors, info.thread_safe) == (True, False, True)
    assert (info.cost_class, info.default_max_turns, info.splits) == (word, 7, ["train"])
    assert info.kwargs_schema == {"type": "object"}


def test_the_environment_of_a_job_stored_by_an_earlier_version_is_read():
    info = EnvironmentInfo(id="coin", vocabulary=["heads"])
    stored = info.model_dump(mode="json") | {"snapshot": True}
    assert EnvironmentInfo.model_validate(stored) == info


def test_every_cost_class_of_the_contract_has_a_word():
    for number in env_pb2.CostClass.values():
        EnvironmentInfo.listed(env_pb2.EnvironmentInfo(id="x", capabilities=env_pb2.Capabilities(cost_class=number)))
