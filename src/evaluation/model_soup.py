"""Model soup: the average of several runs' weights, chosen greedily on validation images (Wortsman et al. 2022).

Runs that started alike lie in one valley of the loss, where the average of their weights is often better than each, at
the cost of one model: https://arxiv.org/abs/2203.05482.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace
from torch import Tensor

from src.common.errors import UserError
from src.common.files import check_output_parent
from src.config.schema import to_dict
from src.data.sources import load_part
from src.evaluation.evaluation_set import predict_with_fallbacks
from src.inference.model_loading import load_model
from src.inference.neighbour_builder import collect_neighbours
from src.inference.predict_options import PredictOptions, with_rerank
from src.inference.predictions import Predictions, score_predictions
from src.inference.predictor import Predictor
from src.metrics.meteor import Meteor, optional_meteor
from src.models.model_folder import LoadedModel, save_model
from src.tracking.finished_runs import is_model_folder
from src.training.lightning_module import selection_score

FOLDS = 5  # of the validation images, for the score of the choice itself
METEOR_SCORES = ("meteor", "captioning", "combined")
TRAINING_KEYS = set(
    "dropout word_dropout grid_dropout label_smoothing doubly_stochastic losses mos_weight caption_weight"
    " weights fallback trainable checkpointing".split()
)  # of model: they say how weights are trained, not what they compute


@dataclass
class SoupResult:
    """A soup.

    Attributes:
        members: the runs in it, the best first.
        score: the selected score of the validation images that it was chosen on.
        held_out: the same of images that had no part in the choice, by a loop over folds of them.
        single: score and held_out of the best run alone.
    """

    members: list[str]
    score: float
    held_out: float
    single: tuple[float, float]

    def __str__(self) -> str:
        lines = [
            f"soup of {len(self.members)}: {', '.join(self.members)}",
            "selected score, chosen on these / held out:",
        ]
        lines += [f"  soup         {self.score:.4f} / {self.held_out:.4f}"]
        return "\n".join([*lines, f"  best run     {self.single[0]:.4f} / {self.single[1]:.4f}"])


def make_soup(options: Namespace) -> SoupResult:
    """Averages the weights of the runs --models that raise the selected score, and writes the model folder --soup.

    Raises:
        UserError: fewer than two runs, runs that differ in more than weights, or no place for the folder.
    """
    if len(options.models) < 2:
        raise UserError("--models: name at least two")
    output = Path(options.soup)
    if output.exists() and not is_model_folder(output):
        raise UserError(f"--soup {output}: is there already and is no model folder; name another")
    check_output_parent(output)
    members = [load_model(name)[0] for name in options.models]
    for name, member in zip(options.models[1:], members[1:], strict=True):
        check_alike(options.models[0], members[0], name, member)
    with scoring_meteor(members[0].config.train.select) as meteor:
        scores = SoupScores(members, options.batch_size, meteor)
        chosen, single = scores.greedy(scores.rows), scores.best(scores.rows)
        result = SoupResult(
            [options.models[i] for i in chosen],
            scores.score(chosen, scores.rows),
            scores.held_out(scores.greedy),
            (scores.score(single, scores.rows), scores.held_out(scores.best)),
        )
        write_soup(output, scores, chosen, result)
    return result


def scoring_meteor(select: str) -> AbstractContextManager[Meteor | None]:
    """METEOR's process where the score that selects needs it."""
    return optional_meteor(select in METEOR_SCORES)


def check_alike(first: str, model: LoadedModel, name: str, other: LoadedModel) -> None:
    """Raises UserError where two models differ in more than weights, or were judged on different images."""
    settings, others = (dict(architecture(member)) for member in (model, other))
    for key in settings.keys() | others.keys():
        if settings.get(key) != others.get(key):
            values = f"{key} is {others.get(key)}, but {settings.get(key)} in {first}"
            raise UserError(f"--models {name}: {values}; name runs of one model")
    if model.tokenizer.to_json() != other.tokenizer.to_json():
        raise UserError(f"--models {name}: has another tokenizer than {first}; name runs on the same captions")
    if model.meta.get("data_hash") != other.meta.get("data_hash"):
        raise UserError(f"--models {name}: has other data or another split than {first}; name runs on the same images")
    if shapes(model) != shapes(other):
        raise UserError(f"--models {name}: its weights have other sizes than those of {first}; name runs of one model")


