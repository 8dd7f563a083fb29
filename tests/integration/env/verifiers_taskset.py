"""Tasksets of the package verifiers, for tests."""

from collections.abc import Iterator
from typing import Any

import verifiers.v1 as vf


class Data(vf.TaskData):
    answer: str


class Reverse(vf.Task[Data, vf.State, vf.TaskConfig]):
    @vf.reward(weight=1.0)
    async def exact(self, trace: Any) -> float:
        return float(trace.last_reply == self.data.answer)

    @vf.reward(weight=0.5)
    async def short(self, trace: Any) -> float:
        return float(len(trace.last_reply) < 20)


class Boxed(Reverse):
    NEEDS_CONTAINER = True


class Config(vf.TasksetConfig):
    words: int = 20


class Words(vf.Taskset[Reverse, Config]):
    INFINITE = True
    task = Reverse

    def load(self) -> Iterator[Reverse]:
        number = 0
        while True:
            word = f"abc{number % self.config.words}"
            yield self.task(Data(prompt=f"Reverse: {word}", answer=word[::-1]), self.config.task)
            number += 1


class Boxes(Words):
    task = Boxed


class Silent(vf.Taskset[Reverse, Config]):
    def load(self) -> Iterator[Reverse]:
        yield Reverse(Data(answer="x"), self.config.task)
