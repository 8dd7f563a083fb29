"""A small environment with tools: the sum of three digits, by a calculator that adds two numbers.

export ENV_SERVICE_EXTRA_ENVIRONMENTS='{"calculator": "examples.calculator:Calculator"}'
gigpo train examples/calculator.yaml --engine transformers
"""

import json
import random

from pydantic import Field

from gigpo.env import Environment, EnvironmentKwargs, Observation, Outcome

LARGEST = 9
NUMBER = {"type": "integer"}
ADD = {
    "name": "add",
    "description": "Adds two numbers.",
    "parameters": {"type": "object", "properties": {"a": NUMBER, "b": NUMBER}, "required": ["a", "b"]},
}
ANSWER = {
    "name": "answer",
    "description": "Gives the answer; the episode ends with it.",
    "parameters": {"type": "object", "properties": {"value": NUMBER}, "required": ["value"]},
}


class CalculatorKwargs(EnvironmentKwargs):
    """How long the sums are."""

    numbers: int = Field(2, ge=2, le=4, description="Digits of a sum.")
    max_turns: int = Field(4, ge=1, le=100, description="The episode is truncated after this many steps.")


class Calculator(Environment):
    """Ask for the sum of some digits; a calculator adds two numbers, and only the right answer is rewarded."""

    Kwargs = CalculatorKwargs
    tools = (ADD, ANSWER)
    kwargs: CalculatorKwargs

    def reset(self, seed: int, split: str) -> Observation:
        """Digits of this seed; those of the split test never occur in train."""
        rng = random.Random(f"{seed}")
        while True:
            self._digits = [rng.randint(0, LARGEST) for _ in range(self.kwargs.numbers)]
            if (sum(digit * 7**place for place, digit in enumerate(self._digits)) % 5 == 0) == (split == "test"):
                break
        self._results: list[int] = []
        return self._shown("ready")

    def step(self, action: str) -> Outcome:
        """A call of add or answer, as JSON."""
        try:
            call = json.loads(action)
            name, arguments = call["name"], call["arguments"]
            given = [arguments[key] for key in (("a", "b") if name == "add" else ("value",))]
            sound = name in ("add", "answer") and all(type(value) is int and abs(value) < 1_000 for value in given)
        except (ValueError, LookupError, TypeError):
            sound = False
        if not sound:
            return Outcome(observation=self._shown("invalid"), action_valid=False)
        if name == "answer":
            right = given[0] == sum(self._digits)
            shown = self._shown("right" if right else "wrong")
            return Outcome(observation=shown, reward=float(right), won=right, terminated=True, action_valid=True)
        self._results.append(sum(given))
        return Outcome(observation=self._shown(str(sum(given))), action_valid=True)

    def state(self) -> object:
        """Digits and results."""
        return (self._digits, self._results)

    def _shown(self, text: str) -> Observation:
        seen = sorted({*self._digits, *self._results})
        sums = [_call("add", a=a, b=b) for a in seen for b in seen if a + b <= LARGEST * self.kwargs.numbers]
        return Observation(
            text=text,
            anchor=f"{self._digits} {self._results} {text}",
            task=f"sum of {' and '.join(map(str, self._digits))}",
            admissible_actions=(*sums, *(_call("answer", value=value) for value in seen)),
        )

    @classmethod
    def vocabulary(cls) -> list[str]:
        """The words of texts, and of calls as JSON."""
        numbers = range(4 * LARGEST + 1)
        calls = [_call("add", a=number, b=number) for number in numbers]
        calls += [_call("answer", value=number) for number in numbers]
        words = {word for call in calls for word in call.split()}
        return sorted(
            {*words, *map(str, range(10 * LARGEST)), "sum", "of", "and", "ready", "invalid", "right", "wrong"}
        )


def _call(name: str, **arguments: int) -> str:
    return json.dumps({"name": name, "arguments": arguments})
