"""The evaluation page in headless Chromium: hostile texts do nothing, both schemes can be read.

Needs Chromium (Debian's package ``chromium``); skipped, and saying so, where there is none.
"""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

from cleantune.evaluation import many_classes, metrics
from cleantune.evaluation.report import charts
from tests import evaluated

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    evaluated.run(folder, mistakes=60)
    return folder / "reports"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=["light", "dark"])
def page(
    report: Path, browser: Browser, request: pytest.FixtureRequest
) -> Iterator[tuple[Page, list[str]]]:
    """The page in one colour scheme, and what the browser complained of or asked a network for."""
    trouble: list[str] = []

    def note(asked: Request) -> None:
        if not asked.url.startswith(("file:", "data:")):
            trouble.append(asked.url)

    page = browser.new_page(color_scheme=request.param, viewport={"width": 400, "height": 900})
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", note)
    page.goto((report / "evaluation.html").as_uri())
    yield page, trouble
    page.close()


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
    for heading in ("Comparison with the baselines", "By class", "Calibration", "Selective prediction", "The data",
                    "Slices and robustness", "The most confident mistakes", "Label noise in training",
                    "Out-of-scope use"):  # fmt: skip
        assert opened.get_by_role("heading", name=heading, exact=True).count() == 1
    charts = opened.locator("figure svg")
    assert charts.count() == 19
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


WIDE = 1280  # pixels
MANY = [f"why_is_my_payment_{k:03}_declined_by_the_bank" for k in range(77)]


@pytest.mark.parametrize("classes", [2, 13, 77])
def test_the_charts_of_many_classes_are_legible(tmp_path, browser, classes):
    """No two labels of the matrix overlap, and a legend covers no curve."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), 20)
    scores = metrics.softmax(rng.normal(0, 1, (len(labels), classes)) + 2 * np.eye(classes)[labels])
    names = MANY[:classes]
    counts = metrics.confusion(labels, scores.argmax(axis=1), classes)
    rows, shown = many_classes.most_confused(counts, names)
    svgs = [charts.confusion(many_classes.grouped(counts, rows), shown, shares=False)]
    for curves in (many_classes.roc_curves, many_classes.precision_recall_curves):
        lines = {n: (x.tolist(), y.tolist()) for n, (x, y) in curves(labels, scores, names).items()}
        svgs.append(charts.curves(curves.__name__, "Curves", lines, ("x", "y")))
    css = (Path(charts.__file__).parent / "page.css").read_text()
    figures = "".join(f"<figure>{svg}</figure>" for svg in svgs)
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><style>{css}</style><body>{figures}")
    assert sum(map(len, svgs)) < 400_000
    page = browser.new_page(viewport={"width": WIDE, "height": 900})
    page.goto(path.as_uri())
    matrix, *curves_shown = page.locator("svg").all()
    ticks = matrix.locator("g[id^=ytick_] text").all()
    boxes = [tick.bounding_box() for tick in ticks]
    assert len(boxes) == len(shown)
    tops = sorted((box["y"], box["y"] + box["height"]) for box in boxes if box)
    assert all(bottom <= top + 1 for (_, bottom), (top, _) in itertools.pairwise(tops))
    assert min(bottom - top for top, bottom in tops) >= 10  # pixels of a line of text
    for svg in curves_shown:
        legend = svg.locator("g[id^=legend_]").bounding_box()
        plot = svg.locator(
            "g[id=axes_1] g[id=patch_2], g[id=axes_1] g[id=patch_1]"
        ).first.bounding_box()
        assert legend and plot
        assert legend["y"] >= plot["y"] + plot["height"]
    page.close()


def test_the_model_card_carries_names_without_their_markup(report):
    card = (report / "model_card.md").read_text()
    assert r"Biz \<b\>&amp;\</b\>" in card
    assert "| Accuracy |" in card
