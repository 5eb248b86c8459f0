"""Caption tables in the forms that go round, written by csv, against the captions they were written from."""

import csv
import io
import json
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data.sources import read_official_split, read_source

ROWS = [
    ("a.jpg", "A dog, a cat; and | a bird ."),
    ("a.jpg", 'He says "hi" .'),
    ("b.jpg", "2 dogs run\nto 3 cats"),
    ("사진.jpg", "Ünder\tsoft light"),
    ("b.jpg", "Plain words"),
]
CAPTIONS = {"a.jpg": (ROWS[0][1], ROWS[1][1]), "b.jpg": (ROWS[2][1], ROWS[4][1]), "사진.jpg": (ROWS[3][1],)}


def source(folder: Path, content: str | bytes) -> SourceConfig:
    """A Flickr8k whose photos are a.jpg, b.jpg and 사진.jpg."""
    (folder / "Images").mkdir(exist_ok=True)
    for name in CAPTIONS:
        (folder / "Images" / name).touch()
    (folder / "captions.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return SourceConfig(format="flickr8k", path=str(folder), split="official")


def captions(where: SourceConfig) -> dict[str, tuple[str, ...]]:
    samples = read_source(where)
    assert [s.path for s in samples] == [Path(where.path, "Images", s.name) for s in samples]
    return {sample.name: sample.captions for sample in samples}


def written(header: list[str], rows: list[list[str]], **dialect: object) -> str:
    file = io.StringIO()
    csv.writer(file, **{"lineterminator": "\n", **dialect}).writerows([header, *rows])  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_dialects(tmp_path: Path, delimiter: str, quoting: int, end: str) -> None:
    rows = [[name, text.replace("\n", end)] for name, text in ROWS]
    text = written(["image", "caption"], rows, delimiter=delimiter, quoting=quoting, lineterminator=end)
    broken = CAPTIONS | {"b.jpg": tuple(text.replace("\n", end) for text in CAPTIONS["b.jpg"])}
    assert captions(source(tmp_path, b"\xef\xbb\xbf" + text.encode())) == broken


@pytest.mark.parametrize("image", ["image", "image_name", "img_name", "filename", "file_name", "Image Path"])
@pytest.mark.parametrize("caption", ["caption", "comment", "text", "raw", "Comments"])
def test_columns_are_known_by_name_whatever_stands_beside_them(tmp_path: Path, image: str, caption: str) -> None:
    rows = [[str(i), text, "en", name, "0.5"] for i, (name, text) in enumerate(ROWS)]
    assert captions(source(tmp_path, written(["", caption, "lang", image, "id"], rows))) == CAPTIONS


@pytest.mark.parametrize(
    "form", ["{}", "Images/{}", "./Images/{}", "../input/flickr8k/Images/{}", "C:\\flickr\\Images\\{}", "/data/{}"]
)
@pytest.mark.parametrize("suffix", [True, False])
def test_names_lead_to_the_files(tmp_path: Path, form: str, suffix: bool) -> None:
    rows = [[form.format(name if suffix else name[:-4]), text, "train"] for name, text in ROWS]
    where = source(tmp_path, written(["image", "caption", "split"], rows))
    assert captions(where) == CAPTIONS
    assert read_official_split(where) == dict.fromkeys(CAPTIONS, "train")


def test_a_folder_in_the_name_tells_two_photos_apart(tmp_path: Path) -> None:
    where = source(tmp_path, "image,caption\nx/a,one\ny/a,two\na,three\n")
    for folder in "xy":
        (tmp_path / "Images" / folder).mkdir()
        (tmp_path / "Images" / folder / "a.jpg").touch()
    assert captions(where) == {"x/a.jpg": ("one",), "y/a.jpg": ("two",), "a.jpg": ("three",)}


def test_split_column_and_the_more_careful_of_two_values(tmp_path: Path) -> None:
    rows = "a.jpg,x,Train\na.jpg,y,test\nb.jpg,z,validation\n사진.jpg,w,\n"
    where = source(tmp_path, "image,caption,split\n" + rows)
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("b.jpg\n")
    assert read_official_split(where) == {"a.jpg": "test", "b.jpg": "val"}
    with pytest.raises(UserError, match=r"captions\.txt: row 3: unknown split 'odd'; known: train, "):
        read_official_split(source(tmp_path, "image,caption,split\na.jpg,x,train\nb.jpg,y,odd\n"))


@pytest.mark.parametrize("form", [json.dumps, str])
def test_all_captions_of_a_photo_as_one_list(tmp_path: Path, form: type[str]) -> None:
    lists = [[form(['A dog\'s "bone" .', "Two, men"]), "0", "a.jpg"], ["[a dog] runs", "1", "b.jpg"]]
    where = source(tmp_path, written(["raw", "sentids", "filename"], lists))
    assert captions(where) == {"a.jpg": ('A dog\'s "bone" .', "Two, men"), "b.jpg": ("[a dog] runs",)}


def test_quotes_that_are_a_part_of_captions(tmp_path: Path) -> None:
    text = 'image_name| comment_number| comment\na.jpg| 0| "Fresh" is the sign .\nb.jpg| 0| " open\n'
    assert captions(source(tmp_path, text)) == {"a.jpg": ('"Fresh" is the sign .',), "b.jpg": ('" open',)}


def test_broken_row_of_flickr30k_in_a_copy_with_commas(tmp_path: Path) -> None:
    text = "image,comment_number,comment\na.jpg, 3, A dog .\na.jpg, 4   A dog runs .,\n"
    assert captions(source(tmp_path, text)) == {"a.jpg": ("A dog .", "A dog runs .")}


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "N/A", " ", '""'])
def test_words_for_missing_captions_are_none(tmp_path: Path, word: str) -> None:
    assert captions(source(tmp_path, f"image,caption\na.jpg,{word}\na.jpg,None is here\n")) == {
        "a.jpg": ("None is here",)
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,caption,id\na.jpg,one, two,7\n", r"row 2 has 4 fields, the header 3; quote texts with ','"),
        ("image,caption\na.jpg,one,7\nb.jpg,two,8\n", r"all rows have more fields than line 1; name every column"),
        ("image,caption\na.jpg,one\nb.jpg\n", r"row 3 has 1 fields"),
        ("image,caption\na.jpg,one\n,two\n", r"row 3 has no image"),
        ("image,title\na.jpg,one\n", r"nor a header with a column caption or comment .*\(it has image, title\)"),
        ("caption\nA dog\n", r"nor a header with a column image or image_name"),
        ("image,caption,caption\na.jpg,one,two\n", r"has 2 columns caption"),
        ('image,caption\na.jpg,"one\nb.jpg,two\n', r"row 2 is not valid CSV"),
        ('image,caption\na.jpg,"one" two\n', r"row 2 is not valid CSV"),
        ('image\tcaption\na.jpg\t"one\nb.jpg\t"says ""hi"""\n', r"row 2 is not valid CSV"),
        (f'image,caption\na.jpg,"{"one " * 40_000}"\n', r"row 2 is not valid CSV"),
    ],
)
def test_tables_that_cannot_be_read_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"captions\.txt: .*{message}") as caught:
        read_source(source(tmp_path, text))
    assert "\n" not in str(caught.value)
