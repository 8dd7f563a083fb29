"""Tools that an environment has for its agent, on the class or as kwargs decide."""

import json

import pytest

from gigpo.env.environment import Environment, EnvironmentKwargs, Observation, Outcome
from services.contracts.environment import EnvironmentInfo
from services.env.edge.translation import environment_message
from services.env.workers.description import described
from services.env.workers.episode import Episode
from services.env.workers.wanted import ContractError

ADD = {
    "name": "add",
    "description": "Adds two numbers.",
    "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
}


class Calculator(Environment):
    tools = (ADD, {"name": "stop"})

    def reset(self, seed, split):
        return Observation(text="2 + 3")

    def step(self, action):
        return Outcome(observation=Observation(text="5"))


class Chosen(Calculator):
    @property
    def tools(self):
        return [ADD] * self.kwargs.max_turns


def test_tools_of_the_class_stand_in_the_listing_and_with_each_session():
    listed = EnvironmentInfo.listed(environment_message(described("calculator", Calculator)))
    stop = {"name": "stop", "description": "", "parameters": {"type": "object", "properties": {}}}
    assert listed.tools == [ADD, stop]
    assert json.loads(Episode(Calculator(EnvironmentKwargs()), EnvironmentKwargs()).tools()) == [ADD, stop]


def test_tools_that_kwargs_decide_on_come_with_the_session_alone():
    assert EnvironmentInfo.listed(environment_message(described("chosen", Chosen))).tools == []
    kwargs = EnvironmentKwargs(max_turns=1)
    assert json.loads(Episode(Chosen(kwargs), kwargs).tools()) == [ADD]
    twice = EnvironmentKwargs(max_turns=2)
    with pytest.raises(ContractError, match="tools: want different names, got add twice"):
        Episode(Chosen(twice), twice).tools()
