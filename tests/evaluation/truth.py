"""A table with the truth for eight images, as tests of the evaluation need it."""

from pathlib import Path

from tests.tiny import CAPTIONS

NAMES = ["0213074526", "1e5", "00", "with space", "사진", "a", "b", "c"]
MOS = [4.1, 5.2, 6.3, 3.4, 7.5, 5.6, 4.7, 6.8]


def write_truth(path: Path) -> dict[str, list[str]]:
    """A table like train.csv: two comments a photo, one row each."""
    references = {name: [CAPTIONS[i % 4], CAPTIONS[(i + 1) % 4]] for i, name in enumerate(NAMES)}
    rows = ["img_name,img_path,mos,comments"]
    for name, mos in zip(NAMES, MOS, strict=True):
        rows += [f"{name},./train/{name}.jpg,{mos},{text}" for text in references[name]]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows), encoding="utf-8")
    return references
