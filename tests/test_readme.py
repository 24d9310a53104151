"""What the README says can be done: its commands exist, its keys are keys, its figures are ours."""

import re
import shlex
from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML

from tests.conftest import REPOSITORY
from tools import results

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
INLINE = re.findall(r"`([^`\n]+)`", README)


def commands() -> Iterator[list[str]]:
    """Yield every command of the README, as words."""
    for block in BLOCKS:
        if "$ " in block:
            block = "\n".join(line[2:] for line in block.splitlines() if line.startswith("$ "))
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line, comments=True)
    for code in INLINE:
        yield shlex.split(code)


def starting(*first: str) -> list[list[str]]:
    return [words for words in commands() if tuple(words[: len(first)]) == first]


def test_every_target_of_make_exists():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in starting("make")}
    assert named >= {"repro", "test", "help", "review"}
    assert named <= targets


@pytest.mark.parametrize("module", sorted({words[2] for words in starting("python", "-m")}))
def test_every_module_explains_itself(module, runner, workspace):
    run = runner.start(workspace, module, arguments=["--help"])
    assert run.statuses == [0], run.output
    assert "usage:" in run.output


def test_every_override_names_a_key_of_params():
    params = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
    overrides = [
        words[i + 1] for words in starting("dvc", "exp") for i, w in enumerate(words) if w == "-S"
    ]
    assert "lr=2e-5" in overrides
    for override in overrides:
        section = params
        for key in override.lstrip("+").partition("=")[0].split("."):
            assert key in section, override
            section = section[key]


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 5
    for link in links:
        assert link.startswith("https://") or (REPOSITORY / link).exists(), link


def test_its_tables_are_rendered_from_the_results_files():
    assert "<!-- results: sample -->" in README
    assert results.rendered(README) == README, "run: python -m tools.results render"
