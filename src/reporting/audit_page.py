"""The audit of data as a table and a gallery.

Held by tests/evaluation/test_data_audit.py.
"""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from jsonargparse import Namespace

from src.common.errors import UserError
from src.common.files import check_output_file
from src.common.text_table import format_table
from src.config.loader import load_config
from src.data.sample import Sample
from src.evaluation.data_audit import COPY, KINDS, MOS, AuditRow, DataAudit, audit_data
from src.reporting.embedded_images import thumbnails
from src.reporting.gallery import GALLERY_SIDE
from src.reporting.html import Block, Gallery, GalleryImage, Page, Section, write_page

TABLE, PAGE = "audit.csv", "audit.html"
SHOWN = 100  # rows of each kind


def write_audit(options: Namespace) -> str:
    """Audits the data and writes table and page. Returns the counts, the files and the next command.

    Args:
        options: the command line of `prepare audit`.

    Raises:
        UserError: the folder has a table already, or as `audit_data`.
    """
    folder = Path(options.output)
    if (folder / TABLE).exists():
        raise UserError(f"{folder / TABLE}: exists, perhaps edited by hand; move it, or name another --output")
    check_output_file(folder / TABLE)
    audit = audit_data(load_config(options.config), options.model, options.words, options.z)
    audit.write(folder / TABLE)
    write_page(audit_page(audit), folder / PAGE)
    numbers = [sum(row.kind == kind for row in audit.rows) for kind in KINDS]
    counts = [[kind, f"{number:,}", about] for (kind, about), number in zip(KINDS.items(), numbers, strict=True)]
    table = format_table([["kind", "rows", "content"], *counts], right={1})
    table += "" if options.model else f"\nno {MOS} without --model GROUP"
    train = f"python -m src.train --config {quote(options.config)} --data.exclude {quote(str(folder / TABLE))}"
    advice = f"look at {folder / PAGE} and delete rows that are right; next: {train}"
    return f"{table}\nwrote {folder / TABLE} and {folder / PAGE}: {advice}"


def audit_page(audit: DataAudit) -> Page:
    """A section of each kind with the rows of the highest scores."""
    paths = {(sample.source, sample.name): sample.path for sample in audit.samples}
    sections = []
    for kind, about in KINDS.items():
        rows = [row for row in audit.rows if row.kind == kind]
        blocks: list[Block] = [Gallery("", gallery_images(rows[:SHOWN], audit.samples, paths))] if rows else []
        count = f"{len(rows):,} rows" + (f", the first {SHOWN} of them" if len(rows) > SHOWN else "")
        sections.append(Section(kind, f"{about[0].upper()}{about[1:]}. {count}.", blocks))
    return Page("Audit of data", [f"{len(audit.samples):,} photos of training and validation"], sections)


def gallery_images(
    rows: Sequence[AuditRow], samples: Sequence[Sample], paths: dict[tuple[str, str], Path]
) -> list[GalleryImage]:
    """The image of each row and, of copies, the image that it copies."""
    by_name = {sample.name: sample.path for sample in samples}  # the other image may be of another source
    shown: list[tuple[Path, str, str, str]] = []
    for row in rows:
        title = f"{row.img_name}: {row.score:.3g}"
        shown.append(
            (paths[row.source, row.img_name], title, row.caption or row.detail, row.other and f"-> {row.other}")
        )
        if row.kind == COPY:
            shown.append((paths.get((row.source, row.other), by_name[row.other]), row.other, "", ""))
    uris = thumbnails([path for path, *_ in shown], GALLERY_SIDE, quality=60)
    return [
        GalleryImage(uri, title, caption, [other] if other else [])
        for uri, (_, title, caption, other) in zip(uris, shown, strict=True)
    ]
