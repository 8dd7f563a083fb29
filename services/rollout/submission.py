"""Whether the policy in a folder can be played by a job: asked at submission, before anything is opened.

The very code that will play the job reads the folder and writes a prompt, so what passes here passes there.
"""

from __future__ import annotations

from pathlib import Path

from services.contracts.arrays import unpack_int32
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.rollout.errors import AttemptFailed, PromptTooLong, TokenizerError
from services.rollout.playbook import Playbook, make_playbook
from services.rollout.templates import Scene
from services.rollout.tokens import PolicyTokens, load_tokens

MODEL = "model.model"


def playing_problems(
    folder: Path, spec: JobSpec, environment: EnvironmentInfo, embedded: int | None
) -> tuple[list[tuple[str, str]], list[str]]:
    """Mistakes that keep the folder's policy from being played, as (field, sentence), and warnings for the user.

    Args:
        embedded: rows of the embedding of tokens; None: not known.
    """
    try:
        tokens = load_tokens(folder)
        playbook = make_playbook("", spec, environment, tokens)
        prompt = _longest_kind_of_prompt(playbook)
        if not tokens.encode("a"):
            return [(MODEL, "tokenizer.json: want a tokenizer that encodes text, it makes 0 tokens of a letter")], []
    except PromptTooLong as error:
        name, _, sentence = str(error).partition(": ")
        return [(f"environment.{name}", sentence)], []
    except TokenizerError as error:
        return [(MODEL, _within(folder, str(error)))], []
    except BaseException as error:  # files of others; a library in Rust panics beside all Exceptions
        if isinstance(error, MemoryError) or not (isinstance(error, Exception) or "Panic" in type(error).__name__):
            raise
        return [(MODEL, f"tokenizer.json, tokenizer_config.json: want files that can be read, got {error!r}")], []
    warnings = [] if tokens.warning is None else [_within(folder, tokens.warning)]
    if embedded is None:
        return [], warnings
    return [(MODEL, sentence) for sentence in _outside_problems(tokens, prompt, embedded)], warnings


def _longest_kind_of_prompt(playbook: Playbook) -> list[int]:
    """A prompt with all that one can hold, as ids. An environment's own template may want texts that it knows."""
    turns = playbook.spec.environment.history_length
    scene = Scene("Fetch it.", "You see it.", (("You see it.", "look"),) * min(turns, 2), ("look", "take it"))
    try:
        return unpack_int32(playbook.prompts.ids(scene))
    except PromptTooLong:
        raise
    except AttemptFailed:
        return []


def _outside_problems(tokens: PolicyTokens, prompt: list[int], embedded: int) -> list[str]:
    """Ids that the model has no row for. Special tokens that nothing writes may lie there: Gemma's for images do."""
    ordinary = tokens.largest_ordinary_id()
    if ordinary >= embedded:
        return [f"tokenizer.json: want token ids below {embedded} (rows of the model's embedding), got {ordinary}"]
    used = {"a stop token": tokens.stop_ids, "a token of the prompt": prompt}
    return [
        f"tokenizer.json: want {what} below {embedded} (rows of the model's embedding), got {max(ids)}"
        for what, ids in used.items()
        if max(ids, default=0) >= embedded
    ]


def _within(folder: Path, sentence: str) -> str:
    """Name files in the sentence as they are in the folder."""
    return sentence.replace(f"{folder}/", "")
