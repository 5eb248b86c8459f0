"""The report of a data check: problems, and tables of what each data set holds.

Held by tests/data/test_validation.py.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from src.common.text_table import format_table
from src.data.sample import Sample
from src.data.split import PARTS

EXAMPLES = 5


@dataclass
class DataProblem:
    """One kind of problem.

    Attributes:
        what: the kind, in a few words.
        count: how often.
        examples: the first of them, at most EXAMPLES.
        remedy: what to do.
        fatal: training would go wrong.
    """

    what: str
    count: int
    examples: list[str]
    remedy: str
    fatal: bool = False

    @staticmethod
    def of(what: str, examples: Iterable[str], remedy: str, fatal: bool = False) -> "DataProblem":
        """The problem of all these cases, of which the first are the examples."""
        cases = list(examples)
        return DataProblem(what, len(cases), cases[:EXAMPLES], remedy, fatal)

    def __str__(self) -> str:
        rest = ", ..." if self.count > len(self.examples) else ""
        examples = f": {', '.join(self.examples)}{rest}" if self.examples else ""
        return (
            f"{'ERROR  ' if self.fatal else 'warning'} {self.count:,} {self.what}{examples}\n        -> {self.remedy}"
        )


@dataclass
class DataReport:
    """The result of check_data.

    Attributes:
        contents: rows of a table, its header first: images, captions and parts of each source.
        mos: likewise: the distribution of mos in each source that has any.
        cleaning: likewise: what each rule of data.clean would do to the training captions.
        problems: fatal ones first.
    """

    contents: list[list[str]]
    mos: list[list[str]]
    cleaning: list[list[str]]
    problems: list[DataProblem] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether training would go wrong."""
        return any(problem.fatal for problem in self.problems)

    def __str__(self) -> str:
        tables = [self.contents, *([self.mos] if len(self.mos) > 1 else [])]
        blocks = [format_table(table, right=range(1, len(table[0]))) for table in tables]
        blocks += [format_table(self.cleaning, right={1, 2})] if len(self.cleaning) > 1 else []
        advice = "training would go wrong: mend the errors above, then run the same command again"
        problems = "\n".join(map(str, self.problems)) or "no problems found"
        return "\n\n".join([*blocks, problems, *([advice] if self.failed else [])])


def contents_table(by_source: Mapping[str, Sequence[Sample]], parts: Mapping[tuple[str, str], str]) -> list[list[str]]:
    """Images, labels and parts of each source, the header first."""
    rows = [["source", "photos", "with mos", "with captions", "captions", "a photo (min mean max)", *PARTS, "no part"]]
    for source, samples in by_source.items():
        counts = [len(sample.captions) for sample in samples] or [0]
        split = Counter(parts.get((sample.source, sample.name), "") for sample in samples)
        numbers = [
            len(samples),
            sum(sample.mos is not None for sample in samples),
            sum(count > 0 for count in counts),
            sum(counts),
        ]
        spread = f"{min(counts)} {np.mean(counts):.2f} {max(counts)}"
        rows.append([source, *(f"{n:,}" for n in numbers), spread, *(f"{split[part]:,}" for part in [*PARTS, ""])])
    return rows


def mos_table(by_source: Mapping[str, Sequence[Sample]]) -> list[list[str]]:
    """The distribution of finite mos in each source that has any, the header first."""
    rows = [["mos", "photos", "min", "5 %", "25 %", "50 %", "75 %", "95 %", "max", "mean", "sd"]]
    for source, samples in by_source.items():
        known = [sample.mos for sample in samples if sample.mos is not None]
        mos = np.array([value for value in known if np.isfinite(value)])
        if mos.size:
            values = [*np.quantile(mos, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]), mos.mean(), mos.std()]
            rows.append([source, f"{mos.size:,}", *(f"{value:.3f}" for value in values)])
    return rows
