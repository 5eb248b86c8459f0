"""What a format is, and what all formats share: where a data set's files are, and how its text is decoded.

`format: NAME` in data.sources is the file NAME.py beside this one, or data/formats/NAME.py of a folder in SRC_PLUGINS.
Such a file defines read_samples; the other names are optional:

    read_samples(source) -> list[Sample]                 one sample an image (see src/data/sample.py)
    raw_captions(source) -> dict[str, list[str]]         captions by image name as written, empty ones too
    official_split(source) -> dict[str, str]             train, val or test by image name; without it, or where it
                                                         raises NoOfficialSplit, the data set has none
    find_problems(source) -> list[DataProblem]           what `prepare check` is to say of this format's files
    TRAIN_ONLY = True                                    its labels are a model's: no photo is held out; official_split
                                                         gives TRAIN_ONLY of src/data/split.py to all
    CHALLENGE = True                                     its captions have the style that submissions are written in

Captions that are missing, see is_missing, are left out of the samples afterwards, whatever the format.
Each function takes the source's SourceConfig and raises UserError, naming file and row, where the files cannot be read.

Held by tests/data/formats/test_samsung.py and test_flickr.py.
"""

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data.sample import Sample
from src.data.text_encoding import decode_text

# Empty, and what spreadsheets, pandas and databases write for a missing value, in small letters.
MISSING = {"", "nan", "-nan", "na", "n/a", "<na>", "#n/a", "#na", "none", "null"}

FORMATS = "src.data.formats"


class NoOfficialSplit(UserError):
    """A data set that comes without an official split."""


def source_name(source: SourceConfig) -> str:
    """The name of a data set in splits, scores and style tokens."""
    return source.name or source.format


def style_names(sources: Sequence[SourceConfig]) -> list[str]:
    """The caption styles of data sets, each once, in their order."""
    return list(dict.fromkeys(source.style or source_name(source) for source in sources))


def source_folder(source: SourceConfig) -> Path:
    """A data set's folder.

    Raises:
        UserError: no folder is named, or there is none.
    """
    if not source.path:
        raise UserError(f"data source {source_name(source)}: no path; set it to the folder of the data set")
    if not (folder := Path(source.path)).is_dir():
        raise UserError(f"{folder}: no such folder; correct the path of data source {source_name(source)}")
    return folder


def make_sample(source: SourceConfig, images: Path, name: str, captions: Iterable[str]) -> Sample:
    """A sample without mos."""
    return Sample(image_path(images, name), name, source_name(source), None, tuple(captions))


def find_file(folder: Path, named: str, usual: list[str], key: str) -> Path:
    """The file `named` within a folder or, where that is empty, the first of the usual names that exists.

    Archives unpack into folders of their own (open/, archive/, Flickr_Data/Flickr_Data/), so the folders within are
    searched too; the nearest file counts.

    Raises:
        UserError: there is no such file, or several are equally near.
    """
    return _find(folder, named, usual, key, Path.is_file)


def find_folder(folder: Path, named: str, usual: list[str], key: str) -> Path:
    """As find_file, for a folder. Of a folder within a folder of its name, as archives unpack, the inner one counts."""
    return innermost(_find(folder, named, usual, key, Path.is_dir))


def innermost(folder: Path) -> Path:
    """The folder within a folder of its name (train2017/train2017), or itself."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def _find(folder: Path, named: str, usual: list[str], key: str, exists: Callable[[Path], bool]) -> Path:
    names = [named] if named else usual
    for level in folder_levels(folder, 0 if named else 3):
        hits = [next((place / name for name in names if exists(place / name)), None) for place in level]
        if len(paths := [path for path in hits if path]) > 1:
            listed = " and ".join(path.relative_to(folder).as_posix() for path in paths[:2])
            raise UserError(f"{folder}: has {listed}; name one with the key `{key}` of this data source")
        if paths:
            return paths[0]
    raise UserError(f"{folder}: has no {' or '.join(names)}; name it with the key `{key}` of this data source")


def folder_levels(folder: Path, depth: int) -> Iterator[list[Path]]:
    """[folder], then the visible folders in it, then those in these, and so on, `depth` times; each level sorted."""
    level = [folder]
    yield level
    for _ in range(depth):
        entries = [entry for place in level for entry in os.scandir(place)]
        level = sorted(Path(entry.path) for entry in entries if entry.is_dir() and _is_visible(entry.name))
        yield level


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"  # what a Mac adds to archives


def image_path(folder: Path, name: str) -> Path:
    """An image's path, without touching the disk for names in ASCII.

    Korean names may be decomposed (NFD, as a Mac writes them) on disk and composed in the table, or the other way.
    """
    path = folder / name
    if name.isascii():
        return path
    forms = [folder / unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    # os.path knows a name that no file can have, too long for one, as absent, where Path.exists raises OSError.
    return next((other for other in [path, *forms] if os.path.exists(other)), path)  # noqa: PTH110


def read_text(path: Path) -> str:
    """A text file, decoded as decode_text of src/data/text_encoding.py says.

    Raises:
        UserError: it cannot be read, or its encoding is in doubt; the line is named.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return decode_text(data, path)


def is_missing(text: str) -> bool:
    """Whether a mos or a caption is empty or one of the words, such as nan, that stand for a missing value."""
    return text.strip().lower() in MISSING
