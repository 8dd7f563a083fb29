"""A command that wants a package of a service: which one is named, and which extra brings it."""

from __future__ import annotations

from types import ModuleType

import pytest

from gigpo.client.commands import overview
from gigpo.client.missing import missing_package
from tests.unit.client.fake_api import Gigpo


def failed_import(package: str, module: str = "services.api.app") -> ModuleNotFoundError:
    """What the import of a package says that is not there, in a module of this name."""
    importer = ModuleType(module)
    with pytest.raises(ModuleNotFoundError) as raised:
        exec(f"import {package}", importer.__dict__)
    return raised.value


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("services.api.app", "api"),
        ("services.trainer.learner.update", "trainer"),
        ("services.kit.redis_keys", "embedded"),  # a room that several services share
        ("services.contracts.job", "embedded"),
        ("somebody.else", "embedded"),
    ],
)
def test_the_extra_is_that_of_the_service_whose_code_wanted_the_package(module: str, extra: str) -> None:
    said = missing_package(failed_import("no_such_package.inner", module))
    assert said == (
        f"this needs the package no_such_package, which is not installed: pip install 'gigpo-platform[{extra}]'"
    )


@pytest.mark.parametrize("module", ["gigpo.no_such_module", "services.no_such_module", "gigpo_core.no_such_module"])
def test_a_module_of_ours_is_no_package_to_install(module: str) -> None:
    assert missing_package(failed_import(module)) is None
    assert missing_package(ModuleNotFoundError("without a name")) is None


def test_a_command_ends_with_the_sentence_and_a_bug_with_its_traceback(
    gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wants(package: str) -> None:
        def connected(*_: object) -> None:
            raise failed_import(package)

        monkeypatch.setattr(overview, "connected", connected)

    wants("no_such_package")
    done = gigpo("status")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "gigpo: this needs the package no_such_package, which is not installed: pip install 'gigpo-platform[api]'\n"
    )
    wants("gigpo.no_such_module")
    with pytest.raises(ModuleNotFoundError, match=r"gigpo\.no_such_module"):
        gigpo("status")
