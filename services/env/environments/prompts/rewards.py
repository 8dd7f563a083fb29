"""Reward functions: each scores a reply with one number.

A plugin is a function of one `Completion`, registered by an entry point of the group `gigpo.rewards`. A job's
`reward_funcs` uses the entry point's name. A function may also be in a file that came with the job. One that returns
None abstains: it has no vote on that reply. An exception in one is a fault of the environment, never a reward.
"""

import math
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from gigpo.env.environment import KwargsError
from services.contracts.rewards import BUILT_IN_REWARDS, Rewards
from services.contracts.user_files import split_function
from services.env.environments.prompts.answers import is_right
from services.env.environments.prompts.completion import Completion, RewardFunction
from services.env.environments.prompts.judge import Judge
from services.env.environments.prompts.reward_files import file_function

ENTRY_POINT_GROUP = "gigpo.rewards"
FORMAT = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
LENGTHS = {"cosine": "cosine_max_len", "soft_overlong": "soft_max_length"}
"""The length that a reward function measures by."""
NEED_SOLUTION = frozenset({"accuracy", "cosine"})
TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def reward_functions(
    settings: Rewards, files_root: str | None = None, judges: Mapping[str, object] = MappingProxyType({})
) -> list[RewardFunction]:
    """The functions in the order of `reward_funcs`.

    Args:
        files_root: where files that came with the job lie.
        judges: addresses that the operator allows, see `Judge`.

    Raises:
        KwargsError: there is no such function, a plugin or a file can't be imported, or a length is missing
            (`Rewards.within`).
    """
    for name, setting in LENGTHS.items():
        if name in settings.reward_funcs and getattr(settings, setting) is None:
            raise KwargsError(f"{setting}: {name} needs a number of tokens, got none")
    built_in = _built_in(settings)
    if "judge" in settings.reward_funcs:
        built_in["judge"] = Judge(settings, judges)
    return [built_in.get(name) or _brought(name, files_root) for name in settings.reward_funcs]


def _brought(name: str, files_root: str | None) -> RewardFunction:
    return _plugin(name) if split_function(name) is None else file_function(name, files_root)


@cache
def _plugin(name: str) -> RewardFunction:
    """An installed one. Looked up once in a process: going through all that is installed takes 50 ms."""
    plugins = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in plugins:
        known = ", ".join(sorted({*BUILT_IN_REWARDS, *plugins}))
        raise KwargsError(f"reward_funcs: unknown reward function {name!r}; known: {known}")
    try:
        found: RewardFunction = plugins[name].load()
    except Exception as error:
        raise KwargsError(f"reward_funcs: {name} can't be imported: {error!r}") from error
    return found


def _built_in(settings: Rewards) -> dict[str, RewardFunction]:
    return {
        "accuracy": accuracy,
        "format": well_formed,
        "cosine": lambda completion: cosine(completion, settings),
        "repetition": lambda completion: repetition(completion, settings),
        "soft_overlong": lambda completion: soft_overlong(completion, settings),
    }


def accuracy(completion: Completion) -> float:
    """1 for the right answer, else 0. The prompt must have a solution."""
    assert completion.solution is not None
    return float(is_right(completion.text, completion.solution))


def well_formed(completion: Completion) -> float:
    """1 for <think>...</think><answer>...</answer> alone, each tag once; else 0. Source: arXiv:2501.12948."""
    once = all(completion.text.count(tag) == 1 for tag in TAGS)
    return float(once and FORMAT.fullmatch(completion.text) is not None)


def cosine(completion: Completion, settings: Rewards) -> float:
    """Half a cosine wave over the length: from the value of length 0 to that of `cosine_max_len` tokens and more.

    Right answers are to be short, wrong ones may be long. Source: arXiv:2502.03373, section 4.2.
    """
    limit = settings.cosine_max_len
    assert limit is not None
    if accuracy(completion):
        shortest, longest = settings.cosine_min_len_value_correct, settings.cosine_max_len_value_correct
    else:
        shortest, longest = settings.cosine_min_len_value_wrong, settings.cosine_max_len_value_wrong
    wave = math.cos(math.pi * min(completion.tokens, limit) / limit)
    return longest + (shortest - longest) * (1 + wave) / 2


def repetition(completion: Completion, settings: Rewards) -> float:
    """`repetition_max_penalty` times the share of n-grams that came before; words in lower case. Source:
    arXiv:2502.03373, appendix C.2. A reply of fewer than n words gets 0.
    """
    words, n = completion.text.lower().split(), settings.repetition_n_grams
    ngrams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return settings.repetition_max_penalty * (1 - len(set(ngrams)) / len(ngrams)) if ngrams else 0.0


def soft_overlong(completion: Completion, settings: Rewards) -> float:
    """0 up to soft_max_length - soft_cache_length tokens, then falling to -1 at soft_max_length. Source: DAPO,
    arXiv:2503.14476, equation 13.
    """
    longest, margin = settings.soft_max_length, settings.soft_cache_length
    assert longest is not None
    assert margin is not None
    return -min(max((completion.tokens - (longest - margin)) / margin, 0.0), 1.0)