def architecture(loaded: LoadedModel) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of the settings that say what the weights compute."""
    tree = to_dict(loaded.config)
    yield from flatten_settings(tree["model"], "model")
    yield from ((f"data.{key}", tree["data"][key]) for key in ("caption_size", "mos_size"))


def flatten_settings(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested settings, without those of training alone."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and key not in TRAINING_KEYS:
            yield from flatten_settings(value, f"{prefix}.{key}")
        elif key not in TRAINING_KEYS:
            yield f"{prefix}.{key}", value


def shapes(loaded: LoadedModel) -> dict[str, torch.Size]:
    """The shape of each weight."""
    return {name: value.shape for name, value in loaded.model.state_dict().items()}


class SoupScores:
    """Scores of averages of models on the validation images; each average predicts once.

    Attributes:
        rows: of all these images.
    """

    def __init__(self, members: Sequence[LoadedModel], batch_size: int, meteor: Meteor | None) -> None:
        self.members, self.meteor, self.config = members, meteor, members[0].config
        self.samples = load_part(self.config, "val")
        self.rows = np.arange(len(self.samples))
        cache = self.config.data.cache and self.config.model.backbone.cacheable
        generation = with_rerank(self.config.generate, False)
        self.options = PredictOptions(generation, batch_size=batch_size, cache=cache, labelled=True, progress=False)
        self.known: dict[tuple[int, ...], Predictions] = {}

    def greedy(self, rows: np.ndarray) -> tuple[int, ...]:
        """The members whose average scores best on some images: each, the best first, joins unless the score falls."""
        order = sorted(range(len(self.members)), key=lambda i: -self.score((i,), rows))
        chosen: tuple[int, ...] = tuple(order[:1])
        for member in order[1:]:
            if self.score((*chosen, member), rows) >= self.score(chosen, rows):
                chosen = (*chosen, member)
        return chosen

    def best(self, rows: np.ndarray) -> tuple[int, ...]:
        """The single member that scores best on some images."""
        return (max(range(len(self.members)), key=lambda i: self.score((i,), rows)),)

    def held_out(self, choose: Callable[[np.ndarray], tuple[int, ...]]) -> float:
        """The score of a choice on images that it does not see: of each fold, chosen on the others."""
        folds = np.random.default_rng(0).permutation(self.rows) % FOLDS
        parts = []
        for fold in range(FOLDS):
            chosen = choose(self.rows[folds != fold])
            parts.append(self.predictions(chosen).select(self.rows[folds == fold].tolist()))
        return self._score(Predictions.join(parts))

    def score(self, chosen: tuple[int, ...], rows: np.ndarray) -> float:
        """The selected score of an average of members on some images."""
        return self._score(self.predictions(chosen).select(rows.tolist()))

    def predictions(self, chosen: tuple[int, ...]) -> Predictions:
        """The predictions of an average of members for all images."""
        key = tuple(sorted(chosen))
        if key not in self.known:
            self.known[key], _ = predict_with_fallbacks(self.average(key), self.samples, self.options)
        return self.known[key]

    def average(self, chosen: tuple[int, ...]) -> LoadedModel:
        """The model whose weights are the mean of members' weights; what is no real number is the first one's."""
        states = [self.members[i].model.state_dict() for i in chosen]
        model = deepcopy(self.members[0].model).cpu()
        model.load_state_dict({name: mean_weight([state[name].cpu() for state in states]) for name in states[0]})
        return replace(self.members[0], model=model.eval())

    def _score(self, predictions: Predictions) -> float:
        values = {name: score.value for name, score in score_predictions(predictions, self.meteor).scores.items()}
        return selection_score(values, self.config.train.select)


def mean_weight(weights: Sequence[Tensor]) -> Tensor:
    """The mean of tensors of one shape, in their own precision."""
    if not weights[0].is_floating_point():
        return weights[0]
    return torch.stack([weight.double() for weight in weights]).mean(0).to(weights[0].dtype)


def write_soup(output: Path, scores: SoupScores, chosen: tuple[int, ...], result: SoupResult) -> None:
    """Writes the model folder of a soup; its meta.json names the members and both scores."""
    loaded = scores.average(chosen)
    values = score_predictions(scores.predictions(chosen), scores.meteor, intervals=True).scores
    meta = loaded.meta | {"scores": {name: asdict(score) for name, score in values.items()}, "soup": asdict(result)}
    config = replace(loaded.config, track=replace(loaded.config.track, name=output.name))
    save_model(output, loaded.model, loaded.tokenizer.to_json(), config, meta)
    if config.model.decoder.enabled and config.generate.rerank.enabled:
        collect_neighbours(Predictor.load(output), load_part(config, "train")).save(output)
