"""python -m src.sweep --config sweeps/X.yaml: a Bayesian search, the best trained to its end, a submission.

The search is stored as Optuna's study, in a database in the sweep's folder; each trial in its run folder. Started
again, a sweep reads both: finished trials count, those cut short resume from their checkpoints.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from src import predict
from src.common.errors import run_command
from src.config.cli import make_parser
from src.config.schema import Whole


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, searches, trains the best configuration to its end, predicts."""
    parser = make_parser("sweep", "Searches hyper-parameters. The same command goes on where it stopped.", config=False)
    parser.add_argument("--config", type=str, required=True, help="a sweep's YAML file, such as sweeps/demo.yaml")
    parser.add_argument("--trials", type=Whole, default=0, help="how many trials, instead of the file's number")
    parser.add_argument("--runs", type=str, default="runs", help="folder of run folders")
    parser.add_argument("--status", action="store_true", help="only print the trials so far, best first, and end")
    options = parser.parse_args(args)
    from src.tuning.study import read_study, start_points
    from src.tuning.study_table import study_status
    from src.tuning.sweep_config import load_sweep, sweep_name

    file, runs = Path(options.config), Path(options.runs)
    if options.status:
        print(study_status(read_study(sweep_name(file), runs), runs))
        return 0
    from src.tuning.sweep_runner import prepare_sweep, run_sweep

    sweep = load_sweep(file, {"trials": options.trials} if options.trials else None)
    start_points(sweep, runs)  # a missing one is refused before anything starts
    prepare_sweep(sweep, file)
    run_sweep(sweep, runs)
    model = f"{sweep.name}-best"
    code = write_submission(runs / model, sweep.predict, sweep.output) if sweep.predict else 0
    print(f"next: python -m src.evaluate --model {shlex.quote(model)}")
    print(f"      python -m src.predict --model {shlex.quote(sweep.name)} --data PHOTOS --output submissions/X.csv")
    print("      make ui")
    return code


def write_submission(model: Path, data: str, output: str) -> int:
    """Predicts photos with the best model, or with those of all folds. Returns the command's exit code."""
    return predict.main(["--model", str(model), "--data", data, "--output", output])


if __name__ == "__main__":
    run_command(main)
