"""The review page in headless Chromium: by keyboard alone, with hostile texts, with 5,000 flagged labels.

Needs Chromium (Debian's package ``chromium``); skipped, and saying so, where there is none.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from cleantune import files
from cleantune.data import tables
from cleantune.labels import corrections
from cleantune.labels.review_page import page as review_page
from cleantune.labels.review_page.content import FlaggedLabels
from stages import clean, label_noise
from tools import review

pytestmark = pytest.mark.browser

NAMES = ["World", "Sports", 'Biz "<b>&amp;', "Sci/Tech"]
HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'><svg onload=window.hacked=1>",
    "\u202egnp.exe \u2066left\u2069 and \u200bnothing",
    'it\'s "quoted", `ticked` & ${window.hacked = 1} {{style}} {{data}}',
    "<!-- <script> ]]> \u2028 line \u2029 paragraph \x07 bell",
    "שלום עולם and English, مرحبا",
]
# What the page has to show of each, in place of what cannot be seen.
VISIBLE = {
    "\u202e": "RLO", "\u2066": "LRI", "\u2069": "PDI", "\u200b": "U+200B",
    "\u2028": "U+2028", "\u2029": "U+2029", "\x07": "U+0007",
}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


class Reviewer:
    """A person at the page who has a keyboard and no mouse, and hears every complaint it makes."""

    def __init__(self, context: BrowserContext, path: Path) -> None:
        self.page: Page = context.new_page()
        self.path = path
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.open()

    def open(self) -> None:
        self.page.goto(self.path.resolve().as_uri())

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def where(self) -> tuple[str, str]:
        """Return position and id of the document in hand."""
        position, name, *_ = self.page.locator("#where > *").all_inner_texts()
        return position, name

    def classes(self) -> list[str]:
        return self.page.locator(".label .class").all_inner_texts()

    def listed(self) -> list[str]:
        return self.page.locator(".row .name").all_inner_texts()

    def export(self, path: Path) -> Path:
        with self.page.expect_download() as download:
            self.press("e")
        assert download.value.suggested_filename == "corrections.csv"
        download.value.save_as(path)
        return path

    def check(self) -> None:
        """Assert that nothing went wrong and that nothing was fetched but the file itself."""
        assert self.complaints == []
        own = self.path.resolve().as_uri()
        assert {url for url in self.requests if not url.startswith(("data:", "blob:"))} == {own}
        assert self.page.evaluate("window.hacked") is None


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    yield opened
    opened.close()


def write_page(
    count: int,
    text: str = "",
    names: list[str] = NAMES,
    metadata: dict[str, list[str]] | None = None,
    unchecked: tuple[str, ...] = (),
) -> tuple[pd.DataFrame, Path]:
    """Write raw data and a page of ``count`` flagged labels, the hostile texts first; into the folder.

    Document i has label i, modulo the number of classes, and the next one is suggested.
    """
    classes = len(names)
    texts = [HOSTILE[i] if i < len(HOSTILE) else f"document {i} {text}" for i in range(count)]
    raw = pd.DataFrame(
        {
            "id": [f"train-{i}" for i in range(count)],
            "title": [f"Title {i} {t[:60]}" for i, t in enumerate(texts)],
            "text": texts,
            "label": np.arange(count) % classes,
        }
    )
    tables.write_table(tables.RAW / "train.parquet", raw, tables.TEXT_COLUMNS)
    tables.write_table(tables.RAW / "test.parquet", raw[:0], tables.TEXT_COLUMNS)
    files.write_json(tables.SOURCE, {"dataset": "custom", "labels": names})
    at = np.arange(count)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(classes), count)
    flagged = FlaggedLabels(
        rows=at,
        suggested=(at + 1) % classes,
        quality=at / count,
        probabilities=probabilities,
        neighbours=(at[:, None] + np.arange(1, 6)) % count,
        similarity=np.tile([0.9, 0.8, 0.7, 0.6, 0.5], (count, 1)),
        reasons=[[f"because of {HOSTILE[0]}"]] * count,
    )
    none = corrections.read_corrections(corrections.CORRECTIONS, raw, names, "custom")
    documents = raw.assign(
        **{f"metadata.{name}": values for name, values in (metadata or {}).items()}
    )
    review_page.write_page(
        review_page.PAGE, "custom", names, documents, raw, flagged, none, unchecked
    )
    return raw, review_page.PAGE


def test_hostile_texts_are_shown_and_do_nothing(workspace, context):
    _, path = write_page(12)
    reviewer = Reviewer(context, path)
    for text in HOSTILE:
        expected = text
        for control, name in VISIBLE.items():
            expected = expected.replace(control, name)
        assert reviewer.page.text_content("#text") == expected
        assert not set(VISIBLE) & set(reviewer.page.content().split("<script type=")[0])
        reviewer.press("ArrowDown")
    inside = "#document :is(script, img, svg, b, iframe, style), #list :is(script, img, svg, b)"
    assert reviewer.page.locator(inside).count() == 0
    assert NAMES[2] in reviewer.text("#labels")
    assert HOSTILE[0] in reviewer.text("#why")
    reviewer.press("Home", "/")
    reviewer.type("<IMG SRC")
    assert reviewer.where() == ("1 of 1", "train-1")
    reviewer.check()
    # and were markup to get in all the same, the policy would stop it
    reviewer.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=y onerror=\"hacked=1\">')"
    )
    reviewer.page.wait_for_timeout(200)
    assert reviewer.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in complaint for complaint in reviewer.complaints)


def test_a_review_by_keyboard_alone_ends_in_data_corrections(workspace, context, tmp_path):
    raw, path = write_page(12)
    reviewer = Reviewer(context, path)
    reviewer.press("a")  # train-0: World -> Sports
    reviewer.press("k")  # train-1: keep Sports
    third = reviewer.classes()[2]
    reviewer.press("3")  # train-2: the third in the order of probability
    reviewer.press("n")
    reviewer.type('a "note", 3 <b> akus1')
    reviewer.press("Enter")
    likeliest = reviewer.classes()[0]
    reviewer.press("1")  # train-3, with the note
    reviewer.press("s")  # train-4: skipped
    reviewer.press("a", "u")  # train-5: decided and undone
    assert reviewer.where() == ("6 of 12", "train-5")
    assert reviewer.text("#counts") == "4 of 12 reviewed · 3 changed · 1 kept · 1 skipped"

    reviewer.open()  # as after closing the browser
    assert reviewer.text("#counts") == "4 of 12 reviewed · 3 changed · 1 kept · 1 skipped"
    assert reviewer.where() == ("6 of 12", "train-5")
    reviewer.press("ArrowUp", "ArrowUp")
    assert reviewer.page.input_value("#note").startswith('a "note"')
    reviewer.press("u", "u")  # the skip, then train-3, a reload ago
    assert reviewer.where() == ("4 of 12", "train-3")
    assert reviewer.text("#counts") == "3 of 12 reviewed · 2 changed · 1 kept"
    assert reviewer.classes()[0] == likeliest
    reviewer.press("1")
    exported = reviewer.export(tmp_path / "exported.csv")
    reviewer.check()

    review.apply_file(exported)
    table = corrections.read_corrections(corrections.CORRECTIONS, raw, NAMES, "custom")
    assert dict(zip(table["id"], table["new_label"], strict=True)) == {
        "train-0": 1, "train-1": 1, "train-2": NAMES.index(third), "train-3": NAMES.index(likeliest),
    }  # fmt: skip
    assert table["note"].tolist() == ["", "", "", 'a "note", 3 <b> akus1']


def test_five_thousand_flagged_labels_cost_the_page_no_more_than_sixty(workspace, context):
    def nodes(reviewer: Reviewer) -> int:
        count: int = reviewer.page.evaluate("document.querySelectorAll('*').length")
        return count

    _, path = write_page(60)
    few = nodes(Reviewer(context, path))
    _, path = write_page(5000, "of five thousand")
    reviewer = Reviewer(context, path)
    assert abs(nodes(reviewer) - few) < 20
    before = reviewer.page.evaluate("localStorage.length")
    reviewer.press("End")
    assert reviewer.where() == ("5,000 of 5,000", "train-4999")
    reviewer.page.wait_for_function("document.querySelector('[aria-selected=true]') !== null")
    assert abs(nodes(reviewer) - few) < 20
    # what a decision draws and writes does not grow with what is listed
    reviewer.page.evaluate(
        """() => { window.drawn = 0; window.written = 0;
          new MutationObserver((all) => { for (const m of all) drawn += m.addedNodes.length; })
            .observe(document.body, { childList: true, subtree: true });
          const set = Storage.prototype.setItem;
          Storage.prototype.setItem = function (k, v) { written += v.length; set.call(this, k, v); }; }"""
    )
    reviewer.press("Home", *"akakakakak")
    reviewer.page.wait_for_timeout(100)
    assert reviewer.page.evaluate("localStorage.length") == before + 11
    assert 0 < reviewer.page.evaluate("drawn") < 11 * 4 * nodes(reviewer)
    assert 0 < reviewer.page.evaluate("written") < 11 * 1000
    reviewer.press("/")
    reviewer.type("document 4321 ")
    assert reviewer.where() == ("1 of 1", "train-4321")
    reviewer.check()


def test_filter_sort_and_clear(workspace, context):
    _, path = write_page(40)
    reviewer = Reviewer(context, path)
    reviewer.press("f", "ArrowDown", "Escape")  # the first pair, of ten flagged labels
    assert reviewer.where()[0] == "1 of 10"
    pairs = {row.inner_text() for row in reviewer.page.locator(".row .pair").all()}
    assert len(pairs) == 1
    reviewer.press("a", "k", "s", "w", "ArrowDown", "Escape")  # to do
    assert reviewer.where()[0] == "1 of 7"
    reviewer.press("w", "ArrowDown", "Escape")  # reviewed
    assert len(reviewer.listed()) == 2
    reviewer.press("u")  # what was undone is no longer listed, so the filters go
    assert reviewer.where()[0].endswith("of 40")
    reviewer.press("o", "ArrowDown", "Escape", "Home")  # surest suggestion
    assert reviewer.page.input_value("#sort") == "confident"
    shares = []
    for _ in range(40):
        shares.append(reviewer.page.text_content(".label:has(.role:text('suggested')) .share"))
        reviewer.press("ArrowDown")
    values = [int(share.strip("<% ")) for share in shares if share]
    assert values == sorted(values, reverse=True)
    reviewer.press("/")
    reviewer.type("no such words")
    assert reviewer.text("#title") == "No match"
    reviewer.press("Escape", "Escape")
    assert reviewer.where()[0].endswith("of 40")
    reviewer.check()


def test_decisions_belong_to_one_version_of_the_data(workspace, context, tmp_path):
    _, path = write_page(12)
    reviewer = Reviewer(context, path)
    reviewer.press("a", "a")
    assert reviewer.text("#counts").startswith("2 of 12")
    write_page(12, "of another version")
    reviewer.open()
    assert reviewer.text("#counts").startswith("0 of 12")
    write_page(12)
    reviewer.open()
    assert reviewer.text("#counts").startswith("2 of 12")
    reviewer.check()


def test_a_browser_that_keeps_nothing_says_so_and_still_exports(workspace, context, tmp_path):
    context.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); }")
    _, path = write_page(12)
    reviewer = Reviewer(context, path)
    reviewer.press("a")
    assert "export before you close" in reviewer.text("#toast")
    assert len(reviewer.export(tmp_path / "x.csv").read_text().splitlines()) == 2


# Every element with text of its own: the contrast of its colour with what lies behind it (WCAG 2.1).
CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const c of colours) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (c) => c.map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && !e.disabled && !e.closest("script, kbd, option, [disabled]"))
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((e) => {
      const behind = [];
      for (let p = e; p; p = p.parentElement) behind.unshift(getComputedStyle(p).backgroundColor);
      const [a, b] = [rgb(behind), rgb([...behind, getComputedStyle(e).color])].map(light);
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      return [contrast, `${e.tagName} ${e.id} ${e.className} ${e.textContent.slice(0, 30)}`];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_are_readable_at_every_width(workspace, browser, tmp_path, scheme):
    _, path = write_page(40, "with words enough to fill a line or two of the page " * 5)
    for width in (390, 768, 1000, 1440):
        context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme, device_scale_factor=1
        )
        reviewer = Reviewer(context, path)
        reviewer.press("a", "k", "s", "ArrowUp", "ArrowUp")
        assert reviewer.page.evaluate("document.documentElement.scrollWidth") <= width
        found = reviewer.page.evaluate(CONTRASTS)
        assert len(found) > 20
        low = [entry for entry in found if entry[0] < 4.5]
        assert low == []
        picture = reviewer.page.screenshot(path=tmp_path / f"{scheme}-{width}.png")
        assert len(picture) > 10_000
        corner = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        assert (sum(reviewer.page.evaluate(corner)) / 3 > 127) == (scheme == "light")
        if width == 390:
            reviewer.press("l")
            assert reviewer.page.locator(".row").first.is_visible()
            reviewer.press("Escape")
            assert not reviewer.page.locator(".row").first.is_visible()
        reviewer.check()
        context.close()


def test_focus_is_always_visible_and_reaches_everything(workspace, context):
    _, path = write_page(12)
    reviewer = Reviewer(context, path)
    reached = set()
    for _ in range(30):
        reviewer.press("Tab")
        name, seen = reviewer.page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e);
              const ring = s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2;
              return [e.id || e.className, ring || s.boxShadow !== "none" || e === document.body]; }"""
        )
        assert seen, name
        reached.add(name)
    buttons = {f"{name}-button" for name in ("accept", "keep", "skip", "keys", "export")}
    assert reached >= buttons | {
        "search",
        "pair",
        "state",
        "sort",
        "list",
        "note",
        "label",
        "reading",
    }
    reviewer.press("Escape", "?")
    assert reviewer.page.locator("#keys").is_visible()
    reviewer.press("a")
    assert reviewer.text("#counts").startswith("0 of 12")
    reviewer.press("Escape")
    assert not reviewer.page.locator("#keys").is_visible()
    reviewer.check()


