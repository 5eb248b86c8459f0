"""A hyper-parameter search with Ray Tune: its trials, then the training of the best configuration to its end.

The search's memory is Optuna's study, in a database in the sweep's folder; a trial's is its run folder. Started again,
a sweep reads both: finished trials count, those cut short go on from their checkpoints.
"""

import math
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from optuna.study import Study
from optuna.trial import FrozenTrial
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from src.common.ray_cluster import ray_session
from src.config.schema import TrackConfig
from src.data.demo import make_demo
from src.data.image_list import find_images
from src.models.backbones.base import resolve_backbone
from src.tracking.mlflow_client import tracking_uri
from src.tracking.mlflow_tracker import Tracker
from src.tracking.run_folder import RunFolder
from src.tracking.run_registry import register_model
from src.training.datamodule import build_feature_store
from src.training.run import train
from src.tuning.group_training import train_group
from src.tuning.population import finish_population, run_population
from src.tuning.search_space import SearchSpace
from src.tuning.study import (
    best_trial,
    counted_trials,
    finished_trials,
    make_sampler,
    open_study,
    spent_hours,
    study_storage,
    trial_scores,
)
from src.tuning.study_figures import study_figures
from src.tuning.study_table import study_status
from src.tuning.sweep_config import (
    SweepConfig,
    locate_errors,
    trial_config,
    trials_at_once,
)
from src.tuning.trial import run_trial
from src.tuning.trial_progress import DeadTrials, FailureLimit, TrialProgress, end_trials, fit_trials, trial_context


def prepare_sweep(sweep: SweepConfig, path: Path) -> None:
    """Makes the demo data where the sweep uses it, and the feature cache for all trials.

    Raises:
        UserError: the photos to predict in the end are missing; names the line of the sweep's file, `path`.
    """
    config = trial_config(sweep, {})
    demo = Path("data/demo")
    if any(Path(source.path).is_relative_to(demo) for source in config.data.sources):
        make_demo(demo)
    if sweep.predict:
        with locate_errors(path, "predict"):
            find_images(sweep.predict)
    if config.data.cache and config.model.backbone.cacheable:
        build_feature_store(config)


def run_sweep(sweep: SweepConfig, runs: Path) -> list[dict[str, Any]]:
    """Searches, prints the table of trials, trains the best configuration to its end and registers its model.

    Returns:
        The result of the best, or of each of its folds.
    """
    folder = runs / f"sweep-{sweep.name}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"sweep": asdict(sweep)}
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
        if sweep.scheduler == "pbt":
            results = finish_population(sweep, folder, study, tracker)
        else:
            results = train_best(sweep, folder, best_trial(study), tracker.run_id)
        scores = [result["selected"] for result in results]
        tracker.log_metrics({"final_selected": statistics.fmean(scores), "final_deviation": statistics.pstdev(scores)})
        tracker.set_tags({"best_run": " ".join(result["name"] for result in results), "status": "finished"})
    for result in sorted(results, key=lambda result: result["selected"]):  # each a version, the last one the `best`
        register_model(sweep.name, result["run_id"])
    return results


def log_search(study: Study, runs: Path, tracker: Tracker) -> None:
    """Prints the table of trials, and logs it with counts, best scores and figures."""
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


def run_search(sweep: SweepConfig, folder: Path, study: Study, parent: str) -> None:
    """Runs the missing trials through Ray Tune.

    Raises:
        UserError: no trial succeeded, or too many failed for one reason.
    """
    todo = max(0, sweep.trials - len(finished_trials(study))) if sweep.trials else -1
    end = time.monotonic() + 3600 * (sweep.hours - spent_hours(study)) if sweep.hours else math.inf
    failures, deaths = FailureLimit(sweep.failures), DeadTrials(study)
    try:
        with ray_session(tracking_uri()):
            while todo and time.monotonic() < end and not failures.stop_all():
                run = run_population if sweep.scheduler == "pbt" else run_trials
                todo = run(sweep, folder, todo, end - time.monotonic(), parent, failures, deaths)
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
    failures: FailureLimit,
    deaths: DeadTrials,
) -> int:
    """Runs `trials` trials in Ray (-1: no limit), for at most `seconds`.

    Returns:
        Number of trials that died and were queued again for another call.
    """
    progress = TrialProgress(sweep.name, folder.parent, max(0, trials), failures, deaths)
    settings = tune.TuneConfig(
        metric="selected",
        mode="max",
        num_samples=trials,
        time_budget_s=None if math.isinf(seconds) else seconds,
        # A process takes longer to start than to train the demo; one that waits for workers cannot be stopped.
        reuse_actors=sweep.resources.workers == 1,
        search_alg=make_searcher(sweep, folder, len(deaths.study.trials)),
        scheduler=make_scheduler(sweep),
    )
    run = tune.with_parameters(run_trial, **trial_context(sweep, folder, parent))
    return fit_trials(run, sweep, folder, settings, progress)


def make_searcher(sweep: SweepConfig, folder: Path, drawn: int) -> ConcurrencyLimiter:
    """Draws the values of trials from the study, for a limited number of trials at a time."""
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


def make_scheduler(sweep: SweepConfig) -> TrialScheduler:
    """The rule that stops trials early by their selected scores: ASHA (Li et al. 2020), the median rule, or none."""
    if sweep.scheduler == "median":
        return MedianStoppingRule("training_iteration", grace_period=sweep.grace, min_samples_required=3)
    if sweep.scheduler == "none":
        return FIFOScheduler()
    train = trial_config(sweep, {}).train
    longest = max(train.epochs // train.eval_every + 1, sweep.grace)  # a trial reports once more in the end
    return AsyncHyperBandScheduler(grace_period=sweep.grace, max_t=longest, reduction_factor=3)


def train_best(sweep: SweepConfig, folder: Path, best: FrozenTrial, parent: str) -> list[dict[str, Any]]:
    """Trains the best trial's values to the end, with the settings of `final`: one run, or one a fold.

    Returns:
        Each run's result.
    """
    print(f"training the best of {sweep.name} out: {best.params}", file=sys.stderr)
    config = resolve_backbone(trial_config(sweep, {**best.params, **sweep.final}))
    config.track.name, config.track.parent = f"{sweep.name}-best", parent
    config.train.runs, config.train.workers = str(folder.parent), sweep.resources.workers
    config.folds = sweep.folds
    if sweep.folds:
        return train_group(config, replace_changed=True).results
    earlier = RunFolder(folder.parent / config.track.name)
    return [train(config, again=bool(earlier.changed(config)))]  # of another best trial
