"""Reads the user's own corpus.jsonl, train.jsonl and test.jsonl, as Search-R1 and FlashRAG write them.

Passages and questions stand in the order of their content, whatever the order of the lines.
"""

from pathlib import Path
from typing import Annotated, Self

import msgspec
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, TypeAdapter, model_validator

from gigpo.env.data import checked, one_file, read_jsonl
from gigpo.env.environment import KwargsError
from services.env.environments.search_qa.library import Library, Passage, Question
from services.env.environments.splits import in_order_of_content

SPLITS = ("train", "test")


class PassageRecord(BaseModel):
    """A passage has either `contents`, whose first line is the title, or `title` and `text`."""

    contents: str | None = None
    title: str = ""
    text: str = ""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.contents or self.text):
            raise ValueError("want contents, or title and text")
        return self


class QuestionRecord(BaseModel):
    """A question and every answer that is right."""

    question: str = Field(min_length=1)
    answers: Annotated[
        list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value), Field(min_length=1)
    ] = Field(validation_alias=AliasChoices("golden_answers", "answers", "answer"))


_passage = TypeAdapter(PassageRecord)
_question = TypeAdapter(QuestionRecord)


def read_library(folder: Path) -> Library:
    """The corpus and its questions. KwargsError: a file is missing or spoilt; names file, line and field."""
    records = (checked(_passage, value, place) for place, value in read_jsonl(one_file(folder, "corpus.jsonl")))
    passages = in_order_of_content(map(_as_passage, records), msgspec.structs.astuple)
    if not passages:
        raise KwargsError("data: corpus.jsonl: want at least one passage, got none")
    questions: dict[str, list[Question]] = {}
    asked: dict[str, str] = {}
    for split in SPLITS:
        asked_here = []
        for place, value in read_jsonl(one_file(folder, f"{split}.jsonl")):
            record: QuestionRecord = checked(_question, value, place)
            text = record.question.strip()
            if asked.setdefault(text, split) != split:
                raise KwargsError(f"data: {place}: question: {text!r:.80} is asked in {asked[text]}.jsonl already")
            asked_here.append(Question(text if text.endswith("?") else f"{text}?", tuple(record.answers)))
        if not asked_here:
            raise KwargsError(f"data: {split}.jsonl: want at least one question, got none")
        questions[split] = in_order_of_content(asked_here, msgspec.structs.astuple)
    return Library(passages, questions)


def _as_passage(record: PassageRecord) -> Passage:
    if record.contents is None:
        return Passage(f'"{record.title}"', record.text)
    title, _, text = record.contents.partition("\n")
    return Passage(title, text)
