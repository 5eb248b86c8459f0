import json
from pathlib import Path
from typing import Any

import pytest

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data.sources import read_official_split, read_source


def files(folder: Path, images: str = "Images", **texts: str) -> None:
    """Writes files; a double underscore in a name stands for a dot."""
    (folder / images).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")


def captions(folder: Path, format: str = "flickr8k", **options: Any) -> dict[str, tuple[str, ...]]:
    samples = read_source(SourceConfig(format=format, path=str(folder), **options))  # type: ignore[arg-type]
    assert all(sample.source == format and sample.mos is None for sample in samples)
    return {sample.name: sample.captions for sample in samples}


def split(folder: Path, format: str = "flickr8k") -> dict[str, str]:
    source = SourceConfig(format=format, path=str(folder), split="official")  # type: ignore[arg-type]
    return read_official_split(source)


TOKENS = "1_a.jpg#0\tA dog runs .\n1_a.jpg#1\tA brown dog , fast .\n바다 2.jpg#0\tThe sea .\n1_a.jpg#2\t\n"


@pytest.mark.parametrize("images", ["Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images"])
def test_token_file_and_folders_of_photos(tmp_path: Path, images: str) -> None:
    files(tmp_path, images, Flickr8k__token__txt=TOKENS)
    found = captions(tmp_path)
    assert found == {"1_a.jpg": ("A dog runs .", "A brown dog , fast ."), "바다 2.jpg": ("The sea .",)}
    (sample, _) = read_source(SourceConfig(format="flickr8k", path=str(tmp_path)))
    assert sample.path == tmp_path / images / "1_a.jpg"


def test_official_lists_and_photos_whose_captions_are_withheld(tmp_path: Path) -> None:
    files(tmp_path, Flickr8k__token__txt=TOKENS)
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("1_a.jpg\n")
    (tmp_path / "Flickr_8k.devImages.txt").write_text("바다 2.jpg\r\n\r\n", encoding="utf-8")
    (tmp_path / "Flickr_8k.testImages.txt").write_text("3_c.jpg\n")
    assert split(tmp_path) == {"1_a.jpg": "train", "바다 2.jpg": "val", "3_c.jpg": "test"}
    assert captions(tmp_path)["3_c.jpg"] == ()


def test_lists_of_numbers_name_captioned_photos(tmp_path: Path) -> None:
    files(tmp_path, "flickr30k-images", results__csv="image_name| comment_number| comment\n100.jpg| 0| A dog .\n")
    (tmp_path / "train.txt").write_text("100\n200\n")
    assert split(tmp_path, "flickr30k") == {"100.jpg": "train", "200": "train"}
    assert captions(tmp_path, "flickr30k") == {"100.jpg": ("A dog .",), "200": ()}


def test_photo_in_two_lists_is_kept_from_training(tmp_path: Path) -> None:
    files(tmp_path, Flickr8k__token__txt=TOKENS)
    (tmp_path / "Flickr_8k.testImages.txt").write_text("1_a.jpg\n")
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("1_a.jpg\n")
    assert split(tmp_path) == {"1_a.jpg": "test"}


def test_kaggle_captions_with_commas_and_quotes(tmp_path: Path) -> None:
    text = (
        "image,caption\n"
        "a.jpg,A dog runs .\n"
        'a.jpg,"A man , a woman and a dog ."\n'
        'a.jpg,"He says ""hi"" ."\n'
        "b.jpg,Red , unquoted .\n"
        'b.jpg,A 5" nail .\n'
    )
    files(tmp_path, captions__txt=text)
    assert captions(tmp_path) == {
        "a.jpg": ("A dog runs .", "A man , a woman and a dog .", 'He says "hi" .'),
        "b.jpg": ("Red , unquoted .", 'A 5" nail .'),
    }


def test_flickr30k_results_with_the_broken_row(tmp_path: Path) -> None:
    text = (
        "image_name| comment_number| comment\n"
        "1.jpg| 0| Two men | are here .\n"
        "2199200615.jpg| 3| A dog .\n"
        "2199200615.jpg| 4   A dog runs across the grass .\n"
        "3.jpg| 0| 7 people wait .\n"
        "4.jpg| 4   3 dogs .\n"
    )
    files(tmp_path, "flickr30k_images/flickr30k_images")
    (tmp_path / "flickr30k_images" / "results.csv").write_text(text)
    assert captions(tmp_path, "flickr30k") == {
        "1.jpg": ("Two men | are here .",),
        "2199200615.jpg": ("A dog .", "A dog runs across the grass ."),
        "3.jpg": ("7 people wait .",),
        "4.jpg": ("3 dogs .",),
    }


def test_flickr30k_captions_with_numbers(tmp_path: Path) -> None:
    files(
        tmp_path, captions__txt='image_name,comment_number,comment\n1.jpg,0,"Two men , outside ."\n1.jpg,1,3 dogs .\n'
    )
    assert captions(tmp_path, "flickr30k") == {"1.jpg": ("Two men , outside .", "3 dogs .")}


