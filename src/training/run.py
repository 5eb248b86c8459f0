"""One training run, from a config to a model folder."""

import sys
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback

from src.common.device import best_device
from src.common.errors import UserError, one_line
from src.common.process_group import ProcessGroup
from src.common.progress import progress_line
from src.config.plugin_keys import decoder_class
from src.config.schema import Config, to_dict
from src.data.leaky_split import LEAKING, is_leaky
from src.data.tokenizer import Tokenizer
from src.inference.feature_extractor import reuse_memory
from src.metrics.meteor import optional_meteor
from src.models.backbones.base import Backbone, resolve_backbone
from src.models.compilation import compile_blocks
from src.models.model_folder import load_model_folder
from src.models.mos_heads.base import FittedHead
from src.models.multitask import MultitaskModel
from src.tracking.abandoned_runs import send_missed
from src.tracking.mlflow_tracker import Tracker
from src.tracking.run_folder import RunFolder, hash_weights, run_name
from src.tracking.run_lock import is_run_held
from src.tracking.run_registry import find_model
from src.training.config_checks import check_config, check_places
from src.training.datamodule import DataModule
from src.training.finalize import finalize_run
from src.training.lightning_module import MultitaskModule
from src.training.run_finders import find_settings
from src.training.self_critical import SelfCriticalLoss
from src.training.trainer import fit_model, make_trainer


def train(config: Config, again: bool = False, extra_callbacks: list[Callback] | None = None) -> dict[str, Any]:
    """Trains as configured, or returns at once where the same run is already done.

    Args:
        config: the run's.
        again: throw away an earlier run of the same name.
        extra_callbacks: Lightning callbacks beside the run's own.

    Returns:
        name, model (folder), selected, scores {name: {value, low, high}}, seconds of training, captions trained on,
        run_id.

    Raises:
        UserError: bad config or data; the loss is not finite; the disk is full.
    """
    check_config(config)
    config = resolve_backbone(config)
    name = run_name(config)
    folder = RunFolder(Path(config.train.runs) / name)
    folder.open(config, again)
    if folder.result.exists():
        print(f"run {name} is already done; --again true trains it anew", file=sys.stderr)
        send_unsent(folder)
        return folder.finished()
    check_places(config)
    config.track.name = name
    if config.train.workers > 1:
        from src.training.distributed import train_distributed  # Ray, for such runs alone

        return train_distributed(train_process, config, folder, extra_callbacks)
    return train_process(config, folder, extra_callbacks)


def send_unsent(folder: RunFolder) -> None:
    """Sends the records of a finished run that MLflow lacks, unless the run's own process is about to."""
    if not is_run_held(folder.path):
        send_missed(folder.path)


def train_process(
    config: Config,
    folder: RunFolder,
    extra_callbacks: list[Callback] | None = None,
    group: ProcessGroup | None = None,
) -> dict[str, Any]:
    """Trains in this process, alone or as one of a group. Returns as `train`; of a group, rank 0 does."""
    reuse_memory()
    config = deepcopy(config)  # of which settings are found here
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    seed_everything(config.train.seed, verbose=False)
    group = group or ProcessGroup()
    first = group.rank == 0
    backbone = Backbone(config.model.backbone)
    data = DataModule(config, backbone, own_tokenizer(config), group.rank, group.world, progress=first)
    folder.check_data(data.data_hash)
    tags = {"data_hash": data.data_hash, "kind": "run"}
    if weights := hash_weights(config):
        tags["weights_hash"] = weights
    tracking = Tracker.start(config.track, folder.path, to_dict(config), tags) if first else nullcontext()
    with optional_meteor(config.model.decoder.enabled and first) as meteor, tracking as tracker:
        if first:
            folder.tidy()
        model = make_model(config, backbone, data)
        find_settings(config, folder, model, data, tracker)
        self_critical = make_self_critical_loss(config, model, data)
        module = MultitaskModule(model, config, data.tokenizer, meteor, self_critical, group)
        trainer = make_trainer(config, folder, tracker, extra_callbacks, group.world)
        fit_model(config.train, module, data, folder, trainer)
        finalize_run(config, folder, module, data, tracker)
    return folder.finished() if first else {}


def own_tokenizer(config: Config) -> Tokenizer | None:
    """The tokenizer that a decoder comes with; None where one is trained on the captions."""
    decoder = config.model.decoder
    return decoder_class(decoder.kind).tokenizer(config) if decoder.enabled else None


def make_model(config: Config, backbone: Backbone, data: DataModule) -> MultitaskModel:
    """An untrained model for the data's vocabulary, its mos head scaled to the training mos."""
    vocabulary = data.tokenizer.size, len(data.tokenizer.styles)
    model = MultitaskModel(config.model, backbone, *vocabulary, data.mos_backbones)
    fit_mos_head(model, data)
    if config.train.start_from:
        load_start_weights(config.train.start_from, model, data)
    if config.train.compile and model.decoder is not None:
        compile_blocks(model.decoder, best_device())
    return model


def fit_mos_head(model: MultitaskModel, data: DataModule) -> None:
    """Fits a mos head that the losses do not train; else only its scales."""
    if not isinstance(model.mos, FittedHead):
        data.fit_scale(model)
        return
    levels, mos, weight = data.mos_views()
    model.mos.fit(levels, mos, weight)
    if data.progress:
        progress_line(f"mos head fitted to {len(mos):,} photos in {model.mos.seconds:.1f} s")


def load_start_weights(run: str, model: MultitaskModel, data: DataModule) -> None:
    """Loads the weights of a trained model.

    Raises:
        UserError: it has another vocabulary or other sizes, or was trained on held-out images.
    """
    loaded = load_model_folder(find_model(run))
    if is_leaky(loaded.config.data) and not is_leaky(data.config.data):
        raise UserError(f"train.start_from {run}: was trained on held-out photos (split {LEAKING}); choose another")
    if model.decoder is not None and loaded.tokenizer.to_json() != data.tokenizer.to_json():
        raise UserError(f"train.start_from {run}: its tokenizer is not that of this data; train both on the same data")
    state = loaded.model.state_dict()
    if not model.learns_mos:  # it is fitted to this run's own images
        parts = ("mos.", "mos_backbones.")
        state = {name: value for name, value in state.items() if not name.startswith(parts)}
        state |= {name: value for name, value in model.state_dict().items() if name.startswith(parts)}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"train.start_from {run}: is built otherwise ({one_line(error)[:200]}); use its model settings"
        ) from error


def make_self_critical_loss(config: Config, model: MultitaskModel, data: DataModule) -> SelfCriticalLoss | None:
    """The captions' loss in the last epochs; None where it is not configured."""
    settings = config.train.self_critical
    if not settings.epochs or model.decoder is None:
        return None
    return SelfCriticalLoss(settings, model, data.tokenizer, data.parts["train"], config.generate.max_length)