def test_a_key_held_down_decides_once(workspace, context):
    _, path = write_page(12)
    reviewer = Reviewer(context, path)
    for _ in range(5):
        reviewer.page.keyboard.down("a")
    assert reviewer.text("#counts").startswith("1 of 12")
    reviewer.page.keyboard.up("a")


def class_names(count: int) -> list[str]:
    return [f"class_{i}" for i in range(count)]


@pytest.mark.parametrize("count", [2, 5, 13, 77, 150])
def test_any_number_of_classes_is_reviewed_the_same_way(workspace, context, tmp_path, count):
    names = class_names(count)
    _, path = write_page(160, names=names)
    reviewer = Reviewer(context, path)
    decided = {}
    for _ in range(10):
        rows = reviewer.page.locator(".label").all_inner_texts()
        shares = [int(re.findall(r"(\d+) %", row)[0]) for row in rows]
        assert shares == sorted(shares, reverse=True)
        assert min(count, 10) <= len(rows) <= 12
        roles = " ".join(rows)
        assert "given" in roles and "suggested" in roles
        assert reviewer.page.locator("#class-search").is_visible() == (count > 10)
        # the digits set what they stand beside
        last = min(count, 10)
        key = reviewer.page.locator(".label kbd").nth(last - 1).inner_text()
        decided[reviewer.where()[1]] = reviewer.classes()[last - 1]
        reviewer.press(key)
    if count > 10:
        absent = next(name for name in names if name not in reviewer.classes())
        decided[reviewer.where()[1]] = absent
        reviewer.press("c")
        reviewer.type(absent)
        assert reviewer.classes()[0] == absent  # class_1 before class_10
        assert absent in reviewer.text("#announce")
        reviewer.press("Enter", "ArrowUp")
        assert reviewer.page.input_value("#class-search") == ""
        # what was chosen is in sight, too
        assert absent in reviewer.text(".label[aria-pressed=true]")
    exported = pd.read_csv(reviewer.export(tmp_path / "exported.csv"))
    assert dict(zip(exported["id"], exported["new_label"], strict=True)) == decided
    reviewer.check()


