"""Optional packages: the lists agree, and where one is missing a command says what to install."""

import importlib
import signal
import sys
import tomllib

import pytest

from cleantune import console
from tests.conftest import REPOSITORY


def needing(package):
    def main() -> None:
        importlib.import_module(package)

    return main


@pytest.fixture(autouse=True)
def restored():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_every_optional_package_is_of_the_extra_that_pyproject_names():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    named = {requirement.partition(">=")[0]: extra
             for extra, packages in project["optional-dependencies"].items()
             for requirement in packages}  # fmt: skip
    assert named == console.EXTRAS


@pytest.mark.parametrize(("package", "extra"), console.EXTRAS.items())
def test_a_command_names_the_extra_that_it_lacks(monkeypatch, capsys, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as left:
        console.run(needing(package))
    assert left.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said == (
        f"error: {package} is not installed: pip install '.[{extra}]' in the project's folder."
    )


def test_another_missing_module_is_a_fault_and_keeps_its_traceback():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        console.run(needing("no_such_module"))


def test_so_does_an_import_at_the_top_of_a_command(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit), console.optional():
        importlib.import_module("optuna")
    assert "optuna is not installed: pip install '.[sweep]'" in capsys.readouterr().err
