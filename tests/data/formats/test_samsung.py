import math
import time
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.schema import DataConfig, SourceConfig
from src.data.formats import samsung
from src.data.sources import official_splits, read_source, read_sources

HEAD = "img_name,img_path,mos,comments\n"
NAMES = ["0213074526", "1e5", "00", "two words", "바다 사진", "nan", "NA", "True", "1.0", "-0"]


def source(folder: Path, text: str | bytes, **options: str) -> SourceConfig:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return SourceConfig(format="samsung", path=str(folder), **options)


def test_names_stay_as_written(tmp_path: Path) -> None:
    rows = "".join(f"{name},./train/{name}.jpg,5.5,fine\n" for name in NAMES)
    samples = read_source(source(tmp_path, HEAD + rows))
    assert [sample.name for sample in samples] == NAMES
    assert [sample.path for sample in samples] == [tmp_path / "train" / f"{name}.jpg" for name in NAMES]


def test_rows_of_one_photo_become_one_sample(tmp_path: Path) -> None:
    rows = 'b,./train/b.jpg,4.25,one\na,./train/a.jpg,3,\nb,./train/b.jpg,4.25,"two, and more"\nb,./train/b.jpg,,\n'
    first, second = read_source(source(tmp_path, HEAD + rows, name="ours"))
    assert (first.name, first.mos, first.captions, first.source) == ("b", 4.25, ("one", "two, and more"), "ours")
    assert (second.name, second.mos, second.captions) == ("a", 3.0, ())


def test_disagreeing_mos_are_averaged_and_found(tmp_path: Path) -> None:
    where = source(tmp_path, HEAD + "a,a.jpg,4,x\nb,b.jpg,1,x\na,a.jpg,5,y\nb,b.jpg,1.0,y\n")
    assert [sample.mos for sample in read_source(where)] == [4.5, 1.0]
    assert samsung.conflicting_mos(where) == {"a": [4.0, 5.0]}