def test_colours_tell_classes_apart_or_are_not_used(workspace, context):
    for count in (8, 9):
        _, path = write_page(40, names=class_names(count))
        reviewer = Reviewer(context, path)
        colours = reviewer.page.evaluate(
            """[...document.querySelectorAll(".label .class")].map((e) => {
              const dot = getComputedStyle(e, "::before");
              return dot.content === "none" ? "none" : dot.backgroundColor; })"""
        )
        assert len(colours) == count
        assert len(set(colours)) == (8 if count == 8 else 1)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080)])
def test_labels_and_buttons_stay_in_sight_beside_a_long_text(workspace, browser, width, height):
    _, path = write_page(100, "word " * 5000, class_names(77))
    opened = browser.new_context(viewport={"width": width, "height": height})
    reviewer = Reviewer(opened, path)
    for _ in range(8):
        reviewer.press("ArrowDown")
    scroll = "document.querySelector('#reading').scrollTop"
    for _ in range(5):
        reviewer.press("PageDown")
    assert reviewer.page.evaluate(scroll) > height
    parts = [*reviewer.page.locator("#actions button, .label, #note, #class-search").all()]
    assert len(parts) >= 4 + 10 + 2
    for part in parts:
        box = part.bounding_box()
        assert box is not None
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    reviewer.press("ArrowDown")
    assert reviewer.page.evaluate(scroll) == 0
    opened.close()


