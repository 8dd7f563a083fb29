"""Reward functions of a file that came with the job: loaded by content, tried once, each mistake one sentence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from gigpo.env.environment import KwargsError
from services.contracts.user_files import content_hash, file_reference
from services.env.environments.prompts.environment import Prompts
from services.env.workers.registry import valid_kwargs

GOOD = "def score(completion):\n    return 0.5 * (completion.text == completion.row['word'])\n"


def kept(root: Path, name: str, content: str) -> str:
    """Put a file where the API puts it; returns its reference."""
    sha = content_hash({name: hashlib.sha256(content.encode()).hexdigest()})
    (root / sha).mkdir(parents=True, exist_ok=True)
    (root / sha / name).write_text(content)
    return file_reference(sha, name)


def opened(root: Path | None, function: str, **kwargs: object) -> Prompts:
    document = {"rewards": {"reward_funcs": [function]}, "rows": [{"prompt": "say a", "word": "a"}], **kwargs}
    if "data" in kwargs:
        del document["rows"]
    document.setdefault("split_dataset_ratio", 0)
    found = valid_kwargs(Prompts, json.dumps(document), None, str(root) if root else None)
    prompts = Prompts(found)
    prompts.reset(0, "train")
    return prompts


def test_a_function_of_a_file_scores_replies(tmp_path: Path) -> None:
    function = f"{kept(tmp_path, 'my_reward.py', GOOD)}:score"
    outcome = opened(tmp_path, function).answer("a", 1)
    assert (outcome.reward, outcome.rewards) == (0.5, (0.5,))
    assert opened(tmp_path, function).answer("b", 1).reward == 0.0


def test_a_function_may_abstain(tmp_path: Path) -> None:
    source = "def score(completion):\n    return None if not completion.text else 2.0\n"
    function = f"{kept(tmp_path, 'my_reward.py', source)}:score"
    both = {"rewards": {"reward_funcs": ["format", function], "reward_weights": [1.0, 0.5]}}
    outcome = opened(tmp_path, function, **both).answer("", 1)
    assert (outcome.reward, outcome.rewards) == (0.0, (0.0, None))
    outcome = opened(tmp_path, function, **both).answer("<think>a</think><answer>b</answer>", 1)
    assert (outcome.reward, outcome.rewards) == (2.0, (1.0, 2.0))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("def score(completion)\n    return 1\n", "my_reward.py, line 1: expected ':'"),
        ("\nimport no_such_thing\n", "my_reward.py cannot be imported: ModuleNotFoundError: No module named "
                                     "'no_such_thing' (line 2)"),
        ("raise SystemExit\n", "my_reward.py cannot be imported: SystemExit:  (line 1)"),
        ("def other(completion):\n    return 1\n", "my_reward.py has no function score; it has other"),
        ("score = 1\n", "my_reward.py has no function score; it has none"),
        ("def score(completion):\n    pass\n",
         "my_reward.py:score returns nothing, want a number, or None where it abstains"),
        ("def score(completion):\n    return '1'\n",
         "my_reward.py:score returns '1' for an empty reply, want a finite number"),
        ("def score(completion):\n    return float('nan')\n",
         "my_reward.py:score returns nan for an empty reply, want a finite number"),
        ("def score(completion):\n    x = 1\n    return 1 / 0\n",
         "my_reward.py:score fails for an empty reply: ZeroDivisionError: division by zero (line 3)"),
        ("def score(completion):\n    while True:\n        try:\n            1 / 0\n        except Exception:\n"
         "            pass\n", "my_reward.py:score computes for over 1 s on an empty reply"),
        ("def score():\n    return 1\n", "my_reward.py:score fails for an empty reply: TypeError: score() takes 0"),
    ],
)  # fmt: skip
def test_a_mistake_in_it_is_one_sentence(tmp_path: Path, source: str, sentence: str) -> None:
    with pytest.raises(KwargsError) as refused:
        opened(tmp_path, f"{kept(tmp_path, 'my_reward.py', source)}:score")
    assert str(refused.value).startswith(f"reward_funcs: {sentence}")
    assert "\n" not in str(refused.value)


def test_only_the_very_file_is_loaded(tmp_path: Path) -> None:
    reference = kept(tmp_path, "my_reward.py", GOOD)
    (tmp_path / reference.removeprefix("file:")).write_text("def score(completion):\n    return 9\n")
    with pytest.raises(KwargsError, match=r"my_reward\.py is not the file that the job was submitted with"):
        opened(tmp_path, f"{reference}:score")
    for function in (f"{file_reference('0' * 64, 'my_reward.py')}:score", "/etc/my_reward.py:score"):
        with pytest.raises(KwargsError, match=r"cannot be read|has no file of this name"):
            opened(tmp_path, function)
    with pytest.raises(KwargsError, match="has no file of this name"):
        opened(None, f"{reference}:score")


def test_data_that_came_with_the_job_is_read(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"prompt": f"say {word}", "word": word}) + "\n" for word in "ab")
    function = f"{kept(tmp_path, 'my_reward.py', GOOD)}:score"
    prompts = opened(tmp_path, function, data=kept(tmp_path, "mine.jsonl", lines))
    assert prompts.reset(1, "train").task in ("say a", "say b")
    with pytest.raises(KwargsError, match="data: no file of this content is kept here"):
        opened(tmp_path, function, data=file_reference("0" * 64, "mine.jsonl"))
    with pytest.raises(KwargsError, match="ENV_SERVICE_FILES_ROOT"):
        opened(None, "accuracy", data=file_reference("0" * 64, "mine.jsonl"))
    with pytest.raises(KwargsError, match=r"data: want one file of rows \(\.jsonl, .* got mine\.txt"):
        opened(tmp_path, function, data=kept(tmp_path, "mine.txt", "a,b\n"))
    with pytest.raises(KwargsError, match=r"mine\.jsonl, line 1 is no JSON"):
        opened(tmp_path, function, data=kept(tmp_path, "mine.jsonl", "{\n"))
