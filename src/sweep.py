"""python -m src.sweep --config sweeps/X.yaml: a Bayesian search, the best trained out, a submission.

The search's memory is Optuna's study, in a database in the sweep's folder; a trial's is its run folder. Started again,
a sweep reads both: finished trials count, those cut short go on from their checkpoints.
"""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.command import make_parser
from src.config import TrackConfig
from src.errors import UserError, run_command
from src.search import Space, Sweep, load_sweep, trial_config

if TYPE_CHECKING:
    import optuna

    from src.tracking import Tracker


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, searches, trains the best out, predicts."""
    parser = make_parser("sweep", "Searches hyper-parameters. The same command goes on where it stopped.", config=False)
    parser.add_argument("--config", type=str, required=True, help="a sweep's YAML file, such as sweeps/demo.yaml")
    parser.add_argument("--trials", type=int, default=0, help="how many trials, instead of the file's number")
    parser.add_argument("--runs", type=str, default="runs", help="folder of run folders")
    options = parser.parse_args(args)
    sweep = load_sweep(Path(options.config), {"trials": options.trials} if options.trials else None)
    prepare(sweep)
    best = run(sweep, Path(options.runs))
    code = predict(sweep, best) if sweep.predict else 0
    print(f"next: python -m src.evaluate --model {best['name']}")
    print(f"      python -m src.predict --model {best['name']} --data PHOTOS --output submissions/X.csv")
    print("      make ui")
    return code


def prepare(sweep: Sweep) -> None:
    """Makes the demo data where the sweep asks for it, and the feature cache, once for all trials."""
    from src.data.cache import build_for_config
    from src.data.demo import make_demo

    config = trial_config(sweep, {})
    demo = Path("data/demo")
    if any(Path(source.path).is_relative_to(demo) for source in config.data.sources):
        make_demo(demo)
    if config.data.cache and config.model.backbone.frozen:
        build_for_config(config)


def run(sweep: Sweep, runs: Path) -> dict[str, Any]:
    """Searches, prints the table of trials and trains the best out. Returns the best run's result."""
    from src.tracking import Tracker

    folder = runs / f"sweep-{sweep.name}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"sweep": vars(sweep) | {"resources": vars(sweep.resources)}}
    track = TrackConfig(experiment=trial_config(sweep, {}).track.experiment, name=sweep.name)
    with Tracker.start(track, folder, settings, {"sweep": sweep.name, "kind": "sweep"}) as tracker:
        study = open_study(sweep, folder)
        search(sweep, folder, study, tracker)
        rows = trial_rows(study)
        tracker.log_text(table(rows), "trials.txt")
        print(table(rows))
        best = train_best(sweep, folder, study, tracker.run_id)
        tracker.log_metrics({"selected": study.best_value, "final_selected": best["selected"]})
        tracker.set_tags({"best_run": best["name"]})
    return best


def open_study(sweep: Sweep, folder: Path) -> "optuna.Study":
    """The sweep's study, from its database; trials that were running when an earlier driver died are queued again."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=sweep.name,
        storage=storage(folder),
        direction="maximize",
        load_if_exists=True,
        sampler=sampler(sweep),
    )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
    if not study.trials:
        for point in sweep.start:
            study.enqueue_trial(point)
    return study


def storage(folder: Path) -> "optuna.storages.RDBStorage":
    """The study's database, one a sweep, so that two sweeps never mix."""
    import optuna

    return optuna.storages.RDBStorage(f"sqlite:///{(folder / 'study.db').resolve()}")


def sampler(sweep: Sweep) -> "optuna.samplers.BaseSampler":
    """Multivariate TPE that expects running trials to do badly (constant liar), or random search."""
    import optuna

    warnings.filterwarnings("ignore", "Argument ``(multivariate|group|constant_liar)`` is an experimental feature")
    if sweep.algorithm == "random":
        return optuna.samplers.RandomSampler(seed=sweep.seed)
    return optuna.samplers.TPESampler(
        seed=sweep.seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=sweep.startup
    )


