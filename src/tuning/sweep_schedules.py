"""The schedules of hyper-parameters that population based training found: a file, a table and a plot.

Held by tests/tuning/test_population.py.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from matplotlib.figure import Figure

from src.common.files import write_text
from src.common.text_table import format_table
from src.plots.search import plot_schedules
from src.tuning.search_space import Domain, short_names
from src.tuning.study_table import trial_cell

SCHEDULE = "schedule.json"  # in the sweep's folder


@dataclass
class SweepSchedules:
    """The schedules of a sweep's trials.

    Attributes:
        best: run of the best trial.
        trials: by the name of a trial's run: selected (its score), epochs (of its best weights) and parts (what led to
            these weights, in order, each with run, whose training it was, epoch, its first one counted from 0, and
            values by config key).
    """

    best: str
    trials: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The schedules in a sweep's folder; None: it has none."""
        file = folder / SCHEDULE
        return cls(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None

    def write(self, folder: Path) -> None:
        """Writes them into a sweep's folder."""
        write_text(folder / SCHEDULE, json.dumps(asdict(self), indent=1) + "\n")

    def rows(self) -> list[list[str]]:
        """The best schedule as a table with titles: epochs from 1, run, and values by short name."""
        trial = self.trials[self.best]
        names = short_names(list(trial["parts"][0]["values"]))
        rows = [["epochs", "trained by", *names.values()]]
        for part, end in zip(trial["parts"], part_ends(trial), strict=True):
            values = [trial_cell(part["values"][key]) for key in names]
            rows.append([f"{part['epoch'] + 1}-{end}", part["run"], *values])
        return rows

    def table(self) -> str:
        """The best schedule as aligned text, under a line that names its run."""
        return f"schedule of {self.best}, the best trial:\n{format_table(self.rows())}"

    def figure(self, space: dict[str, Domain]) -> Figure:
        """The values of all trials over their epochs, the best one's in front."""
        names = short_names(list(space))
        curves = {
            run: {short: [(*span, part["values"][key]) for part, span in spans(trial)] for key, short in names.items()}
            for run, trial in self.trials.items()
        }
        return plot_schedules(curves, self.best, {names[key] for key, domain in space.items() if "log" in domain})


def part_ends(trial: dict[str, Any]) -> list[int]:
    """The number of epochs after each part of a trial's schedule."""
    return [part["epoch"] for part in trial["parts"][1:]] + [trial["epochs"]]


def spans(trial: dict[str, Any]) -> list[tuple[dict[str, Any], tuple[int, int]]]:
    """Each part of a trial's schedule with the numbers of epochs before and after it."""
    return [(part, (part["epoch"], end)) for part, end in zip(trial["parts"], part_ends(trial), strict=True)]
