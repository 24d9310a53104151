"""Write the picture of the review page that README shows.

    python -m tools.screenshot                    # docs/images/review_page.png

Opens reports/label_review.html, which ``dvc repro label_noise`` writes, in headless Chromium (Debian's package
``chromium``) and photographs the part that fits the window.
"""

import argparse
import shutil
from pathlib import Path

from cleantune import console, files
from cleantune.errors import UserError
from cleantune.labels.review_page.page import PAGE

PICTURE = Path("docs/images/review_page.png")
WIDTH, HEIGHT = 1280, 800  # pixels


def photograph(page: Path, picture: Path) -> None:
    """Write what a browser shows of ``page`` to ``picture``, a PNG of ``WIDTH`` x ``HEIGHT`` pixels.

    Raises ``UserError`` when the page, the package playwright or Chromium is missing.
    """
    if not page.is_file():
        raise UserError(f"{page} is missing. `dvc repro label_noise` writes it.")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise UserError("playwright is missing. `pip install playwright`.") from None
    chromium = shutil.which("chromium")
    if chromium is None:
        raise UserError("Chromium is missing. On Debian: `apt-get install chromium`.")
    picture.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, files.atomic_file(picture) as part:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        opened.goto(page.resolve().as_uri())
        part.write_bytes(opened.screenshot(type="png"))
        browser.close()


def main() -> None:
    """Photograph the review page."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshot", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--page", type=Path, default=PAGE, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=PICTURE, help="(default: %(default)s)")
    arguments = parser.parse_args()
    photograph(arguments.page, arguments.out)
    console.outputs(arguments.out)


if __name__ == "__main__":
    console.run(main)
