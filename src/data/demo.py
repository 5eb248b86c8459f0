"""The demo data: rendered scenes in the challenge's layout and in Flickr8k's, for trying everything in a minute."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from src.common.errors import UserError, one_line
from src.common.files import partial_folder
from src.common.progress import progress_bar
from src.data import demo_scenes as scene

SIDE = 96
# Names that break readers who parse them as numbers, split them at spaces or expect ASCII.
AWKWARD = ["0213074526", "1e5", "00", "two words", "사진_1"]
AWKWARD_TEST = ["0213074527", "1e6", "000", "two more words", "사진_2"]
MARK = "demo.json"


def make_demo(folder: Path, photos: int | None = None, seed: int | None = None) -> bool:
    """Writes folder/challenge and folder/flickr8k, whole or not at all; False where they existed already.

    Args:
        folder: a new folder.
        photos: in each of the two, at least 50; None: as many as exist, else 300.
        seed: the same one gives the same files; None: that of existing data, else 0.

    Raises:
        UserError: too few photos, or the folder holds something else, or a demo of other photos.
    """
    if photos is not None and photos < 50:
        raise UserError(f"--photos {photos}: at least 50 are needed, or the splits are too small")
    if (folder / MARK).is_file():
        _check_same(folder, {"photos": photos, "seed": seed})
        return False
    photos, seed = 300 if photos is None else photos, seed or 0
    settings = {"photos": photos, "seed": seed}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there already and holds no demo data; name another with --output")
    folder = folder.resolve()  # where a link leads: nothing can be moved onto the link
    with partial_folder(folder) as part:
        with progress_bar(2 * photos, "rendering scenes") as bar:
            _write_challenge(part / "challenge", photos, seed, bar)
            _write_flickr(part / "flickr8k", photos, seed, bar)
        (part / MARK).write_text(json.dumps(settings) + "\n", encoding="utf-8")
        return _move(part, folder, settings)


def _check_same(folder: Path, settings: Mapping[str, int | None]) -> None:
    """Raises UserError where the existing demo data has other settings; None: any."""
    remedy = f"delete {folder}, or name another with --output"
    try:
        made = {key: int(value) for key, value in json.loads((folder / MARK).read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / MARK}: is damaged ({one_line(error)}); {remedy}") from error
    if other := [key for key, value in settings.items() if value is not None and made.get(key) != value]:
        differences = ", ".join(f"--{key} {made.get(key)}, not {settings[key]}" for key in other)
        raise UserError(f"{folder}: is there already, made with {differences}; {remedy}")


def _move(part: Path, folder: Path, settings: Mapping[str, int]) -> bool:
    try:
        part.replace(folder)
    except OSError:
        if (folder / MARK).is_file():  # another process was quicker
            _check_same(folder, settings)
            return False
        raise
    return True


def _names(count: int, awkward: list[str], first: int = 1) -> Iterator[str]:
    """The awkward names, spread among demo_0001, demo_0002, ..."""
    every = count // len(awkward)
    for index in range(count):
        is_awkward = index % every == 1 and index // every < len(awkward)
        yield awkward[index // every] if is_awkward else f"demo_{index + first:04d}"


def _write_challenge(folder: Path, photos: int, seed: int, bar: tqdm) -> None:
    """train.csv with a row a comment, test.csv, sample_submission.csv, and the test photos' labels apart."""
    rng = np.random.default_rng([seed, 1])
    tests = photos // 5
    train = _write_photos(folder, "train", list(_names(photos - tests, AWKWARD)), rng, bar)
    test = _write_photos(folder, "test", list(_names(tests, AWKWARD_TEST, photos - tests + 1)), rng, bar)
    once = test.drop_duplicates("img_name")
    sample = once.assign(mos="0", comments="nice picture.")[["img_name", "mos", "comments"]]
    _write_csv(train, folder / "train.csv")
    _write_csv(once[["img_name", "img_path"]], folder / "test.csv")
    _write_csv(sample, folder / "sample_submission.csv")
    _write_csv(test, folder / "test_answers.csv")


def _write_photos(folder: Path, part: str, names: list[str], rng: np.random.Generator, bar: tqdm) -> pd.DataFrame:
    (folder / part).mkdir(parents=True)
    rows = []
    for name in names:
        picture = scene.render_scene(scene.random_scene(rng, ("sky", "field", "sea")), SIDE, rng)
        mos = round(float(rng.uniform(*scene.MOS)), 3)
        kind = str(rng.choice(list(scene.ADJECTIVES)))
        _write_jpeg(folder / part / f"{name}.jpg", scene.degrade(picture, kind, mos, rng))
        path = f"./{part}/{name}.jpg"
        rows += [(name, path, f"{mos:.3f}", comment) for comment in scene.quality_comments(kind, mos, rng)]
        bar.update()
    return pd.DataFrame(rows, columns=["img_name", "img_path", "mos", "comments"])


def _write_flickr(folder: Path, photos: int, seed: int, bar: tqdm) -> None:
    """Flickr8k.token.txt, the three lists (8 : 1 : 1) and Flicker8k_Dataset."""
    rng = np.random.default_rng([seed, 2])
    (folder / "Flicker8k_Dataset").mkdir(parents=True)
    names = [f"{name}.jpg" for name in _names(photos, AWKWARD)]
    lines = []
    for name in names:
        what = scene.random_scene(rng)
        _write_jpeg(folder / "Flicker8k_Dataset" / name, scene.render_scene(what, SIDE, rng))
        lines += [f"{name}#{number}\t{text}\n" for number, text in enumerate(scene.scene_captions(what, rng))]
        bar.update()
    (folder / "Flickr8k.token.txt").write_text("".join(lines), encoding="utf-8")
    order = [names[index] for index in rng.permutation(photos)]
    tenth = photos // 10
    for part, listed in {"test": order[:tenth], "dev": order[tenth : 2 * tenth], "train": order[2 * tenth :]}.items():
        (folder / f"Flickr_8k.{part}Images.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")


def _write_jpeg(path: Path, photo: np.ndarray) -> None:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
    path.write_bytes(cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), quality)[1].tobytes())


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, encoding="utf-8", lineterminator="\n")
