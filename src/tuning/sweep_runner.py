"""A hyper-parameter search with Ray Tune: trials, the best trained out.

The search's memory is Optuna's study, in a database in the sweep's folder; a trial's is its run folder. Started again,
a sweep reads both: finished trials count, those cut short go on from their checkpoints.
"""

import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common.ray_cluster import IDLE_CPUS, ray_session
from src.config.loader import read_yaml
from src.config.schema import TrackConfig
from src.tracking.mlflow_client import tracking_uri
from src.tracking.run_registry import register_model
from src.tuning.study import (
    best_trial,
    counted_trials,
    finished_trials,
    make_sampler,
    open_study,
    spent_hours,
    study_figures,
    study_status,
    study_storage,
    trial_scores,
)
from src.tuning.sweep_config import SearchSpace, SweepConfig, locate_errors, trial_config, trials_at_once

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search import ConcurrencyLimiter

    from src.tracking.mlflow_tracker import Tracker
    from src.tuning.trial import DeadTrials, FailureLimit


def sweep_name(path: Path) -> str:
    """The name of a file's sweep; the rest of the file is not checked."""
    return str(read_yaml(path).get("name") or path.stem)


def prepare_sweep(sweep: SweepConfig, path: Path) -> None:
    """Makes the demo data where the sweep asks for it, and the feature cache, once for all trials.

    Raises:
        UserError: the photos to predict in the end are not there; names the line of the sweep's file, `path`.
    """
    from src.data.demo import make_demo
    from src.data.image_list import read_image_list
    from src.training.datamodule import build_feature_store

    config = trial_config(sweep, {})
    demo = Path("data/demo")
    if any(Path(source.path).is_relative_to(demo) for source in config.data.sources):
        make_demo(demo)
    if sweep.predict:
        with locate_errors(path, "predict"):
            read_image_list(Path(sweep.predict))
    if config.data.cache and config.model.backbone.frozen:
        build_feature_store(config)


def run_sweep(sweep: SweepConfig, runs: Path) -> list[dict[str, Any]]:
    """Searches, prints the table of trials, trains the best out and registers it.

    Returns:
        The result of the best, or of each of its folds.
    """
    from src.tracking.mlflow_tracker import Tracker

    folder = runs / f"sweep-{sweep.name}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"sweep": vars(sweep) | {"resources": vars(sweep.resources)}}
    track = TrackConfig(experiment=trial_config(sweep, {}).track.experiment, name=sweep.name)
    with Tracker.start(track, folder, settings, {"sweep": sweep.name, "kind": "sweep"}) as tracker:
        study = open_study(sweep, folder)
        tracker.set_tags({"status": "running"})
        try:
            run_search(sweep, folder, study, tracker.run_id)
        except BaseException:
            tracker.set_tags({"status": "failed"})
            raise
        finally:
            log_search(study, runs, tracker)
        trained = train_best(sweep, folder, best_trial(study), tracker.run_id)
        found = [one["selected"] for one in trained]
        tracker.log_metrics({"final_selected": statistics.fmean(found), "final_deviation": statistics.pstdev(found)})
        tracker.set_tags({"best_run": " ".join(one["name"] for one in trained), "status": "finished"})
    for one in sorted(trained, key=lambda one: one["selected"]):  # each a version of the model, the last one its `best`
        register_model(sweep.name, one["run_id"])
    return trained


def log_search(study: "optuna.Study", runs: Path, tracker: "Tracker") -> None:
    """Prints the table of trials, and keeps it with counts, best scores and plots in the sweep's folder and MLflow."""
    text = study_status(study, runs)
    print(text)
    tracker.log_text(text, "trials.txt")
    done = finished_trials(study)
    failed = sum(trial.state.name == "FAIL" for trial in counted_trials(study))
    tracker.log_metrics({"trials_finished": len(done), "trials_failed": failed, "hours": spent_hours(study)})
    if done:
        best = best_trial(study)
        names = study.user_attrs["objective"]
        tracker.log_metrics(dict(zip(names, trial_scores(best), strict=True)))
        tracker.set_tags({f"best.{key}": value for key, value in best.params.items()})
        for name, figure in study_figures(study):
            tracker.log_figure(figure, f"plots/{name}.png")


