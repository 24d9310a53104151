"""The evaluation page in headless Chromium: hostile texts do nothing, both schemes can be read.

Needs Chromium (Debian's package ``chromium``); skipped, and saying so, where there is none.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, sync_playwright

from tests import evaluated

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    evaluated.run(folder, mistakes=60)
    return folder / "reports"


@pytest.fixture(scope="module", params=["light", "dark"])
def page(report: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Page, list[str]]]:
    """The page in one colour scheme, and what the browser complained of or asked a network for."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    trouble: list[str] = []

    def note(asked: Request) -> None:
        if not asked.url.startswith(("file:", "data:")):
            trouble.append(asked.url)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(color_scheme=request.param, viewport={"width": 400, "height": 900})
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", note)
        page.goto((report / "evaluation.html").as_uri())
        yield page, trouble
        browser.close()


def test_a_hostile_text_is_shown_and_does_nothing(page):
    opened, trouble = page
    shown = " ".join(opened.inner_text("body").split())
    assert "<script>window.hacked = 1" in shown
    assert "Biz <b>&amp;</b>" in shown
    assert opened.evaluate("window.hacked") is None
    assert opened.locator("script, img, p img").count() == 0
    assert trouble == []


def test_every_section_and_chart_is_there_and_fits_a_narrow_screen(page):
    opened, _ = page
    for heading in ("Comparison with the baselines", "By class", "Calibration", "The data",
                    "Slices and robustness", "The most confident mistakes", "Label noise in training",
                    "Out-of-scope use"):  # fmt: skip
        assert opened.get_by_role("heading", name=heading, exact=True).count() == 1
    charts = opened.locator("figure svg")
    assert charts.count() == 18
    named = " ".join(chart.get_attribute("aria-label") or "" for chart in charts.all())
    for name in ("length in words", "length in tokens", "Agencies and places by class. AFP: World",
                 *(f"Most frequent words in {name}" for name in evaluated.NAMES)):  # fmt: skip
        assert name in named
    for chart in charts.all():
        assert chart.get_attribute("aria-label")
        box = chart.bounding_box()
        assert box
        assert box["height"] > 100
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    assert opened.locator("mark.for").count() > 0


def test_text_stands_out_from_its_ground_in_charts_too(page):
    opened, _ = page
    colours = opened.evaluate(
        """() => {
            const read = (e, p) => getComputedStyle(e)[p].match(/[\\d.]+/g).map(Number);
            return [read(document.body, 'color'), read(document.querySelector('figure svg text'), 'fill'),
                    read(document.querySelector('figure'), 'backgroundColor')];
        }"""
    )

    def luminance(colour: list[float]) -> float:
        parts = [v / 255 for v in colour[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ground = luminance(colours[2])
    for colour in colours[:2]:
        light, dark = sorted((luminance(colour), ground), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5


def test_the_model_card_carries_names_without_their_markup(report):
    card = (report / "model_card.md").read_text()
    assert r"Biz \<b\>&amp;\</b\>" in card
    assert "| Accuracy |" in card