def test_columns_may_be_missing_and_values_empty(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").touch()
    samples = read_source(source(tmp_path, "img_name\na\nb\n"))
    assert [(s.mos, s.captions) for s in samples] == [(None, ()), (None, ())]
    assert [s.path for s in samples] == [tmp_path / "train" / "a.png", tmp_path / "train" / "b.jpg"]
    empty = read_source(source(tmp_path, HEAD + "a,./train/a.png,,\nb,./train/b.png,nan,  \n"))
    assert [(s.mos, s.captions) for s in empty] == [(None, ()), (None, ())]


@pytest.mark.parametrize("word", ["nan", "None", " NULL ", "n/a", "<NA>"])
def test_words_for_missing_values_are_no_mos_and_no_comment(tmp_path: Path, word: str) -> None:
    where = source(tmp_path, HEAD + f"nan,a.jpg,{word},{word}\nnan,a.jpg,5,none of it is sharp\nb,b.jpg,4,{word}\n")
    first, second = read_source(where)
    assert (first.name, first.mos, first.captions) == ("nan", 5.0, ("none of it is sharp",))
    assert (second.mos, second.captions) == (4.0, ())


def test_photos_in_another_folder_and_with_backslashes(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    text = HEAD + "a,.\\train\\a.jpg,1,x\n"
    assert read_source(source(tmp_path, text))[0].path == tmp_path / "train" / "a.jpg"
    assert read_source(source(tmp_path, text, images="small"))[0].path == tmp_path / "small" / "a.jpg"
    (tmp_path / "small" / "a.png").touch()
    for text in (HEAD + "a,,1,x\n", "img_name\na\n"):
        assert read_source(source(tmp_path, text, images="small"))[0].path == tmp_path / "small" / "a.png"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = HEAD + "사진 1,./train/사진 1.jpg,5,좋은 사진\n"
    (sample,) = read_source(source(tmp_path, text.encode(encoding)))
    assert (sample.name, sample.captions) == ("사진 1", ("좋은 사진",))


def test_text_too_long_for_a_path_is_an_absent_photo(tmp_path: Path) -> None:
    (sample,) = read_source(source(tmp_path, HEAD + f"a,{'사진' * 100},5,x\n"))
    assert sample.path.name == "사진" * 100


def test_names_decomposed_on_disk_are_found(tmp_path: Path) -> None:
    import unicodedata

    (tmp_path / "train").mkdir()
    on_disk = tmp_path / "train" / unicodedata.normalize("NFD", "사진.jpg")
    on_disk.touch()
    (sample,) = read_source(source(tmp_path, HEAD + "사진,./train/사진.jpg,5,x\n"))
    assert sample.path == on_disk
    assert sample.name == unicodedata.normalize("NFC", "사진")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "a,a.jpg,1,x\nb,b.jpg,good,x\n", r"train\.csv: row 3: mos 'good'"),
        (HEAD + "a,a.jpg,inf,x\n", r"row 2: mos 'inf'"),
        (HEAD + "a,a.jpg,5,x\na,a.jpg,1e308,x\n", r"row 3: mos '1e308'"),
        (HEAD + "a,a.jpg,-1e308,x\n", r"row 2: mos '-1e308'"),
        (HEAD + 'a,a.jpg,"5,5",x\n', r"row 2: mos '5,5'"),
        ("name,mos\na,1\n", r"no column img_name"),
        (HEAD, r"no rows"),
        ("", r"train\.csv"),
        (HEAD + "a,a.jpg,1,x\n,b.jpg,1,x\n", r"row 3 has no img_name"),
        (HEAD + "a,a.jpg,1,good, but dark\n", r"quote"),
        (HEAD + "a,a.jpg,1,x\na,b.jpg,1,x\n", r"photo a has two paths \(row 2, row 3\)"),
        (HEAD.encode() + b"a,a.jpg,1,\xff\xfe\x00\n", r"line 2 is not UTF-8, and neither cp949 nor cp1252"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_source(source(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["open", "archive/open"])
def test_archive_unpacked_into_a_folder_of_its_own(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder / "train").mkdir(parents=True)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "train.csv").touch()
    source(tmp_path / folder, HEAD + "a,./train/a.jpg,1,x\n")
    (sample,) = read_source(SourceConfig(path=str(tmp_path)))
    assert sample.path == tmp_path / folder / "train" / "a.jpg"
    source(tmp_path / "archive" / "backup" if "/" in folder else tmp_path / "backup", HEAD + "a,./train/a.jpg,1,x\n")
    with pytest.raises(UserError, match=r"backup/train\.csv and .*open/train\.csv; name one with the key `captions`"):
        read_source(SourceConfig(path=str(tmp_path)))


def test_missing_files_folders_and_splits_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no train\.csv"):
        read_source(SourceConfig(path=str(tmp_path)))
    with pytest.raises(UserError, match="no such folder"):
        read_source(SourceConfig(path=str(tmp_path / "absent")))
    with pytest.raises(UserError, match="no path"):
        read_source(SourceConfig(name="x"))
    where = source(tmp_path, HEAD + "a,a.jpg,1,x\n", split="official")
    with pytest.raises(UserError, match="no official split"):
        official_splits(DataConfig(sources=[where]))


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    where = source(tmp_path, HEAD + "a,a.jpg,1,x\n")
    with pytest.raises(UserError, match="two are called samsung"):
        read_sources(DataConfig(sources=[where, where]))
    with pytest.raises(UserError, match=r"data\.sources is empty"):
        read_sources(DataConfig())


def test_hundred_thousand_rows_take_seconds_and_time_is_linear(tmp_path: Path) -> None:
    def seconds(rows: int) -> float:
        lines = [f"p{i // 2},./train/p{i // 2}.jpg,{i // 2 % 9 + 0.5},a comment of {i} words\n" for i in range(rows)]
        where = source(tmp_path, HEAD + "".join(lines))
        start = time.process_time()
        samples = read_source(where)
        spent = time.process_time() - start
        assert len(samples) == rows // 2
        assert math.isclose(samples[-1].mos or 0, (rows // 2 - 1) % 9 + 0.5)
        return spent

    few, many = seconds(20_000), seconds(100_000)
    assert many < 10
    assert many < 5 * few * 3  # five times the rows; a quadratic reader takes 25 times as long