def karpathy(*images: tuple[str, str, list[str]]) -> str:
    entries = [
        {"filename": name, "split": part, "sentences": [{"raw": text, "tokens": text.split()} for text in texts]}
        for name, part, texts in images
    ]
    return json.dumps({"images": entries, "dataset": "flickr8k"})


@pytest.mark.parametrize("format", ["flickr8k", "flickr30k"])
def test_karpathys_json(tmp_path: Path, format: str) -> None:
    text = karpathy(("a.jpg", "train", ["A dog.", "Dog"]), ("b.jpg", "restval", []), ("c.jpg", "val", ["X"]))
    files(tmp_path)
    (tmp_path / f"dataset_{format}.json").write_text(text)
    assert captions(tmp_path, format) == {"a.jpg": ("A dog.", "Dog"), "b.jpg": (), "c.jpg": ("X",)}
    assert split(tmp_path, format) == {"a.jpg": "train", "b.jpg": "train", "c.jpg": "val"}


def test_karpathys_split_for_captions_from_another_file(tmp_path: Path) -> None:
    files(
        tmp_path, captions__txt="image,caption\na.jpg,A dog .\n", dataset_flickr8k__json=karpathy(("a.jpg", "val", []))
    )
    assert captions(tmp_path) == {"a.jpg": ("A dog .",)}
    assert split(tmp_path) == {"a.jpg": "val"}


def test_official_slip_in_a_file_name(tmp_path: Path) -> None:
    files(tmp_path, Flickr8k__token__txt="22_x.jpg.1#0\tA .\n33_y.jpg.1#0\tB .\n22_x.jpg#0\tC .\n")
    (tmp_path / "Images" / "22_x.jpg").touch()
    assert captions(tmp_path) == {"22_x.jpg": ("A .", "C ."), "33_y.jpg.1": ("B .",)}


def test_files_named_in_the_config(tmp_path: Path) -> None:
    files(tmp_path, "pictures", words__token=TOKENS)
    assert len(captions(tmp_path, captions="words.token", images="pictures")) == 2


@pytest.mark.parametrize("sentence", [{}, {"raw": None}, None, "A dog."])
def test_sentence_without_text_is_named(tmp_path: Path, sentence: object) -> None:
    image = {"filename": "a.jpg", "split": "train", "sentences": [sentence]}
    files(tmp_path, dataset_flickr8k__json=json.dumps({"images": [image]}))
    with pytest.raises(UserError, match=r"dataset_flickr8k\.json: a caption of a\.jpg has no text under 'raw'"):
        captions(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg#0\tfine\na.jpg no tab\n", r"Flickr8k\.token\.txt: line 2 is not"),
        ("hello\n", "line 1 is neither"),
        ("", "is empty"),
    ],
)
def test_bad_caption_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    files(tmp_path, Flickr8k__token__txt=text)
    with pytest.raises(UserError, match=message):
        captions(tmp_path)


@pytest.mark.parametrize(
    ("tables", "images"),
    [
        ("Flickr8k_text", "Flickr8k_Dataset/Flicker8k_Dataset"),
        ("Flickr_Data/Flickr_Data/Flickr_TextData", "Flickr_Data/Flickr_Data/Images"),
        (".", "Images/Images"),
        ("archive", "archive/Images"),
    ],
)
def test_archives_unpacked_into_folders_of_their_own(tmp_path: Path, tables: str, images: str) -> None:
    files(tmp_path, images)
    files(tmp_path / tables, ".", Flickr8k__token__txt="a.jpg#0\tA dog .\n", Flickr_8k__trainImages__txt="a.jpg\n")
    files(tmp_path / "__MACOSX", "Images", Flickr8k__token__txt="")
    (sample,) = read_source(SourceConfig(format="flickr8k", path=str(tmp_path)))
    assert sample.path == tmp_path / images / "a.jpg"
    assert split(tmp_path) == {"a.jpg": "train"}


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="key `captions`"):
        captions(tmp_path)
    (tmp_path / "Flickr8k.token.txt").write_text(TOKENS)
    with pytest.raises(UserError, match="key `images`"):
        captions(tmp_path)
    (tmp_path / "Images").mkdir()
    with pytest.raises(UserError, match="no official split"):
        split(tmp_path)
    (tmp_path / "Flickr8k.token.txt").unlink()
    (tmp_path / "dataset_flickr8k.json").write_text(karpathy(("a.jpg", "odd", [])))
    with pytest.raises(UserError, match="image a.jpg: unknown split 'odd'"):
        split(tmp_path)


@pytest.mark.real
def test_real_flickr8k() -> None:
    source = SourceConfig(format="flickr8k", path="data/real/flickr8k", split="official")
    samples = read_source(source)
    parts = list(read_official_split(source).values())
    assert len(samples) == 8091
    assert {part: parts.count(part) for part in parts} == {"train": 6000, "val": 1000, "test": 1000}
    assert sum(len(sample.captions) for sample in samples) == 35455
    assert all(sample.path.is_file() for sample in samples)
