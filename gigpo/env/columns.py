"""Which columns of a data set are the prompt and the solution: the names that TRL, verl, ms-swift and many data sets
use are known, and a job may say others."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

OURS = ("prompt", "messages", "solution", "choices", "system")
"""The columns of a row here; a job maps these to names of its own."""
PROMPTS = ("prompt", "messages", "question", "problem", "instruction", "query", "conversations")
SOLUTIONS = ("solution", "answer", "ground_truth", "reward_model.ground_truth", "final_answer", "expected_answer")
ANSWER_FIRST = ("answer", "final_answer", "solution", *SOLUTIONS[2:])
"""Names of the answer's column beside a question or a problem, where `solution` holds the way to the answer."""
REPLIES = {"query": "response", "instruction": "output"}
"""Columns that hold the wanted reply where no other one does."""
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system",
            "function_call": "assistant", "observation": "tool", "tool": "tool"}  # fmt: skip


class Columns(NamedTuple):
    """Places of the values in a row: names of its columns, with dots where one lies inside another."""

    prompt: str
    solution: str | None
    system: str | None = None
    choices: str | None = None
    whose: str = ""
    """Whose shape the file has, such as "as verl's"; empty: ours."""

    def said(self) -> str:
        """Describe the columns in words."""
        parts = {"prompt": self.prompt, "solution": self.solution, "system": self.system, "choices": self.choices}
        found = ", ".join(f"{ours} = {theirs}" for ours, theirs in parts.items() if theirs)
        return f"{self.whose}: {found}" if self.whose else found


def columns_of(row: Mapping[str, object], named: Mapping[str, str]) -> Columns:
    """The columns of a row.

    Args:
        named: what the job says: one of OURS -> the column's name.

    Raises:
        ValueError: there is no prompt, or a named column is not there.
    """
    for ours, theirs in named.items():
        if not _has(row, theirs):
            raise ValueError(f"columns.{ours}: want one of the columns {', '.join(map(str, row))}, got {theirs}")
    prompts = [named[name] for name in ("prompt", "messages") if name in named] or [
        name for name in PROMPTS if row.get(name) is not None
    ]
    if not prompts and (without := next((name for name in PROMPTS if name in row), None)):
        raise ValueError(f"{without}: want a text or messages, got null")
    if not prompts:
        raise ValueError(
            f"want a column {', '.join(PROMPTS[:-1])} or {PROMPTS[-1]}, got {', '.join(map(str, row)) or 'none'}; "
            "columns: {prompt: NAME} names another one"
        )
    if prompts[:2] == ["prompt", "messages"]:
        raise ValueError("want exactly one of prompt and messages; columns: {messages: messages} names one")
    prompt = prompts[0]
    order = ANSWER_FIRST if prompt in ("question", "problem") else SOLUTIONS
    rest = (REPLIES[prompt],) if prompt in REPLIES else ()
    solution = named.get("solution") or next((name for name in (*order, *rest) if _has(row, name)), None)
    system = named.get("system") or ("system" if isinstance(row.get("system"), str) else None)
    choices = named.get("choices") or ("choices" if isinstance(row.get("choices"), list | tuple) else None)
    return Columns(prompt, solution, system, choices, _whose(row, prompt, solution, named))


def as_ours(row: Mapping[str, object], columns: Columns) -> dict[str, Any]:
    """The row by our names: prompt or messages, solution, choices."""
    asked = value_at(row, columns.prompt)
    found: dict[str, Any] = {}
    if isinstance(asked, list | tuple):
        found["messages"] = [_message(one) for one in asked]
    else:
        more = row.get("input") if columns.prompt == "instruction" else None
        found["prompt"] = f"{asked}\n\n{more}" if more else asked
    if columns.system and isinstance(system := value_at(row, columns.system), str) and system.strip():
        asking = found.pop("messages", None) or [{"role": "user", "content": found.pop("prompt")}]
        found["messages"] = [{"role": "system", "content": system}, *asking]
    if columns.solution:
        solution = value_at(row, columns.solution)
        found["solution"] = solution[0] if isinstance(solution, list) and len(solution) == 1 else solution
    if columns.choices:
        choices = found["choices"] = value_at(row, columns.choices) or ()
        if columns.solution != "solution" and type(at := found.get("solution")) is int and 0 <= at < len(choices):
            found["solution"] = choices[at]  # the number of the right one, as MMLU has it
    return found


def value_at(row: Mapping[str, object], path: str) -> Any:
    """The value of a column; `a.b` is b within a, unless there is a column of that very name."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def texts_in(row: Mapping[str, Any]) -> Iterator[str]:
    """Every text of the prompt, the solution and the choices of a row by our names."""
    choices = row.get("choices")
    messages = row.get("messages")
    said = [message.get("content") for message in messages or () if isinstance(message, Mapping)]
    for text in (row.get("prompt"), row.get("solution"), *(choices or ()), *said):
        if isinstance(text, str | int | float):
            yield str(text)


def _message(one: object) -> object:
    """ShareGPT's `from` and `value` are OpenAI's `role` and `content`."""
    if isinstance(one, Mapping) and "from" in one and "role" not in one:
        return {"role": SHAREGPT.get(str(one["from"]), one["from"]), "content": one.get("value")}
    return one


def _has(row: Mapping[str, object], path: str) -> bool:
    return path in row or value_at(row, path) is not None


def _whose(row: Mapping[str, object], prompt: str, solution: str | None, named: Mapping[str, str]) -> str:
    if named:
        return "as the job names them"
    if prompt == "conversations":
        return "as ShareGPT's"
    if isinstance(row.get("reward_model"), Mapping) or (prompt == "prompt" and "data_source" in row):
        return "as verl's"
    if prompt == "messages" or prompt in REPLIES:
        return "as ms-swift's"
    if prompt == "prompt" and isinstance(row["prompt"], list | tuple):
        return "as TRL's"
    return "" if prompt == "prompt" and solution in (None, "solution") else "by their columns' names"
