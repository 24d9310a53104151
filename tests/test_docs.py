"""README and docs: links lead somewhere, commands and parameters exist, tables are rendered from files."""

import importlib.util
import re

import pytest
from ruamel.yaml import YAML

from cleantune.params.sections import Lora
from tests.conftest import REPOSITORY
from tools import record, results

README = REPOSITORY / "README.md"
PAGES = {path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
         for path in (README, *sorted((REPOSITORY / "docs").rglob("*.md")))}  # fmt: skip
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (.*)$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SECTIONS = (
    "augment",
    "baselines",
    "clean",
    "evaluate",
    "finetune",
    "label_noise",
    "pretrain",
    "study",
)


def code() -> list[str]:
    """Return what the pages show as code: blocks and spans."""
    return [span for text in PAGES.values() for span in
            (*FENCED.findall(text), *INDENTED.findall(text), *INLINE.findall(prose(text)))]  # fmt: skip


def prose(text: str) -> str:
    return FENCED.sub("", text)


def named(pattern: str) -> set[str]:
    return {name for span in code() for name in re.findall(pattern, span, re.MULTILINE)}


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    links = LINK.findall(prose(PAGES[page]))
    assert links
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = ((REPOSITORY / page).parent / path).resolve() if path else REPOSITORY / page
        assert target.is_relative_to(REPOSITORY), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_every_page_is_in_readmes_index():
    linked = set(LINK.findall(PAGES["README.md"]))
    assert set(PAGES) - {"README.md"} <= linked


def test_every_target_of_make_exists():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    asked = named(r"^(?:\$ |time )?make ([a-z-]+)")
    assert asked >= {"repro", "test", "help", "review"}
    assert asked <= targets


@pytest.mark.parametrize("module", sorted(named(r"python -m ((?!stages)[\w.]+)")))
def test_every_module_explains_itself(module, runner, workspace):
    run = runner.start(workspace, module, arguments=["--help"])
    assert run.statuses == [0], run.output
    assert "usage:" in run.output


def test_every_stage_exists():
    stages = named(r"-m (stages\.\w+)")
    assert "stages.finetune" in stages
    assert all(importlib.util.find_spec(stage) for stage in stages)


def test_every_override_and_every_parameter_is_a_key_of_params():
    params = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
    params["finetune"]["lora"] = Lora.model_fields  # null by default
    overrides = named(r"-S\s+'?\+?([\w.]+)=")
    assert "lr" in overrides
    for key in overrides | named(rf"^((?:{'|'.join(SECTIONS)})\.\w+)(?![\w.]*\.)(?<!\.py)"):
        section = params
        for part in key.split("."):
            assert part in section, key
            section = section[part]


def test_tables_are_rendered_from_the_results_files_and_each_file_is_shown():
    shown = set()
    for name, text in PAGES.items():
        assert results.rendered(text) == text, f"{name}: run python -m tools.results render"
        shown |= set(re.findall(r"<!-- results: (\w+) -->", text))
    assert shown == {file.stem for file in (REPOSITORY / record.RESULTS).glob("*.json")}
