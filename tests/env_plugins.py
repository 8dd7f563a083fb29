"""Environment plugins with the mistakes that authors make: the source of a module, and what is said of it."""

from pathlib import Path

HEAD = """
from collections.abc import Mapping
from pydantic import BaseModel, Field
from gigpo.env.environment import Capabilities, CostClass, Environment, EnvironmentKwargs, Observation, Outcome
"""
CLASS = '''

class Mine{bases}:
    """Somebody's environment."""

    def reset(self, seed, split):
        return Observation(text="start")

    def step(self, action):
        return Outcome(observation=Observation(text="end"), terminated=True)
'''
SOUND = HEAD + CLASS.format(bases="(Environment)")


def plugin(inside: str = "", *, before: str = "", bases: str = "(Environment)") -> str:
    """A module whose class Mine is sound but for the lines `inside` it, and those before it."""
    lines = "".join(f"\n    {line}" for line in inside.splitlines())
    return HEAD + before + CLASS.format(bases=bases) + lines + "\n"


def write(folder: Path, sources: dict[str, str]) -> dict[str, str]:
    """Write modules plugin_NAME; references by id."""
    for name, source in sources.items():
        (folder / f"plugin_{name}.py").write_text(source)
    return {name: f"plugin_{name}:Mine" for name in sources}


def classmethods(name: str, body: str) -> str:
    return f"@classmethod\ndef {name}(cls):\n    {body}"


def kwargs_class(field: str) -> str:
    return f"\nclass MineKwargs(EnvironmentKwargs):\n    {field}\n"


