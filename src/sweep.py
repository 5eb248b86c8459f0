"""python -m src.sweep --config sweeps/X.yaml: a Bayesian search, the best trained out, a submission.

The search's memory is Optuna's study, in a database in the sweep's folder; a trial's is its run folder. Started again,
a sweep reads both: finished trials count, those cut short go on from their checkpoints.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common.errors import run_command
from src.config.loader import make_parser
from src.config.schema import Whole
from src.tuning.study import read_study, start_points, study_status
from src.tuning.sweep_config import SweepConfig, load_sweep
from src.tuning.sweep_runner import prepare_sweep, run_sweep, sweep_name

if TYPE_CHECKING:
    pass


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, searches, trains the best out, predicts."""
    parser = make_parser("sweep", "Searches hyper-parameters. The same command goes on where it stopped.", config=False)
    parser.add_argument("--config", type=str, required=True, help="a sweep's YAML file, such as sweeps/demo.yaml")
    parser.add_argument("--trials", type=Whole, default=0, help="how many trials, instead of the file's number")
    parser.add_argument("--runs", type=str, default="runs", help="folder of run folders")
    parser.add_argument("--status", action="store_true", help="only print the trials so far, best first, and end")
    options = parser.parse_args(args)
    if options.status:
        print(study_status(read_study(sweep_name(Path(options.config)), Path(options.runs)), Path(options.runs)))
        return 0
    sweep = load_sweep(Path(options.config), {"trials": options.trials} if options.trials else None)
    start_points(sweep, Path(options.runs))  # a missing one is refused before anything starts
    prepare_sweep(sweep, Path(options.config))
    trained = run_sweep(sweep, Path(options.runs))
    code = predict(sweep, trained) if sweep.predict else 0
    print(f"next: python -m src.evaluate --model {' '.join(one['name'] for one in trained)}")
    print(f"      python -m src.predict --model {sweep.name} --data PHOTOS --output submissions/X.csv")
    print("      make ui")
    return code


def predict(sweep: SweepConfig, trained: list[dict[str, Any]]) -> int:
    """Writes the submission, with all folds' models together. Returns the exit code: 3: some rows are fallbacks."""
    from src.ensemble import main as ensemble_main
    from src.predict import main as predict_main

    models, where = [one["model"] for one in trained], ["--data", sweep.predict, "--output", sweep.output]
    if len(models) > 1:
        return ensemble_main(["--models", *models, *where])
    return predict_main(["--model", *models, *where])


if __name__ == "__main__":
    run_command(main)
