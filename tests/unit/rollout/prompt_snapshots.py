"""Prompts of every template, as text files in `snapshots/`.

Write them anew: python -m tests.unit.rollout.prompt_snapshots

A template never changes, so a changed file means: give the new layout a new version instead.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from services.contracts.templates import FORMS, template_names
from services.rollout.prompts import PromptWriter, Wording
from services.rollout.templates import ChatTemplate, Scene, SceneTemplate
from services.rollout.tokens import PolicyTokens, load_tokens

FOLDER = Path(__file__).parent / "snapshots"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SCENES = {
    "first turn": Scene("put a mug in the shelf", "You see a desk 1 and a shelf 1.\nThe desk 1 is shut."),
    "later turn": Scene(
        "put a mug in the shelf",
        "On the desk 1 is a mug 1.",
        (("You are in a room.", "go to desk 1"), ("The desk 1 is shut.", "open desk 1")),
        ("take mug 1 from desk 1", "close desk 1"),
    ),
    "no task, nothing seen": Scene("", ""),
}
WORDINGS = {"with chat template": (True, None), "alone, with system": (False, "Be brief.")}


def chat_tokens(folder: Path) -> PolicyTokens:
    """A byte-level tokenizer with a chat template: one token a byte, three special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": SPECIAL[2], "chat_template": CHAT}))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": len(alphabet) + 2}))
    return load_tokens(folder)


def snapshot(template: str, form: str, tokens: PolicyTokens) -> str:
    """Each scene as the policy would read it: through token ids and back."""
    assert tokens.chat_template
    parts = []
    for (said, (chats, system)), (name, scene) in itertools.product(WORDINGS.items(), SCENES.items()):
        chat = ChatTemplate(tokens.chat_template, tokens.special) if chats else None
        writer = PromptWriter(Wording(SceneTemplate(template, form), chat, system), tokens, 4_096)
        parts.append(f"=== {name}, {said}\n{tokens.reply_text(writer.ids(scene))}\n")
    return "".join(parts)


def file_of(template: str, form: str) -> Path:
    """Where a template's snapshot lies."""
    return FOLDER / f"{template.replace('/', '.')}.{form}.txt"


def main() -> None:
    """Write every snapshot, and remove those of templates that are gone."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = chat_tokens(Path(folder))
        written = {file_of(name, form): snapshot(name, form, tokens) for name in template_names() for form in FORMS}
    for file in set(FOLDER.glob("*.txt")) - written.keys():
        file.unlink()
    for file, text in written.items():
        file.write_text(text)
    sys.stdout.write(f"{len(written)} snapshots in {FOLDER}\n")


if __name__ == "__main__":
    main()
