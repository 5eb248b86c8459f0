"""One run in several processes, by Ray Train's TorchTrainer: each has a copy of the model, and a GPU if there are any.

Only rank 0 tracks, checkpoints and saves. After a worker's death all workers start again from the last checkpoint.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from lightning.pytorch.callbacks import Callback
from ray import train as ray_train
from ray.exceptions import NodeDiedError, RayActorError, WorkerCrashedError
from ray.train.torch import TorchTrainer, get_device
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.trainable.trainable_fn_utils import _in_tune_session

from src.common.errors import UserError, one_line
from src.common.process_group import ProcessGroup
from src.common.ray_cluster import enter_working_folder, ray_session
from src.config.schema import Config
from src.tracking.abandoned_runs import end_when_gone
from src.tracking.mlflow_client import tracking_uri
from src.tracking.mlflow_sync import Status
from src.tracking.run_folder import RunFolder

TrainProcess = Callable[..., dict[str, Any]]
MAX_WORKER_DEATHS = 3  # of workers, after which a run gives up


def train_distributed(
    train: TrainProcess, config: Config, folder: RunFolder, extra_callbacks: list[Callback] | None = None
) -> dict[str, Any]:
    """Trains in config.train.workers processes, each of which calls `train`. Returns as run.train.

    Raises:
        UserError: a worker raised it; too few CPUs or GPUs; a worker died too often.
    """
    status: Status = "KILLED"
    try:
        with ray_session(tracking_uri()):
            for attempt in range(MAX_WORKER_DEATHS + 1):
                try:
                    start_workers(train, config, folder, extra_callbacks)
                    break
                except ray_train.TrainingFailedError as error:
                    status = "FAILED"
                    handle_failure(error, folder, attempt)
                    status = "KILLED"
        return read_run_result(folder)
    finally:  # rank 0 ends its MLflow run itself, if it lives to do it
        end_when_gone(folder.path, status)


def start_workers(
    train: TrainProcess, config: Config, folder: RunFolder, extra_callbacks: list[Callback] | None
) -> None:
    """Starts the workers once, and waits for them.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    scaling = ray_train.ScalingConfig(num_workers=config.train.workers, **training_resources(config))
    place = tempfile.mkdtemp(prefix=".ray-", dir=folder.path)  # on the disk that all machines share
    settings = {"train": train, "config": config, "folder": folder, "callbacks": extra_callbacks}
    storage = str(Path(place).resolve())
    try:
        trainer = TorchTrainer(
            train_worker,
            train_loop_config=settings | {"home": str(Path.cwd())},
            scaling_config=scaling,
            run_config=ray_train.RunConfig(name="run", storage_path=storage, callbacks=tune_callbacks()),
        )
        trainer.fit()
    except SystemExit as error:  # Ray Train's response to Ctrl-C
        raise KeyboardInterrupt from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def training_resources(config: Config) -> dict[str, Any]:
    """The resources of each worker.

    Raises:
        UserError: Ray has less than all of them need.
    """
    available, workers = ray.cluster_resources(), config.train.workers
    gpu = available.get("GPU", 0) > 0
    each = {"CPU": float(config.train.cpus or config.train.threads or 1)} | ({"GPU": 1.0} if gpu else {})
    for name, amount in each.items():
        if workers * amount > available.get(name, 0):
            has = f"{workers} workers need {workers * amount:g} {name}, Ray has {available.get(name, 0):g}"
            raise UserError(f"train.workers: {has}; set fewer, or RAY_ADDRESS to a larger cluster")
    return {"use_gpu": gpu, "resources_per_worker": each}


def tune_callbacks() -> list[Any]:
    """The callback that passes the workers' reports on to Ray Tune, in a sweep's trial."""
    return [TuneReportCallback()] if _in_tune_session() else []


def train_worker(settings: dict[str, Any]) -> None:
    """Trains in one worker."""
    enter_working_folder(settings["home"])
    context = ray_train.get_context()
    group = ProcessGroup(context.get_world_rank(), context.get_world_size(), get_device().type)
    settings["train"](settings["config"], settings["folder"], settings["callbacks"], group)


def handle_failure(error: ray_train.TrainingFailedError, folder: RunFolder, attempt: int) -> None:
    """Prints that the run resumes after a worker's death, or raises the cause of any other failure.

    Raises:
        UserError: a worker raised one, or too many died.
    """
    failures = list(getattr(error, "worker_failures", {}).values())
    causes = [root_cause(failure) for failure in failures]
    if user_errors := [cause for cause in causes if isinstance(cause, UserError)]:
        raise user_errors[0] from error
    if not any(is_worker_death(cause) for cause in causes):
        raise error
    if attempt == MAX_WORKER_DEATHS:
        raise UserError(
            f"{folder.path}: a worker died {MAX_WORKER_DEATHS + 1} times ({one_line(causes[0])[:200]}); look at the "
            "machine's memory, then give the same command again"
        ) from error
    print(f"{folder.path}: a worker died; all resume from the last checkpoint", file=sys.stderr)


def root_cause(failure: BaseException) -> BaseException:
    """The exception of a worker, without those that Ray wraps around it."""
    for name in ("_base_exc", "cause", "health_check_failure"):
        inner = getattr(failure, name, None)
        if isinstance(inner, BaseException):
            return root_cause(inner)
    return failure


def is_worker_death(error: BaseException) -> bool:
    """Whether a worker's process or machine is gone."""
    return isinstance(error, RayActorError | NodeDiedError | WorkerCrashedError)


def read_run_result(folder: RunFolder) -> dict[str, Any]:
    """The result that rank 0 saved.

    Raises:
        UserError: it is not here, since rank 0 saved it on another machine's disk.
    """
    if not folder.result.exists():
        raise UserError(f"{folder.result}: is not here; set train.runs to a folder that all machines share")
    return folder.finished()