def test_metadata_are_shown_and_filter_with_the_other_filters(workspace, context, tmp_path):
    """``source`` has few values, and one hostile; ``date`` has one for each document."""
    source = ["web", "phone", "", HOSTILE[0]] * 10
    date = [f"2024-{i // 28 + 1:02d}-{i % 28 + 1:02d}" for i in range(40)]
    _, path = write_page(40, metadata={"source": source, "date": date})
    reviewer = Reviewer(context, path)
    assert reviewer.text("#metadata").split() == ["source", "web", "date", "2024-01-01"]
    select = reviewer.page.locator("#metadata-0")
    assert select.locator("option").all_inner_texts()[:2] == ["All (40)", "web (10)"]
    assert "(none) (10)" in select.locator("option").all_inner_texts()
    select.select_option("web (10)")
    assert reviewer.where()[0] == "1 of 10"
    dates = reviewer.page.locator("#metadata-1")
    assert dates.get_attribute("list") == "metadata-1-list"
    assert reviewer.page.locator("#metadata-1-list option").count() == 40
    dates.fill("2024-02")  # any part of a value
    assert reviewer.where()[0] == "1 of 3"
    dates.fill("2024-02-05 (1)")  # a value from the list
    assert reviewer.where() == ("1 of 1", "train-32")
    dates.blur()  # Enter would go to the browser's own list while that is open
    reviewer.press("a")
    assert reviewer.where()[0] == "1 of 1"
    reviewer.page.locator("#state").select_option("todo")
    assert reviewer.text("#title") == "No match"
    reviewer.page.locator("#clear-button").click()
    assert reviewer.where()[0].endswith("of 40")
    assert reviewer.export(tmp_path / "x.csv").read_text().splitlines()[0] == ",".join(
        corrections.COLUMNS
    )
    reviewer.check()