KWARGS = "Kwargs = MineKwargs"
UNDRAWABLE = "\nclass Thing:\n    pass\n" + kwargs_class(
    'model_config = {"arbitrary_types_allowed": True}\n    thing: Thing = Field(default_factory=Thing)'
)
TOUCHY = """
class Touchy(type(Environment)):
    def __getattribute__(cls, name):
        if name == "splits":
            raise KeyboardInterrupt("do not look")
        return super().__getattribute__(name)
"""
MISTAKES: dict[str, tuple[str, str]] = {
    "exits": ("import sys\nsys.exit(3)\n", "plugin_exits:Mine cannot be imported: SystemExit: 3"),
    "interrupts": ("raise KeyboardInterrupt\n", "cannot be imported: KeyboardInterrupt"),
    "panics": ("class PanicException(BaseException): pass\nraise PanicException('rust')\n", "PanicException: rust"),
    "raises": ("1 / 0\n", "cannot be imported: ZeroDivisionError: division by zero"),
    "no_unicode": ("raise ValueError('\\ud800')\n", "cannot be imported: ValueError: \\ud800"),
    "no_words": (
        "class Mute(Exception):\n    def __str__(self):\n        raise SystemExit\nraise Mute\n",
        "cannot be imported: Mute: its message cannot be shown",
    ),
    "is_no_class": ("Mine = 5\n", "plugin_is_no_class:Mine is not an Environment class"),
    "is_another_class": ("class Mine: pass\n", "is not an Environment class"),
    "has_none": ("", "cannot be imported: AttributeError: "),
    "words": (
        plugin(classmethods("vocabulary", "return open('/no/such/words.txt').read().split()")),
        "vocabulary(): want a list of texts, but it raised FileNotFoundError: ",
    ),
    "word_numbers": (
        plugin(classmethods("vocabulary", "return (n for n in range(3))")),
        "vocabulary()[0]: want a text",
    ),
    "word_text": (
        plugin(classmethods("vocabulary", "return 'go'")),
        "vocabulary(): want a list of texts, got str 'go'",
    ),
    "word_surrogate": (
        plugin(classmethods("vocabulary", "return ['ok', 'a\\ud800']")),
        "vocabulary()[1]: want a text of Unicode characters",
    ),
    "word_forever": (
        plugin(classmethods("vocabulary", "import itertools; return itertools.repeat('a')")),
        "vocabulary(): want at most 1,000,000 texts, got more",
    ),
    "word_flood": (
        plugin(classmethods("vocabulary", "return ['a' * (9 << 20)]")),
        "want at most 8388608 bytes in all, got 943",
    ),
    "splits": (plugin('splits = "train"'), "splits: want a list of texts, got str 'train'"),
    "no_splits": (plugin("splits = ()"), "splits: want one or more different names, got tuple ()"),
    "split_numbers": (plugin("splits = (0, 1)"), "splits[0]: want a text, got int 0"),
    "split_twice": (plugin("splits = ('a', 'a')"), "splits: want one or more different names"),
    "no_schema": (plugin(KWARGS, before=UNDRAWABLE), "Kwargs: want fields that have a JSON Schema, but it raised "),
    "base_model": (
        plugin(KWARGS, before="\nclass MineKwargs(BaseModel):\n    x: int = 1\n"),
        "Kwargs: want a class derived from EnvironmentKwargs, got ModelMetaclass ",
    ),
    "kwargs_none": (plugin("Kwargs = None"), "Kwargs: want a class derived from EnvironmentKwargs, got None"),
    "turns": (plugin(KWARGS, before=kwargs_class("max_turns: int")), "Kwargs.max_turns: want a default, got none"),
    "turns_none": (
        plugin(KWARGS, before=kwargs_class("max_turns: int | None = None")),
        "Kwargs.max_turns: want a whole number from 1 to 2147483647, got None",
    ),
    "turns_raise": (
        plugin(KWARGS, before=kwargs_class("max_turns: int = Field(default_factory=lambda: 1 // 0)")),
        "Kwargs.max_turns: want a default, but it raised ZeroDivisionError",
    ),
    "infinite": (
        plugin(KWARGS, before=kwargs_class("x: float = Field(1, json_schema_extra={'x': float('inf')})")),
        "Kwargs: want values of JSON, but ",
    ),
    "reason": (
        plugin(classmethods("unavailable_reason", "raise RuntimeError('who knows')")),
        "unavailable_reason(): want a text, but it raised RuntimeError: who knows",
    ),
    "reason_none": (plugin(classmethods("unavailable_reason", "return None")), "want a text, got None"),
    "examples_set": (
        plugin("examples = ({'items': {1, 2}},)"),
        "examples: want values of JSON, but TypeError: Object of type set",
    ),
    "examples_one": (plugin("examples = {'x': 1}"), "examples: want a list of kwargs, got dict {'x': 1}"),
    "examples_numbers": (plugin("examples = (1,)"), "examples[0]: want kwargs by their names, got int 1"),
    "examples_nan": (plugin("examples = ({'x': float('nan')},)"), "examples: want values of JSON, but ValueError"),
    "examples_surrogate": (plugin("examples = ({'x': '\\ud800'},)"), "examples: want values of JSON, but "),
    "sessions_none": (
        plugin("max_sessions = None"),
        "max_sessions: want a whole number from 0 to 2147483647, got None",
    ),
    "sessions_bool": (plugin("max_sessions = True"), "max_sessions: want a whole number from 0 "),
    "sessions_float": (plugin("max_sessions = 8.0"), "max_sessions: want a whole number from 0 "),
    "sessions_negative": (plugin("max_sessions = -1"), "from 0 to 2147483647, got int -1"),
    "sessions_huge": (plugin("max_sessions = 10**12"), "max_sessions: want a whole number from 0 "),
    "requires_text": (plugin('requires = "numpy"'), "requires: want a list of texts, got str 'numpy'"),
    "requires_number": (plugin("requires = (3,)"), "requires[0]: want a text, got int 3"),
    "requires_odd": (
        plugin("requires = ('',)"),
        "requires[0]: want the name of a module, as it is imported, got str ''",
    ),
    "requires_package": (plugin("requires = ('scikit-learn',)"), "requires[0]: want the name of a module, as it is "),
    "requires_dotted": (plugin("requires = ('no_such_package.sub',)"), "not installed: no_such_package.sub"),
    "template": (plugin("prompt_template = 7"), "prompt_template: want a text, got int 7"),
    "extra": (plugin("extra = None"), "extra: want a text, got None"),
    "actions": (plugin("example_actions = 'go'"), "example_actions: want a list of texts, got str 'go'"),
    "tools_text": (plugin("tools = 'go'"), "tools: want a list of tools, got str 'go'"),
    "tools_none": (plugin("tools = None"), "tools: want a list of tools, got None"),
    "tools_names": (
        plugin("tools = ['go']"),
        "tools[0]: want an object with name, description and parameters, got str",
    ),
    "tools_openai": (
        plugin("tools = [{'type': 'function', 'function': {'name': 'go'}}]"),
        "tools[0]: want name, description and parameters alone, got function",
    ),
    "tools_no_name": (plugin("tools = [{'description': 'Go.'}]"), "tools[0].name: want a text, got None"),
    "tools_odd_name": (plugin("tools = [{'name': 'go there'}]"), "tools[0].name: want up to 64 letters, digits, "),
    "tools_schema": (
        plugin("tools = [{'name': 'go', 'parameters': {'type': 'string'}}]"),
        "tools[0].parameters: want a JSON Schema of type object, got dict",
    ),
    "tools_twice": (plugin("tools = [{'name': 'go'}] * 2"), "tools: want different names, got go twice"),
    "tools_nan": (
        plugin("tools = [{'name': 'go', 'parameters': {'type': 'object', 'x': float('nan')}}]"),
        "tools: want values of JSON, but ValueError",
    ),
    "docstring": (plugin("__doc__ = 5"), "__doc__: want a text, got int 5"),
    "able_class": (plugin("capabilities = Capabilities"), "capabilities: want Capabilities(...), got type "),
    "able_flag": (
        plugin("capabilities = Capabilities(deterministic='yes')"),
        "capabilities.deterministic: want true or false, got str 'yes'",
    ),
    "able_overlaps": (
        plugin("capabilities = Capabilities(overlaps=None)"),
        "capabilities.overlaps: want true or false, got None",
    ),
    "able_both": (
        plugin("capabilities = Capabilities(overlaps=True, thread_safe=False)"),
        "capabilities.overlaps: want thread_safe with it",
    ),
    "able_cost": (
        plugin("capabilities = Capabilities(cost_class='heavy')"),
        "capabilities.cost_class: want CostClass.LIGHT, MODERATE or HEAVY, got str 'heavy'",
    ),
    "abstract": (
        HEAD + "\nclass Mine(Environment):\n    pass\n",
        "reset: want a method, but the class does not define",
    ),
    "async_reset": (
        plugin("async def reset(self, seed, split):\n    return Observation(text='a')"),
        "reset: want a method that returns when it is called, got an async one or a generator",
    ),
    "async_close": (plugin("async def close(self):\n    pass"), "close: want a method that returns when it is called"),
    "step_yields": (
        plugin("def step(self, action):\n    yield 1"),
        "step: want a method that returns when it is called",
    ),
    "reset_seedless": (
        plugin("def reset(self):\n    return Observation(text='a')"),
        "reset: want a method that can be called as reset(seed, split)",
    ),
    "reset_splitless": (plugin("def reset(self, seed):\n    pass"), "want a method that can be called as reset(seed, "),
    "reset_by_name": (plugin("def reset(self, *, seed, split):\n    pass"), "can be called as reset(seed, split)"),
    "step_two": (plugin("def step(self, action, info):\n    pass"), "can be called as step(action)"),
    "step_static": (plugin("@staticmethod\ndef step():\n    pass"), "can be called as step(action)"),
    "made_of_nothing": (plugin("def __init__(self):\n    pass"), "can be called as __init__(kwargs)"),
    "made_of_two": (plugin("def __init__(self, kwargs, more):\n    pass"), "can be called as __init__(kwargs)"),
    "state_asks": (plugin("def state(self, deep):\n    return 1"), "can be called as state()"),
    "answer_one": (plugin("def answer(self, action):\n    pass"), "called as answer(action, response_tokens)"),
    "method": (plugin("step = 'go'"), "step: want a method, got str 'go'"),
    "metaclass": (
        plugin(before=TOUCHY, bases="(Environment, metaclass=Touchy)"),
        "splits: want an attribute of the class, but it raised KeyboardInterrupt: do not look",
    ),
}
"""Mistakes by id: the module, and a part of the reason that the listing gives."""
FATAL: dict[str, tuple[str, str]] = {
    "leaves": (
        "import os\nos._exit(3)\n",
        "its import or description ended the process: the worker ended with status 3",
    ),
    "crashes": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
        "its import or description ended the process: the worker ended with status -11",
    ),
    "closes": ("import os\nos.closerange(3, 256)\n", "its import or description ended the process: "),
}
"""Mistakes each of which would end the process that imports it."""
HANGING: dict[str, str] = {
    "hangs": "import time\ntime.sleep(600)\n",
    "says_for_ever": plugin(classmethods("unavailable_reason", "\n        while True: pass")),
}
"""Modules that never get to the end of their import or of what they say of themselves."""
HELD: dict[str, str] = {
    "plain": SOUND,
    "mute": SOUND.replace('"""Somebody\'s environment."""', "pass"),
    "own_template": plugin('prompt_template = "no_such/v9"'),
    "talks": "print('garbage', flush=True)\nimport os\nos.write(1, b'\\xff\\n')\n" + SOUND,
    "generates": plugin(classmethods("vocabulary", "return (word for word in ('start', 'end'))")),
    "lists": plugin("splits = ['train']\nexamples = [{}]\nrequires = ['json.decoder']\nexample_actions = ['go']"),
    "takes_anything": plugin("def reset(self, *args, **more):\n    return Observation(text='a')"),
    "static_step": plugin("@staticmethod\ndef step(action):\n    return Outcome(observation=Observation(text='a'))"),
    "more_to_come": plugin("def step(self, action, deep=False):\n    pass"),
    "numbers": plugin("capabilities = Capabilities(deterministic=1, cost_class=1)"),
}
"""Modules that are unusual and no mistake."""
