"""python -m src.train --config configs/X.yaml: one run, from photos and a table to a model folder."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.command import make_parser, parse
from src.config import Config, MosConfig, to_dict
from src.errors import UserError, one_line, run_command

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from src.data.module import Data
    from src.learning.run import RunFolder
    from src.learning.self_critical import SelfCritical
    from src.model.backbone import Backbone
    from src.model.group import Group
    from src.model.multitask import Multitask


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, trains, and says what was written and what to type next."""
    parser = make_parser("train", "Trains one model. A run that was cut short is gone on with by the same command.")
    parser.add_argument("--again", type=bool, default=False, help="throw away an earlier run of the same name")
    config, options = parse(parser, args)
    result = train(config, again=options.again)
    print(table(result["scores"]))
    print(f"wrote {result['model']}")
    print(f"next: python -m src.evaluate --model {result['name']}")
    print(f"      python -m src.predict --model {result['name']} --data PHOTOS --output submissions/X.csv")
    print("      make ui")
    return 0


def train(config: Config, again: bool = False, more: "list[Callback] | None" = None) -> dict[str, Any]:
    """Trains as configured, or returns at once where the same run is already done.

    Returns:
        name, model (folder), selected, scores {name: {value, low, high}}, seconds of training, captions trained on,
        run_id.

    Raises:
        UserError: bad config or data; the loss is not finite; the disk is full.
    """
    from src.learning.run import RunFolder, run_name
    from src.model.network import with_sides

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
        from src.learning.together import train_together

        return train_together(train_here, config, folder, more)
    return train_here(config, folder, more)


def send_rest(folder: "RunFolder") -> None:
    """Sends what MLflow missed of a finished run, unless the run's own process is about to."""
    from src.outbox import SPOOL
    from src.tracking import is_held, send_missed

    if (folder.path / SPOOL).exists() and not is_held(folder.path):
        send_missed(folder.path)


def check(config: Config) -> None:
    """Raises UserError where a config asks for nothing, or for two things that exclude each other."""
    from src.learning.run import check_name
    from src.model import decoders

    if not config.data.sources:
        raise UserError("data.sources: no data set is named; start from a file: --config configs/demo.yaml")
    if not (config.model.mos.enabled or config.model.decoder.enabled):
        raise UserError("model: both heads are off; enable model.mos or model.decoder")
    check_name(config.track.name, "track.name")
    if config.train.epochs % config.train.eval_every:
        every = f"train.eval_every {config.train.eval_every}"
        raise UserError(f"{every}: must divide train.epochs {config.train.epochs}, or the last goes without a score")
    if config.train.self_critical.epochs > config.train.epochs:
        raise UserError("train.self_critical.epochs: more than train.epochs, of which they are the last ones; lower it")
    if config.data.cache and not config.model.backbone.frozen:
        remedy = "set it false, or model.backbone.trainable and .lora.rank 0"
        raise UserError(f"data.cache: a trained backbone's features change; {remedy}")
    check_select(config)
    check_losses(config.model.mos)
    decoders.check(config.model.decoder)
    blocks = config.model.decoder.enabled and config.model.decoder.kind == "llama"
    if config.train.compile and not blocks:
        raise UserError("train.compile: only model.decoder.kind llama has blocks to compile; set it false")


def check_select(config: Config) -> None:
    """Raises UserError where the best epoch is to be chosen by what is no score of the model, or is an error."""
    from src.java import find_java
    from src.scoring.meteor import NO_JAVA
    from src.scoring.report import RISING

    heads = [name for name in RISING if getattr(config.model, name).enabled]
    known = ["auto", "combined", *(score for head in heads for score in RISING[head])]
    if config.train.select not in known:
        choices = ", ".join(known)
        raise UserError(f"train.select: {config.train.select} is no score of these heads that rises; choose {choices}")
    if config.train.select == "meteor" and find_java() is None:
        raise UserError(f"train.select: {NO_JAVA}")


def check_losses(mos: MosConfig) -> None:
    """Raises UserError where the mos head is to be trained by no loss."""
    if mos.enabled and not (mos.mse or mos.huber or mos.plcc or mos.rank):
        remedy = "give one a weight above 0, or set model.mos.enabled false"
        raise UserError(f"model.mos: every loss (mse, huber, plcc, rank) has weight 0; {remedy}")


def train_here(
    config: Config, folder: "RunFolder", more: "list[Callback] | None" = None, group: "Group | None" = None
) -> dict[str, Any]:
    """Trains in this process, alone or as one of a group. Returns as `train`; of a group, rank 0 does."""
    from contextlib import nullcontext

    import torch
    from lightning.pytorch import seed_everything

    from src.data.cache import reuse_memory
    from src.data.module import Data
    from src.learning.keep import keep
    from src.learning.loop import fit, make_trainer
    from src.learning.module import Learner
    from src.model.backbone import Backbone
    from src.model.blip import own_tokenizer
    from src.model.group import Group
    from src.scoring.meteor import meteor_if_there
    from src.tracking import Tracker

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
    from src.model.compiling import compile_blocks
    from src.model.llama import Llama
    from src.model.multitask import Multitask
    from src.precision import best_device

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
    from src.data.pairs import LEAKING, leaking
    from src.model.folder import load
    from src.runs import find_model

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
    from src.learning.self_critical import SelfCritical

    if not config.train.self_critical.epochs or model.decoder is None:
        return None
    return SelfCritical(
        config.train.self_critical, model, data.tokenizer, data.parts["train"], config.generate.max_length
    )


def table(scores: dict[str, dict[str, float]]) -> str:
    """Scores with their 95 % intervals as aligned lines."""
    lines = [f"{'score':<18}{'value':>9}   95 % interval"]
    for name, s in scores.items():
        interval = f"{s['low']:9.4f} .. {s['high']:.4f}" if s.get("low") is not None else ""
        lines.append(f"{name:<18}{s['value']:9.4f} {interval}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
