"""Tasks that outside agents work on in a world of their own: the reward comes from whoever plays, over REST."""

from typing import Annotated

from pydantic import Field

from gigpo.env.environment import Capabilities, CostClass, Environment, EnvironmentKwargs, Observation, Outcome

Task = Annotated[str, Field(min_length=1, max_length=16_000)]
MOST_TASKS = 10_000


class OutsideKwargs(EnvironmentKwargs):
    """Settings of outside tasks."""

    tasks: tuple[Task, ...] = Field(
        (),
        max_length=MOST_TASKS,
        description="Texts of which each session shows one, by its seed. None: agents make their task from the "
        "session's seed and split.",
    )
    eval_tasks: tuple[Task, ...] = Field(
        (), max_length=MOST_TASKS, description="The same for the split test; none: the split has those of train."
    )


class Outside(Environment):
    """Tasks for outside agents (`interaction: outside`): they act where they like and report the reward by REST."""

    Kwargs = OutsideKwargs
    kwargs: OutsideKwargs
    capabilities = Capabilities(cost_class=CostClass.LIGHT)
    examples = ({"tasks": ["Add 2 and 3.", "Add 4 and 5."]},)
    example_actions = ("done",)

    def reset(self, seed: int, split: str) -> Observation:
        tasks = (self.kwargs.eval_tasks if split == "test" else ()) or self.kwargs.tasks
        self._observation = Observation(text="", task=tasks[seed % len(tasks)] if tasks else "")
        return self._observation

    def step(self, action: str) -> Outcome:
        """Nothing happens here: the agent's world is its own."""
        return Outcome(observation=self._observation)
