"""The picture of the review page: a PNG of the promised size, and no half picture after a fault."""

import shutil
import struct
from pathlib import Path

import pytest

from cleantune.errors import UserError
from tools import screenshot

pytestmark = pytest.mark.browser


def test_it_photographs_a_page(tmp_path):
    if shutil.which("chromium") is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    page, picture = tmp_path / "page.html", tmp_path / "images/page.png"
    page.write_text("<!doctype html><title>t</title><p>text")
    screenshot.photograph(page, picture)
    content = picture.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (screenshot.WIDTH, screenshot.HEIGHT)


def test_a_missing_page_names_the_stage_that_writes_it(tmp_path):
    with pytest.raises(UserError, match="dvc repro label_noise"):
        screenshot.photograph(Path("missing.html"), tmp_path / "page.png")
    assert not list(tmp_path.iterdir())
