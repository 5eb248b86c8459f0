"""One run in several processes, by Ray Train's TorchTrainer: each has a copy of the model, and a GPU where there are.

Only rank 0 tracks, checkpoints and keeps. Where a worker dies, all are started anew and go on from the last checkpoint.
"""

import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common.errors import UserError, one_line
from src.common.ray_cluster import enter_working_folder, ray_session
from src.config.schema import Config
from src.tracking.mlflow_client import tracking_uri
from src.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from ray.train import TrainingFailedError

TrainProcess = Callable[..., dict[str, Any]]
MAX_WORKER_DEATHS = 3  # of workers, after which a run gives up


def train_distributed(
    train: TrainProcess, config: Config, folder: RunFolder, more: "list[Callback] | None" = None
) -> dict[str, Any]:
    """Trains in config.train.workers processes, each of which calls `train`. Returns as `src.train.train`.

    Raises:
        UserError: what a worker raises; too few CPUs or GPUs; a worker died too often.
    """
    from ray.train import TrainingFailedError

    from src.tracking.abandoned_runs import end_when_gone
    from src.tracking.mlflow_sync import Status

    status: Status = "KILLED"
    try:
        with ray_session(tracking_uri()):
            for attempt in range(MAX_WORKER_DEATHS + 1):
                try:
                    start_workers(train, config, folder, more)
                    break
                except TrainingFailedError as error:
                    status = "FAILED"
                    handle_failure(error, folder, attempt)
                    status = "KILLED"
        return read_run_result(folder)
    finally:  # rank 0 ends its MLflow run itself, if it lives to do it
        end_when_gone(folder.path, status)


def start_workers(train: TrainProcess, config: Config, folder: RunFolder, more: "list[Callback] | None") -> None:
    """Starts the workers once, and waits for them.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    scaling = ScalingConfig(num_workers=config.train.workers, **training_resources(config))
    place = tempfile.mkdtemp(prefix=".ray-", dir=folder.path)  # on the disk that all machines share
    settings = {"train": train, "config": config, "folder": folder, "more": more, "home": str(Path.cwd())}
    try:
        trainer = TorchTrainer(
            train_worker,
            train_loop_config=settings,
            scaling_config=scaling,
            run_config=RunConfig(name="run", storage_path=str(Path(place).resolve()), callbacks=tune_callbacks()),
        )
        trainer.fit()
    except SystemExit as error:  # how Ray Train answers Ctrl-C
        raise KeyboardInterrupt from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def training_resources(config: Config) -> dict[str, Any]:
    """What each worker holds.

    Raises:
        UserError: Ray has less than all of them need.
    """
    import ray

    there, workers = ray.cluster_resources(), config.train.workers
    gpu = there.get("GPU", 0) > 0
    each = {"CPU": float(config.train.cpus or config.train.threads or 1)} | ({"GPU": 1.0} if gpu else {})
    for name, amount in each.items():
        if workers * amount > there.get(name, 0):
            has = f"{workers} workers need {workers * amount:g} {name}, Ray has {there.get(name, 0):g}"
            raise UserError(f"train.workers: {has}; set fewer, or RAY_ADDRESS to a larger cluster")
    return {"use_gpu": gpu, "resources_per_worker": each}


def tune_callbacks() -> list[Any]:
    """What hands the workers' reports on, in a sweep's trial."""
    from ray.tune.integration.ray_train import TuneReportCallback
    from ray.tune.trainable.trainable_fn_utils import _in_tune_session

    return [TuneReportCallback()] if _in_tune_session() else []


def train_worker(settings: dict[str, Any]) -> None:
    """One worker's part."""
    from ray import train
    from ray.train.torch import get_device

    from src.common.process_group import ProcessGroup

    enter_working_folder(settings["home"])
    warnings.filterwarnings("ignore", "It is recommended to use `self.log")  # all ranks log the same
    context = train.get_context()
    group = ProcessGroup(context.get_world_rank(), context.get_world_size(), get_device().type)
    settings["train"](settings["config"], settings["folder"], settings["more"], group)


def handle_failure(error: "TrainingFailedError", folder: RunFolder, attempt: int) -> None:
    """Says that the run goes on after a worker's death, or raises what went wrong.

    Raises:
        UserError: a worker raised one, or too many died.
    """
    failures = list(getattr(error, "worker_failures", {}).values())
    causes = [root_cause(failure) for failure in failures]
    own = [one for one in causes if isinstance(one, UserError)]
    if own:
        raise own[0] from error
    if not any(is_worker_death(one) for one in causes):
        raise error
    if attempt == MAX_WORKER_DEATHS:
        raise UserError(
            f"{folder.path}: a worker died {MAX_WORKER_DEATHS + 1} times ({one_line(causes[0])[:200]}); look at the "
            "machine's memory, then give the same command again"
        ) from error
    print(f"{folder.path}: a worker died; all go on from the last checkpoint", file=sys.stderr)


def root_cause(failure: BaseException) -> BaseException:
    """What a worker raised, out of what Ray wraps it in."""
    for name in ("_base_exc", "cause", "health_check_failure"):
        inner = getattr(failure, name, None)
        if isinstance(inner, BaseException):
            return root_cause(inner)
    return failure


def is_worker_death(error: BaseException) -> bool:
    """Whether a worker's process or machine is gone."""
    from ray.exceptions import NodeDiedError, RayActorError, WorkerCrashedError

    return isinstance(error, RayActorError | NodeDiedError | WorkerCrashedError)


def read_run_result(folder: RunFolder) -> dict[str, Any]:
    """What rank 0 kept.

    Raises:
        UserError: it is not here, since rank 0 wrote it to another machine's disk.
    """
    if not folder.result.exists():
        raise UserError(f"{folder.result}: is not here; set train.runs to a folder that all machines share")
    return folder.finished()
