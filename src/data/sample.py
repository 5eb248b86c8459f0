"""The one form in which every reader hands photos on."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """A photo and what is known of it.

    Attributes:
        path: the photo's file.
        name: the photo's name in its data set: always a string, never parsed as a number.
        source: the data set's name.
        mos: mean opinion score in the data's own units, or None where unknown.
        captions: none to many.
    """

    path: Path
    name: str
    source: str
    mos: float | None = None
    captions: tuple[str, ...] = ()
