"""The model folder: all files that prediction needs, without pickle.

model.safetensors (weights and buffers), config.yaml, tokenizer.json, meta.json (the folder's format number, FORMAT, and
what the run knows of its data and scores).
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file

from src.common.errors import UserError, one_line
from src.common.files import atomic_write, check_readable, partial_folder
from src.config.loader import config_from_dict, load_yaml
from src.config.schema import BackboneConfig, Config, MosBackboneConfig
from src.data.tokenizer import Tokenizer
from src.models.backbones.base import Backbone, make_mos_backbones
from src.models.backbones.blip import is_blip
from src.models.multitask import MultitaskModel
from src.models.safetensors_file import read_safetensors

FORMAT = 1  # of a model folder; counted up when an older program could not read a new folder, or the other way round
FILES = ("model.safetensors", "config.yaml", "tokenizer.json", "meta.json")


@dataclass(kw_only=True)
class ModelDescription:
    """A model folder's content without the weights, and the folder."""

    tokenizer: Tokenizer
    config: Config
    meta: dict[str, Any]
    folder: Path


@dataclass(kw_only=True)
class LoadedModel(ModelDescription):
    """A model folder's content; the model is in eval mode, on the CPU."""

    model: MultitaskModel


def save_model(folder: Path, model: MultitaskModel, tokenizer_json: str, config: Config, meta: dict[str, Any]) -> None:
    """Writes a model folder, whole or not at all; an older one of that name stays until the new one is complete."""
    with partial_folder(folder) as part:
        _write(part, model, tokenizer_json, config, meta)
        old = part.with_name(f"{part.name}.old")
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _write(part: Path, model: MultitaskModel, tokenizer_json: str, config: Config, meta: dict[str, Any]) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in _state(model).items()}
    head = {"vocabulary": str(model.vocabulary), "styles": str(len(model.special) - 2)}
    with atomic_write(part / "model.safetensors") as file:
        save_file(state, file, metadata=head)
    config = _complete_config(config, model)
    (part / "config.yaml").write_text(yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True), "utf-8")
    (part / "tokenizer.json").write_text(tokenizer_json, "utf-8")
    (part / "meta.json").write_text(json.dumps({"format": FORMAT} | meta, ensure_ascii=False, indent=1), "utf-8")


def _complete_config(config: Config, model: MultitaskModel) -> Config:
    """The config with those of the networks themselves, which may hold sizes from files that are not needed again."""
    pairs = zip(config.model.mos.backbones, model.networks[1:], strict=True)
    networks = [
        replace(extra, name=network.config.name, options=network.config.options) if extra.name else extra
        for extra, network in pairs
    ]
    mos = replace(config.model.mos, backbones=networks)
    return replace(config, model=replace(config.model, backbone=model.backbone.config, mos=mos))


def _state(model: MultitaskModel) -> dict[str, torch.Tensor]:
    """The state dict, with tied weights under their first name only."""
    names: dict[int, str] = {}
    state = model.state_dict()
    for name, value in state.items():
        names.setdefault(value.data_ptr() if value.numel() else id(value), name)
    return {name: state[name] for name in names.values()}


def load_model_folder(folder: Path) -> LoadedModel:
    """Reads a model folder. It runs no code of the folder, and reads no file outside of it, nor the hub.

    Raises:
        UserError: as describe_model, or a file is missing or of something else (names it).
    """
    folder = Path(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder} is no model folder: {', '.join(missing)} is missing; give one that src.train wrote")
    about = describe_model(folder)
    model = _model(check_model_file(folder, "model.safetensors"), about.config)
    return LoadedModel(**vars(about), model=model.eval())


def describe_model(folder: Path) -> ModelDescription:
    """Reads all of a model folder but its weights.

    Raises:
        UserError: a file is missing, unreadable or damaged (names it), a link out of the folder, or config.yaml
            includes another file; the folder has another format.
    """
    files = {name: check_model_file(folder, name) for name in ("meta.json", "tokenizer.json", "config.yaml")}
    meta = _meta(files["meta.json"])
    tokenizer = Tokenizer.load(files["tokenizer.json"])
    config = config_from_dict(load_yaml(files["config.yaml"]), str(files["config.yaml"]))
    return ModelDescription(tokenizer=tokenizer, config=config, meta=meta, folder=folder)


def check_model_file(folder: Path, name: str) -> Path:
    """The path of a model folder's file. Raises UserError where it is unreadable, or a link out of the folder."""
    path = folder / name
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise UserError(f"{path}: is a link out of the model folder; put the file itself there")
    check_readable(path)
    return path


def _meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); train the model again") from error
    if not isinstance(meta, dict):
        raise UserError(f"{path} is no mapping; train the model again")
    if meta.get("format") != FORMAT:
        other = f"format {meta['format']}" if "format" in meta else "no format number"
        raise UserError(f"{path}: {other}, but this version reads format {FORMAT}; train the model again")
    return meta


def _model(path: Path, config: Config) -> MultitaskModel:
    try:
        state, head = read_safetensors(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or no safetensors file ({error}); train the model again") from error
    if not {"vocabulary", "styles"} <= head.keys():
        raise UserError(f"{path} is not a model of this project; give a folder that src.train wrote")
    networks: list[BackboneConfig | MosBackboneConfig] = [config.model.backbone, *config.model.mos.backbones]
    if any(is_blip(network.name) and "vision" not in network.options for network in networks):
        raise UserError(f"{path.parent}: config.yaml lacks the sizes of a BLIP in its options; train the model again")
    model = _untrained_model(config, int(head["vocabulary"]), int(head["styles"]))
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit its config.yaml ({one_line(error)[:200]})") from error
    wrong = sorted((set(missing) & set(_state(model))) | set(unexpected))
    if wrong:
        raise UserError(f"{path} does not fit its config.yaml: missing or foreign entries {', '.join(wrong[:3])}")
    return model


def _untrained_model(config: Config, vocabulary: int, styles: int) -> MultitaskModel:
    """A model of a config, with random weights."""
    networks = [replace(extra, weights="none") for extra in config.model.mos.backbones]
    mos = replace(config.model.mos, backbones=networks)
    settings = replace(config.model, backbone=replace(config.model.backbone, weights="none"), mos=mos)
    backbone = Backbone(settings.backbone)
    return MultitaskModel(settings, backbone, vocabulary, styles, make_mos_backbones(backbone, networks))