def run_search(sweep: SweepConfig, folder: Path, study: "optuna.Study", parent: str) -> None:
    """Runs the trials that are still missing, through Ray Tune.

    Raises:
        UserError: no trial succeeded, or too many failed for one reason.
    """
    from src.tuning.trial import DeadTrials, FailureLimit, end_trials

    todo = max(0, sweep.trials - len(finished_trials(study))) if sweep.trials else -1
    end = time.monotonic() + 3600 * (sweep.hours - spent_hours(study)) if sweep.hours else math.inf
    failures, deaths = FailureLimit(sweep.failures), DeadTrials(study)
    try:
        with ray_session(tracking_uri()):
            while todo and time.monotonic() < end and not failures.stop_all():
                todo = run_trials(sweep, folder, todo, end - time.monotonic(), parent, failures, deaths)
    finally:
        end_trials(sweep, folder.parent, study)
    failures.check(sweep.name)
    best_trial(study)  # or there is none


def run_trials(
    sweep: SweepConfig,
    folder: Path,
    trials: int,
    seconds: float,
    parent: str,
    failures: "FailureLimit",
    deaths: "DeadTrials",
) -> int:
    """Runs `trials` trials in Ray (-1: no limit), for at most `seconds`.

    Returns:
        How many of them died, and are queued again for another call.
    """
    from ray import tune as ray_tune

    from src.tuning.trial import TrialProgress, run_trial

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # or Ctrl-C would end the search as if it were done
    runs, home = str(folder.parent.resolve()), str(Path.cwd())
    trainable = ray_tune.with_parameters(run_trial, sweep=sweep, runs=runs, parent=parent, home=home)
    progress = TrialProgress(sweep.name, folder.parent, max(0, trials), failures, deaths)
    ray_tune.Tuner(
        ray_tune.with_resources(trainable, trial_resources(sweep)),
        tune_config=ray_tune.TuneConfig(
            metric="selected",
            mode="max",
            num_samples=trials,
            time_budget_s=None if math.isinf(seconds) else seconds,
            # A process takes longer to start than to train the demo; one that waits for workers cannot be stopped.
            reuse_actors=sweep.resources.workers == 1,
            search_alg=make_searcher(sweep, folder, len(deaths.study.trials)),
            scheduler=make_scheduler(sweep),
        ),
        run_config=ray_tune.RunConfig(
            name="tune",
            storage_path=str(folder.resolve()),
            verbose=0,
            stop=failures,
            callbacks=[progress],
        ),
    ).fit()
    return progress.queued


def trial_resources(sweep: SweepConfig) -> dict[str, float]:
    """What a trial's own process holds; where it has workers, these hold the rest."""
    if sweep.resources.workers > 1:
        return {"cpu": IDLE_CPUS}
    return {"cpu": sweep.resources.cpu, "gpu": sweep.resources.gpu}


def make_searcher(sweep: SweepConfig, folder: Path, drawn: int) -> "ConcurrencyLimiter":
    """Draws trials' values by the study, so many at a time, after those that it holds already."""
    import ray
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    two = len(sweep.objective) > 1
    algorithm = OptunaSearch(
        SearchSpace(sweep.space),
        metric=sweep.objective if two else "selected",
        mode=["max", "max"] if two else "max",
        sampler=make_sampler(sweep, drawn),
        storage=study_storage(folder),
        study_name=sweep.name,
    )
    return ConcurrencyLimiter(algorithm, max_concurrent=trials_at_once(sweep, ray.cluster_resources()))


def make_scheduler(sweep: SweepConfig) -> "TrialScheduler":
    """What stops trials early, by their selected scores: ASHA (Li et al. 2020), the median rule, or nothing."""
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule

    if sweep.scheduler == "median":
        return MedianStoppingRule("training_iteration", grace_period=sweep.grace, min_samples_required=3)
    if sweep.scheduler == "none":
        return FIFOScheduler()
    train = trial_config(sweep, {}).train
    longest = max(train.epochs // train.eval_every + 1, sweep.grace)  # a trial reports once more when its model is kept
    return AsyncHyperBandScheduler(grace_period=sweep.grace, max_t=longest, reduction_factor=3)


def train_best(sweep: SweepConfig, folder: Path, best: "FrozenTrial", parent: str) -> list[dict[str, Any]]:
    """Trains the best trial's values out, with what `final` says, as a run of its own, or one a fold.

    Returns:
        Each run's result.
    """
    from src.tracking.run_folder import RunFolder
    from src.training.run import train

    print(f"training the best of {sweep.name} out: {best.params}", file=sys.stderr)
    results = []
    for fold in range(max(1, sweep.folds)):
        config = trial_config(sweep, {**best.params, **sweep.final})
        config.track.name, config.track.parent = f"{sweep.name}-best", parent
        if sweep.folds:
            config.data.folds, config.data.fold = sweep.folds, fold
            config.track.name += f"-fold{fold}"
        config.train.runs = str(folder.parent)
        config.train.workers = sweep.resources.workers
        before = RunFolder(folder.parent / config.track.name)
        results.append(train(config, again=bool(before.changed(config))))  # another best came before it
    return results
