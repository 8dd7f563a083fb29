"""The names for authors of environments: `from gigpo.env import Environment, Observation, Outcome`."""

from gigpo.env.data import read_json, read_jsonl
from gigpo.env.environment import (
    Capabilities,
    CostClass,
    Environment,
    EnvironmentKwargs,
    InfraFault,
    KwargsError,
    ModelFault,
    Observation,
    Outcome,
)
from gigpo.env.progress import allow_silence, report_each

__all__ = [
    "Capabilities",
    "CostClass",
    "Environment",
    "EnvironmentKwargs",
    "InfraFault",
    "KwargsError",
    "ModelFault",
    "Observation",
    "Outcome",
    "allow_silence",
    "read_json",
    "read_jsonl",
    "report_each",
]