def search(sweep: Sweep, folder: Path, study: "optuna.Study", tracker: "Tracker") -> None:
    """Runs the trials that are still missing, through Ray Tune.

    Raises:
        UserError: no trial succeeded.
    """
    import optuna

    from src.trials import end_trials

    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    missing = sweep.trials - len(done)
    if missing > 0:
        tune(sweep, folder, missing, tracker.run_id)
        end_trials(sweep, folder.parent, study)
    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        raise UserError(f"no trial of {sweep.name} succeeded; the reasons are in {folder}/tune/*/error.txt")


def tune(sweep: Sweep, folder: Path, trials: int, parent: str) -> None:
    """Runs `trials` trials in Ray, in this process or on the cluster that RAY_ADDRESS names."""
    # Both are read when ray is imported: no new console reporter, and trials keep the current folder.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    import ray
    from ray import tune as ray_tune
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    from src.trials import Progress, run_trial

    started = not ray.is_initialized()
    if started:
        paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        workers = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, paths))}}  # wherever the command was given
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, runtime_env=workers)
    epochs = trial_config(sweep, {}).train
    evaluations = epochs.epochs // epochs.eval_every
    longest = max(evaluations + 1, sweep.grace)  # a trial reports once more when its model is kept
    asha = AsyncHyperBandScheduler(grace_period=sweep.grace, max_t=longest, reduction_factor=3)
    algorithm = OptunaSearch(
        Space(sweep.space),
        metric="selected",
        mode="max",
        sampler=sampler(sweep),
        storage=storage(folder),
        study_name=sweep.name,
    )
    runs = str(folder.parent.resolve())
    trainable = ray_tune.with_parameters(run_trial, sweep=sweep, runs=runs, parent=parent)
    resources = {"cpu": sweep.resources.cpu, "gpu": sweep.resources.gpu}
    try:
        ray_tune.Tuner(
            ray_tune.with_resources(trainable, resources),
            tune_config=ray_tune.TuneConfig(
                metric="selected",
                mode="max",
                num_samples=trials,
                reuse_actors=True,  # a process takes longer to start than to train the demo
                search_alg=ConcurrencyLimiter(algorithm, max_concurrent=sweep.at_once),
                scheduler=asha if sweep.scheduler == "asha" else FIFOScheduler(),
            ),
            run_config=ray_tune.RunConfig(
                name="tune",
                storage_path=str(folder.resolve()),
                verbose=0,
                callbacks=[Progress(sweep.name, folder.parent, trials)],
            ),
        ).fit()
    finally:
        if started:
            ray.shutdown()


def trial_rows(study: "optuna.Study") -> list[dict[str, Any]]:
    """One row a trial, best first: number, state, selected, and the values drawn."""
    rows = [
        {"trial": t.number, "state": t.state.name.lower(), "selected": t.value, **t.params}
        for t in study.get_trials(deepcopy=False)
        if t.state.is_finished() and not (t.value is None and not t.params)
    ]
    return sorted(rows, key=lambda row: -float("inf") if row["selected"] is None else row["selected"], reverse=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text."""
    import pandas as pd

    return pd.DataFrame(rows).to_string(index=False, float_format=lambda x: f"{x:.4g}", na_rep="-")


def train_best(sweep: Sweep, folder: Path, study: "optuna.Study", parent: str) -> dict[str, Any]:
    """Trains the best trial's values out, with what `final` says, as a run of its own. Returns its result."""
    from src.learning.run import RunFolder
    from src.train import train

    config = trial_config(sweep, {**study.best_params, **sweep.final})
    config.track.name = f"{sweep.name}-best"
    config.track.parent = parent
    config.train.runs = str(folder.parent)
    print(f"training the best of {sweep.name} out: {study.best_params}", file=sys.stderr)
    folder_of_best = RunFolder(folder.parent / config.track.name)
    return train(config, again=bool(folder_of_best.changed(config)))  # another best came before it


def predict(sweep: Sweep, best: dict[str, Any]) -> int:
    """Writes the submission with the best model. Returns the exit code: 3 where some rows are fallbacks."""
    from src.predict import main as predict_main

    return predict_main(["--model", best["model"], "--data", sweep.predict, "--output", sweep.output])


if __name__ == "__main__":
    run_command(main)
