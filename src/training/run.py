"""One training run, from a config to a model folder."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common.errors import UserError, one_line
from src.config.schema import Config, to_dict

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from src.common.process_group import Group
    from src.models.backbones.backbone import Backbone
    from src.models.multitask import Multitask
    from src.tracking.run_folder import RunFolder
    from src.training.datamodule import Data
    from src.training.self_critical import SelfCritical
from src.training.config_checks import check


def train(config: Config, again: bool = False, more: "list[Callback] | None" = None) -> dict[str, Any]:
    """Trains as configured, or returns at once where the same run is already done.

    Returns:
        name, model (folder), selected, scores {name: {value, low, high}}, seconds of training, captions trained on,
        run_id.

    Raises:
        UserError: bad config or data; the loss is not finite; the disk is full.
    """
    from src.models.backbones.network import with_sides
    from src.tracking.run_folder import RunFolder, run_name

    check(config)
    config = with_sides(config)
    name = run_name(config)
    folder = RunFolder(Path(config.train.runs) / name)
    folder.open(config, again)
    if folder.result.exists():
        print(f"run {name} is already done; --again true trains it anew", file=sys.stderr)
        send_rest(folder)
        return folder.finished()
    config.track.name = name
    if config.train.workers > 1:
        from src.training.distributed import train_together

        return train_together(train_here, config, folder, more)
    return train_here(config, folder, more)


def send_rest(folder: "RunFolder") -> None:
    """Sends what MLflow missed of a finished run, unless the run's own process is about to."""
    from src.tracking.mlflow_sync import SPOOL
    from src.tracking.mlflow_tracker import is_held, send_missed

    if (folder.path / SPOOL).exists() and not is_held(folder.path):
        send_missed(folder.path)


def train_here(
    config: Config, folder: "RunFolder", more: "list[Callback] | None" = None, group: "Group | None" = None
) -> dict[str, Any]:
    """Trains in this process, alone or as one of a group. Returns as `train`; of a group, rank 0 does."""
    from contextlib import nullcontext

    import torch
    from lightning.pytorch import seed_everything

    from src.common.process_group import Group
    from src.inference.feature_extractor import reuse_memory
    from src.metrics.meteor import meteor_if_there
    from src.models.backbones.backbone import Backbone
    from src.models.backbones.blip import own_tokenizer
    from src.tracking.mlflow_tracker import Tracker
    from src.training.datamodule import Data
    from src.training.finalize import keep
    from src.training.lightning_module import Learner
    from src.training.trainer import fit, make_trainer

    reuse_memory()
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    seed_everything(config.train.seed, verbose=False)
    group = group or Group()
    first = group.rank == 0
    backbone = Backbone(config.model.backbone)
    data = Data(config, backbone, own_tokenizer(config), group.rank, group.world, progress=first)
    tags = {"data_hash": data.data_hash, "kind": "run"}
    tracking = Tracker.start(config.track, folder.path, to_dict(config), tags) if first else nullcontext()
    with meteor_if_there(config.model.decoder.enabled and first) as meteor, tracking as tracker:
        if first:
            folder.tidy()
        model = make_model(config, backbone, data)
        learner = Learner(model, config, data.tokenizer, meteor, make_critic(config, model, data), group)
        trainer = make_trainer(config, folder, tracker, more, group.world)
        fit(config.train, learner, data, folder, trainer)
        keep(config, folder, learner, data, tracker)
    return folder.finished() if first else {}


def make_model(config: Config, backbone: "Backbone", data: "Data") -> "Multitask":
    """An untrained model for the data's vocabulary, its mos head scaled to the training mos."""
    from src.common.device import best_device
    from src.models.compilation import compile_blocks
    from src.models.decoders.llama import Llama
    from src.models.multitask import Multitask

    model = Multitask(config.model, backbone, data.tokenizer.size, len(data.tokenizer.styles))
    data.fit_scale(model)
    if config.train.start_from:
        start_from(config.train.start_from, model, data)
    if config.train.compile and isinstance(model.decoder, Llama):
        compile_blocks(model.decoder, best_device())
    return model


def start_from(run: str, model: "Multitask", data: "Data") -> None:
    """Takes a trained model's weights over.

    Raises:
        UserError: it has other words, is built otherwise, or has seen held-out photos.
    """
    from src.data.leaky_split import LEAKING, leaking
    from src.models.model_folder import load
    from src.tracking.run_registry import find_model

    loaded = load(find_model(run))
    if leaking(loaded.config.data) and not leaking(data.config.data):
        raise UserError(f"train.start_from {run}: was trained on held-out photos (split {LEAKING}); choose another")
    if model.decoder is not None and loaded.tokenizer.to_json() != data.tokenizer.to_json():
        raise UserError(f"train.start_from {run}: its tokenizer is not that of this data; train both on the same data")
    try:
        model.load_state_dict(loaded.model.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"train.start_from {run}: is built otherwise ({one_line(error)[:200]}); use its model settings"
        ) from error


def make_critic(config: Config, model: "Multitask", data: "Data") -> "SelfCritical | None":
    """What captions learn from in the last epochs, where there are such."""
    from src.training.self_critical import SelfCritical

    if not config.train.self_critical.epochs or model.decoder is None:
        return None
    return SelfCritical(
        config.train.self_critical, model, data.tokenizer, data.parts["train"], config.generate.max_length
    )