def test_many_class_pairs_are_searched_by_typing(workspace, context):
    _, path = write_page(160, names=class_names(77))
    reviewer = Reviewer(context, path)
    first = reviewer.page.locator("#pair-list option").first.get_attribute("value")
    assert first == "class_0 → class_1 (3)"  # the commonest
    reviewer.press("f")
    reviewer.type("class_7 → any")
    assert reviewer.where()[0] == "1 of 2"
    reviewer.press("Enter")
    reviewer.page.wait_for_function("document.activeElement.id === 'reading'")
    reviewer.press("f")
    reviewer.type(first)
    assert reviewer.where()[0] == "1 of 3"
    reviewer.check()


def test_the_page_names_its_corpus_and_what_it_leaves_out(workspace, context):
    _, path = write_page(12, names=class_names(12), unchecked=("class_10", "class_11"))
    reviewer = Reviewer(context, path)
    assert reviewer.page.title() == "custom: label review"
    assert reviewer.text("h1") == "Label review: custom"
    reviewer.page.locator("#notes").evaluate("(e) => { e.open = true; }")
    assert "class_10, class_11." in reviewer.text("#notes")
    assert "Of 12 classes" in reviewer.text("#notes")
    _, path = write_page(12)
    assert not Reviewer(context, path).page.locator("#notes").is_visible()


