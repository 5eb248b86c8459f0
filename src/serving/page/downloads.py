"""Predictions as files to download: a table as submissions have it, and a zip of texts.
Held by tests/serving/test_zip_photos.py.
"""

import csv
import io
import zipfile
from collections import Counter
from pathlib import PurePosixPath

import pandas as pd

from src.inference.submission import Submission, single_line


def submission_csv(table: pd.DataFrame) -> bytes:
    """The predicted photos as a CSV with the columns of a submission that the model fills.

    Args:
        table: `photo` (name), `mos` (NaN without that head), `caption` (empty without a decoder).
    """
    mos = table["mos"].astype(float).tolist() if table["mos"].notna().any() else None
    captions = table["caption"].tolist() if table["caption"].any() else None
    submission = Submission(table["photo"].tolist(), mos, captions)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([submission.columns, *submission.rows()])
    return text.getvalue().encode()


def captions_zip(table: pd.DataFrame) -> bytes:
    """A zip with a text file for each predicted photo: a/b.jpg -> a/b.txt, or a/b.jpg.txt where two are a/b.*."""
    names = [PurePosixPath(name) for name in table["photo"]]
    stems = Counter(name.with_suffix("") for name in names)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, caption in zip(names, table["caption"], strict=True):
            stem = name.with_suffix("")
            archive.writestr(f"{name if stems[stem] > 1 else stem}.txt", single_line(caption) + "\n")
    return file.getvalue()
