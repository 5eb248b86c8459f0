"""Zips in and out: photos of an uploaded zip with its limits, and predictions to download."""

import csv
import io
import stat
import struct
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from src.common.errors import UserError
from src.inference.predictor import PredictionError
from src.serving.page import zip_photos
from src.serving.page.downloads import captions_zip, submission_csv
from src.serving.page.zip_photos import read_zip


def pack(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    file.seek(0)
    return file


def test_photos_are_read_by_name_and_all_else_is_counted() -> None:
    hidden = dict.fromkeys(["__MACOSX/a/._1.jpg", ".DS_Store", "a/.trash/1.jpg", "._2.png"], b"x")
    outside = dict.fromkeys(["../up.jpg", "a/../../up.jpg", "/root.jpg", "C:/disk.jpg", "a\\..\\b.jpg"], b"x")
    files = {"b.PNG": b"second", "a/1.jpg": b"first", "a/": b"", "notes.txt": b"x", "LICENSE": b"x"}
    content = read_zip(pack({**files, **hidden, **outside}), 1)
    assert [(photo.name, photo.read()) for photo in content.photos] == [("a/1.jpg", b"first"), ("b.PNG", b"second")]
    assert content.left_out == {".txt": 1, "without suffix": 1, "hidden": 4, "with a path out of the zip": 5}


def test_a_file_that_cannot_be_read_is_an_error_of_its_photo() -> None:
    file = pack({"good.jpg": b"good", "large.jpg": b"x" * 1_000_001, "torn.jpg": b"torn photo", "lock.jpg": b"locked"})
    data = bytearray(file.getvalue().replace(b"torn photo", b"turn photo"))
    for begin, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the last entry's, in both of its headers
        struct.pack_into("<H", data, data.rindex(begin) + flags, 1)
    results = {photo.name: photo.read() for photo in read_zip(io.BytesIO(data), 1).photos}
    assert results.pop("good.jpg") == b"good"
    reasons = {name: result.reason for name, result in results.items() if isinstance(result, PredictionError)}
    assert reasons["large.jpg"] == "has more than 1 MB; make it smaller"
    assert reasons["torn.jpg"].startswith("is damaged")
    assert reasons["lock.jpg"].startswith("is locked by a password")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_methods_that_unpack_by_the_piece_are_read(method: int) -> None:
    [photo] = read_zip(pack({"bomb.jpg": bytes(2000)}, method), 1).photos
    assert photo.read() == PredictionError("is packed in a rare way; pack it as deflate")


def test_a_size_that_the_zip_understates_is_bounded() -> None:
    file = pack({"bomb.jpg": bytes(3_000_000)}, zipfile.ZIP_DEFLATED)
    data = bytearray(file.getvalue())
    for begin, size in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(begin) + size, 100)
    [photo] = read_zip(io.BytesIO(data), 1).photos
    assert isinstance(photo.read(), PredictionError)


def test_a_link_is_the_text_that_it_holds(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    entry, file = zipfile.ZipInfo("link.jpg"), io.BytesIO()
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(entry, str(tmp_path / "secret"))
    file.seek(0)
    [photo] = read_zip(file, 1).photos
    assert photo.read() == str(tmp_path / "secret").encode()


def test_zips_beyond_the_limits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no zip"):
        read_zip(io.BytesIO(b"PK no zip at all"), 1)
    with pytest.raises(UserError, match=r"holds no photos \(1 \.txt\)"):
        read_zip(pack({"a.txt": b""}), 1)
    with pytest.raises(UserError, match="more than 100 times its size"):
        read_zip(pack({"bomb.bmp": bytes(900_000)}, zipfile.ZIP_DEFLATED), 1)
    monkeypatch.setattr(zip_photos, "MAX_FILES", 3)
    assert len(read_zip(pack(dict.fromkeys(["1.jpg", "2.jpg", "3.jpg"], b"x")), 1).photos) == 3
    with pytest.raises(UserError, match="more than 3 files"):
        read_zip(pack(dict.fromkeys(["1.jpg", "2.jpg", "3.jpg", "4.txt"], b"x")), 1)


def test_downloads_have_the_columns_of_a_submission_and_a_text_for_each_photo() -> None:
    names, captions = ["a/1.jpg", "a/1.png", "two.jpg"], ["a dog, running", 'a "cat"', "two\nlines"]
    table = pd.DataFrame({"photo": names, "mos": [1.5, 2.0, 3.25], "caption": captions, "score": 0.0})
    rows = list(csv.reader(io.StringIO(submission_csv(table).decode())))
    assert rows[0] == ["img_name", "mos", "comments"]
    assert rows[1:] == [["a/1.jpg", "1.500000", captions[0]], ["a/1.png", "2.000000", captions[1]], [
        "two.jpg", "3.250000", "two lines"]]  # fmt: skip
    assert submission_csv(table.assign(mos=None)).startswith(b"img_name,comments\n")
    assert submission_csv(table.assign(caption="")).startswith(b"img_name,mos\n")
    with zipfile.ZipFile(io.BytesIO(captions_zip(table))) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert texts == {"a/1.jpg.txt": "a dog, running\n", "a/1.png.txt": 'a "cat"\n', "two.txt": "two lines\n"}
