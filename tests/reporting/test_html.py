"""The page as HTML."""

from pathlib import Path

import numpy as np
import pytest

from src.common.errors import UserError
from src.reporting.embedded_images import image_uri
from src.reporting.html import MAX_BYTES, Gallery, GalleryImage, Page, Section, write_page


def test_a_page_escapes_what_it_shows_and_keeps_its_limit(tmp_path: Path) -> None:
    photo = GalleryImage(
        image_uri(np.zeros((4, 9, 3), np.uint8), 8), "<b>", "</script><script>alert(1)</script>", ["&"]
    )
    page = Page("a < b", [], [Section("One", "", [Gallery("all", [photo])])], [("data:,", "</script>")])
    write_page(page, tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text()
    assert text.count("<script") == 2  # the page's own
    page.hover_images = [("data:," + "x" * MAX_BYTES, "")]
    with pytest.raises(UserError, match="reduce --photos"):
        write_page(page, tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text() == text