def test_no_flagged_labels_is_a_page_too(workspace, context):
    write_page(12)
    raw = tables.read_table(tables.RAW / "train.parquet")
    none = FlaggedLabels(*(np.zeros(0, int),) * 2, np.zeros(0), np.zeros((0, 4)),
                         np.zeros((0, 5), int), np.zeros((0, 5)))  # fmt: skip
    empty = corrections.read_corrections(corrections.CORRECTIONS, raw, NAMES, "custom")
    review_page.write_page(review_page.PAGE, "custom", NAMES, raw, raw, none, empty)
    reviewer = Reviewer(context, review_page.PAGE)
    reviewer.press("a", "k", "1", "s", "u", "ArrowDown", "End", "g", "e")
    assert reviewer.text("#title") == "No flagged labels"
    reviewer.check()


def test_round_trip_from_flagged_to_corrected_labels(workspace, context, tmp_path):
    """label_noise -> page -> decisions -> export -> apply -> clean -> label_noise.

    The flagged documents are dropped from training (label_noise.action), unless a person reviewed them.
    """
    params = workspace / "params.yaml"
    text, changed = re.subn(r"^  action: \w+", "  action: drop", params.read_text(), flags=re.M)
    assert changed == 1
    # made-up words mean nothing to an encoder
    params.write_text(text.replace("  model: ensemble", "  model: tfidf"))
    rng = np.random.default_rng(0)
    names = ["Fruit", "Metal", "River"]
    words = [[f"{name.lower()}{i}" for i in range(25)] for name in names]
    true = np.repeat(np.arange(3), 60)
    wrong = rng.choice(180, 12, replace=False)
    given = true.copy()
    given[wrong] = (true[wrong] + 1) % 3
    texts = [" ".join(rng.choice(words[label], 14)) for label in true]
    ids = [f"train-{i}" for i in range(180)]
    raw = pd.DataFrame({"id": ids, "title": "", "text": texts, "label": given})
    test = raw.assign(id=[f"test-{i}" for i in range(180)], text=[f"{t} test" * 3 for t in texts])
    for name, table in (("train", raw), ("test", test.iloc[::6])):
        tables.write_table(tables.RAW / f"{name}.parquet", table, tables.TEXT_COLUMNS)
    files.write_json(tables.SOURCE, {"dataset": "custom", "labels": names})
    clean.main()
    label_noise.main()

    reviewer = Reviewer(context, review_page.PAGE)
    issues = tables.read_table(tables.LABELS / "issues.parquet")
    found = issues[issues["flagged"]]
    assert len(set(found["id"]) & {ids[i] for i in wrong}) >= 6
    decided = {}
    for i in range(len(found)):
        name = reviewer.where()[1]
        right = names[true[ids.index(name)]]
        if i == 0:  # the surest of all, and the person insists: the label stays as given
            assert right != names[given[ids.index(name)]]
            right = names[given[ids.index(name)]]
            insisted = name
        decided[name] = right
        if i % 2:
            reviewer.press(str(reviewer.classes().index(right) + 1))
        else:
            reviewer.press("a" if reviewer.text("#accept-button bdi") == right else "k")
    assert set(decided) == set(found["id"])
    review.apply_file(reviewer.export(tmp_path / "decisions.csv"))
    reviewer.check()

    clean.main()
    label_noise.main()
    table = pd.concat(
        tables.read_table(tables.CLEAN / f"{s}.parquet") for s in ("train", "validation")
    )
    cleaned = dict(zip(table["id"], table["label"], strict=True))
    assert {name: names[cleaned[name]] for name in decided if name in cleaned} == decided
    issues = tables.read_table(tables.LABELS / "issues.parquet")
    assert not set(issues.loc[issues["flagged"], "id"]) & set(decided)
    trained = tables.read_table(tables.LABELS / "train.parquet")
    assert insisted in {*trained["id"]} | {
        *tables.read_table(tables.CLEAN / "validation.parquet")["id"]
    }
    for name, label in zip(trained["id"], trained["label"], strict=True):
        assert names[label] == decided.get(name, names[label])
    # the page that is left shows none of them, and the browser has forgotten what is in the file
    reviewer.open()
    assert "from an earlier list" not in reviewer.text("#counts")
    assert reviewer.text("#counts").startswith("0 of ")
