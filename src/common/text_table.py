"""Tables as aligned text."""

from collections.abc import Collection, Sequence


def format_table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Rows of text in aligned columns, two spaces apart, without spaces at a line's end.

    Args:
        rows: the header, if any, and the rows below it, all of one length.
        right: numbers, from 0, of the columns that are aligned to the right, as numbers are; the others to the left.

    Raises:
        ValueError: rows differ in length.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pads = [str.rjust if i in right else str.ljust for i in range(len(widths))]
    return "\n".join(
        "  ".join(pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=True)).rstrip() for row in rows
    )
