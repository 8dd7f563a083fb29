"""Makes the package of a new environment from the files of `package_template/`."""

import keyword
import re
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from string import Template

from services.env.workers.registry import known_environments

NAME = re.compile(r"[a-z][a-z0-9_]*")
FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "job.yaml": "job.yaml.txt",
    "{name}/__init__.py": "init.py.txt",
    "{name}/environment.py": "environment.py.txt",
    "{name}/templates/{name}.v1.think.jinja": "think.jinja.txt",
    "tests/test_{name}.py": "test_environment.py.txt",
}


class ScaffoldError(Exception):
    """The package cannot be made; the message says what is wanted."""


def make_package(name: str, folder: Path) -> list[Path]:
    """Write `folder`/`name`; the files. ScaffoldError: the name cannot be a new package's, something of that name is
    there, or nothing can be written."""
    if keyword.iskeyword(name):
        raise ScaffoldError(
            f"name: {name!r} is a word of the Python language, which no module can have as its name; want another one, "
            f"such as {name}_env"
        )
    if not NAME.fullmatch(name):
        raise ScaffoldError(f"name: want small letters, digits and _, such as tic_tac_toe, got {name!r}")
    if name in known_environments({}):
        raise ScaffoldError(f"name: an environment {name!r} is registered already")
    if find_spec(name):
        raise ScaffoldError(f"name: a module {name!r} is installed already, which the package would hide")
    home = folder / name
    try:
        home.mkdir(parents=True)
        return _filled(home, name)
    except FileExistsError as error:  # a link to nothing too
        raise ScaffoldError(f"{error.filename} exists already") from error
    except OSError as error:
        raise ScaffoldError(f"{home}: {error.strerror}") from error


def _filled(home: Path, name: str) -> list[Path]:
    values = {
        "name": name,
        "distribution": name.replace("_", "-"),
        "class_name": "".join(part.capitalize() for part in name.split("_")),
    }
    templates = resources.files("services.env.tools") / "package_template"
    made = []
    for target, template in FILES.items():
        file = home / target.format(name=name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template((templates / template).read_text()).substitute(values))
        made.append(file)
    return made
