"""Lists of images: tables, lists of names, folders."""

from pathlib import Path

import pandas as pd
import pytest

from src.common.errors import UserError
from src.data.image_list import find_images, read_image_list

NAMES = ["0213074526", "1e5", "00", "two words", "바다 사진", "NA", " padded "]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_names_and_order_of_a_challenge_table(tmp_path: Path) -> None:
    table = pd.DataFrame({"img_name": NAMES, "img_path": [f"./test/{name}.jpg" for name in NAMES]})
    table.to_csv(tmp_path / "test.csv", index=False)
    samples = read_image_list(tmp_path / "test.csv")
    assert [sample.name for sample in samples] == NAMES
    assert [sample.path for sample in samples] == [tmp_path / "test" / f"{name}.jpg" for name in NAMES]
    assert all(sample.mos is None and not sample.captions for sample in samples)


def test_sample_submission_finds_photos_and_ignores_its_answers(tmp_path: Path) -> None:
    touch(tmp_path / "test" / "b.PNG", tmp_path / "test" / "0213074526.jpg", tmp_path / "train" / "b.jpg")
    (tmp_path / "sample_submission.csv").write_text(
        "img_name,mos,comments\nb,0,nice picture.\n0213074526,0,nice picture.\nabsent,0,nice picture.\n"
    )
    samples = read_image_list(tmp_path / "sample_submission.csv")
    assert [sample.path.relative_to(tmp_path).as_posix() for sample in samples] == [
        "test/b.PNG",
        "test/0213074526.jpg",
        "test/absent.jpg",
    ]
    assert {sample.mos for sample in samples} == {None}
    assert {sample.captions for sample in samples} == {()}


def test_photos_beside_the_table(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "b.jpg")
    (tmp_path / "x.csv").write_text("img_name\nb\na.jpg\n")
    assert [sample.path.name for sample in read_image_list(tmp_path / "x.csv")] == ["b.jpg", "a.jpg"]


def test_table_of_an_archive_unpacked_into_a_folder_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path / "open" / "test" / "a.jpg", tmp_path / "open" / "test" / "b.jpg")
    (tmp_path / "open" / "test.csv").write_text("img_name,img_path\na,./test/a.jpg\nb,./test/b.jpg\n")
    (tmp_path / "open" / "sample_submission.csv").write_text("img_name,mos,comments\nb,0,x\na,0,x\n")
    samples = find_images(str(tmp_path / "test.csv"))
    assert [sample.path for sample in samples] == [tmp_path / "open" / "test" / f"{name}.jpg" for name in "ba"]
    touch(tmp_path / "other" / "test.csv")
    with pytest.raises(UserError, match=r"test\.csv: cannot be read"):
        find_images(str(tmp_path / "test.csv"))


def test_folder_is_sorted_and_read_in_depth(tmp_path: Path) -> None:
    touch(tmp_path / "b.JPG", tmp_path / "a" / "z.png", tmp_path / "바다 1.webp", tmp_path / "notes.txt")
    samples = read_image_list(tmp_path)
    assert [sample.name for sample in samples] == ["a/z.png", "b.JPG", "바다 1.webp"]
    assert all(sample.path.is_file() for sample in samples)


def test_folder_leaves_out_hidden_files_and_says_how_many_of_which_kinds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(*(tmp_path / name for name in ("a.jpg", "b.jfif", "c.JPE", "d.avif", "notes.txt", "more.txt", "e.cr3", "f")))
    touch(*(tmp_path / name / "a.jpg" for name in (".ipynb_checkpoints", ".Trash-1000/files", "__MACOSX", "in/.x")))
    touch(tmp_path / "._a.jpg", tmp_path / "in" / ".hidden.png")
    assert [sample.name for sample in read_image_list(tmp_path)] == ["a.jpg", "b.jfif", "c.JPE", "d.avif"]
    assert capsys.readouterr().err == (
        f"{tmp_path}: left out 4 hidden folders, 2 hidden files, 2 .txt, 1 .cr3, 1 suffixless file\n"
    )


def test_folder_follows_links_without_circles_and_reads_each_photo_once(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    touch(photos / "a.jpg", photos / "z" / "b.jpg", tmp_path / "elsewhere" / "c.jpg", tmp_path / "d.jpg")
    (tmp_path / "elsewhere" / "back").symlink_to(photos)
    for link, target in {
        "link": "elsewhere",
        "twice": "elsewhere",
        "self": "photos",
        "a_link_to_z": "photos/z",
    }.items():
        (photos / link).symlink_to(tmp_path / target)
    (photos / "d.jpg").symlink_to(tmp_path / "d.jpg")
    assert [sample.name for sample in read_image_list(photos)] == ["a.jpg", "d.jpg", "link/c.jpg", "z/b.jpg"]


def test_hidden_files_never_stand_for_a_photo_of_a_table(tmp_path: Path) -> None:
    touch(tmp_path / ".Trash" / "a.jpg", tmp_path / "__MACOSX" / "a.jpg", tmp_path / "test" / "a.png")
    (tmp_path / "test.csv").write_text("img_name\na\n")
    assert read_image_list(tmp_path / "test.csv")[0].path == tmp_path / "test" / "a.png"


def test_list_of_names(tmp_path: Path) -> None:
    touch(tmp_path / "Flicker8k_Dataset" / "1_a.jpg", tmp_path / "Flicker8k_Dataset" / "2_b.jpg")
    (tmp_path / "Flickr_8k.testImages.txt").write_text("2_b.jpg\n1_a.jpg\n\n")
    samples = read_image_list(tmp_path / "Flickr_8k.testImages.txt")
    assert [sample.name for sample in samples] == ["2_b.jpg", "1_a.jpg"]
    assert all(sample.path.is_file() for sample in samples)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp949"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "test.csv").write_bytes("img_name,img_path\n사진 1,./test/사진 1.jpg\n".encode(encoding))
    assert [sample.name for sample in read_image_list(tmp_path / "test.csv")] == ["사진 1"]


def test_duplicates_are_refused_with_their_rows(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("img_name\n0\n00\n0\n")
    with pytest.raises(UserError, match=r"test\.csv: row 2 and row 4 both name the photo 0;"):
        read_image_list(tmp_path / "test.csv")


@pytest.mark.parametrize("text", ["", "img_name\n", "name\na\n", "img_name,img_path\n,x.jpg\n"])
def test_tables_without_photos_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "test.csv").write_text(text)
    with pytest.raises(UserError, match=r"test\.csv"):
        read_image_list(tmp_path / "test.csv")


def test_empty_folder_and_missing_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no photos"):
        read_image_list(tmp_path)
    with pytest.raises(UserError, match=r"absent\.csv: cannot be read"):
        read_image_list(tmp_path / "absent.csv")
