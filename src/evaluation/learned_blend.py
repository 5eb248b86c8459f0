"""A blend of models' mos with learned weights: from predictions for images that no model was trained on.

Notation: M members, P images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace

from src.common.errors import UserError
from src.common.files import sha256
from src.common.text_table import format_table
from src.config.cli import Overrides
from src.data.image_list import find_images
from src.data.sources import load_part
from src.evaluation.score_table import format_score, format_scores
from src.inference.blend_weights import OUTER_FOLDS, BlendWeights, cross_fit, learn_weights
from src.inference.blending import blend_mos
from src.inference.ensemble import join_models
from src.inference.model_loading import load_model
from src.inference.predict_options import make_predict_options
from src.inference.predictor import Predictor
from src.inference.submission import Submission
from src.metrics.base import Score
from src.metrics.bootstrap import paired_differences
from src.metrics.compute import score_images
from src.tracking.finished_runs import find_group
from src.tracking.held_out import BLEND_SUFFIX, HeldOutPredictions, Image, blend_table, from_columns, read_held_out
from src.tracking.run_group import group_members, write_oof_file

MIN_IMAGES = 30
SHOWN = ("plcc", "srcc", "quality")
MEAN, LEARNED, DIFFERENCE = "plain mean", "learned", "learned - mean"


@dataclass
class LearnedBlend:
    """A learned blend and its scores.

    Attributes:
        names: of the M members with mos.
        weights: of the members, learned from all images.
        images: P, of which no member was trained on any.
        fold: [P] of the outer loop.
        mos: [P] blended, each fold by a variant and weights that the other folds chose.
        mos_true: [P].
        alone: member -> score -> value.
        scores: MEAN, LEARNED and DIFFERENCE -> score -> value; the difference with the interval of a paired bootstrap.
    """

    names: list[str]
    weights: BlendWeights
    images: list[Image]
    fold: np.ndarray
    mos: np.ndarray
    mos_true: np.ndarray
    alone: dict[str, dict[str, Score]]
    scores: dict[str, dict[str, Score]]

    def __str__(self) -> str:
        """Weights and scores as tables."""
        rows = [["member", "weight", "quality alone"]]
        for name, weight in zip(self.names, self.weights.weights, strict=True):
            rows.append([name, f"{weight:.3f}", format_score(self.alone[name]["quality"])])
        shown = {column: {name: scores[name] for name in SHOWN} for column, scores in self.scores.items()}
        title = f"blend of {len(self.images):,} photos that no member was trained on: {self.weights.learner} weights"
        title += f", {self.weights.method} of mos"
        about = f"learned: scored on {OUTER_FOLDS} folds, each by variant and weights from the other folds"
        return "\n".join([title, format_table(rows, right=[1]), "", format_scores(shown), about, ""])

    def blender(self) -> Callable[[np.ndarray], np.ndarray]:
        """mos [P] from the mos [N, P] of all models behind the members; those of a group count as their mean."""
        sizes = np.array([len(group_members(name)) for name in self.names])
        starts = np.cumsum(sizes) - sizes
        return lambda values: self.weights.blend(np.add.reduceat(values, starts) / sizes[:, None])

    def provenance(self, table: Path) -> dict[str, Any]:
        """For the submission's json; `table` as `write` wrote it."""
        weights = dict(zip(self.names, self.weights.weights, strict=True))
        scores = {column: {name: asdict(score) for name, score in s.items()} for column, s in self.scores.items()}
        blend = {"learner": self.weights.learner, "weights": weights, "photos": len(self.images)}
        blend |= {"table": sha256(table), "plain_mean": scores[MEAN], "difference": scores[DIFFERENCE]}
        return {"join": self.weights.method, "blend": blend, "out_of_fold_scores": scores[LEARNED]}

    def write(self, path: Path) -> None:
        """Writes the blended mos of the outer loop as a table of out-of-fold predictions."""
        write_oof_file(path, blend_table(self.images, self.fold, self.mos, self.mos_true))


def ensemble_learned(options: Namespace, overrides: Overrides) -> tuple[Submission, dict[str, Any]]:
    """As `ensemble_models`, with learned weights, which it prints; writes their held-out predictions beside --output.

    Raises:
        UserError: options that contradict --learn, or as `learn_blend`.
    """
    if repeated := next((name for name in options.models if options.models.count(name) > 1), ""):
        raise UserError(f"--models {repeated}: is given twice; name each once")
    if options.outliers or "mos" in overrides:
        raise UserError("--learn: chooses between mean and ranks itself; leave --mos and --outliers out")
    samples = find_images(options.data, options.images, options.sample)
    learned = learn_blend({name: held_out_predictions(name, options, overrides) for name in options.models})
    print(learned)
    folders = [folder for name in options.models for folder in group_members(name)]
    submission, provenance = join_models(folders, samples, options, overrides, learned.blender())
    table = Path(options.output).with_suffix(BLEND_SUFFIX)
    learned.write(table)
    return submission, provenance | learned.provenance(table)


def held_out_predictions(name: str, options: Namespace, overrides: Overrides) -> HeldOutPredictions:
    """Those of a group, of a run, or of a model folder, which predicts the validation part of its own data.

    Raises:
        UserError: the group has none, or the data of the model is not here.
    """
    group = find_group(name)
    [model, *_] = group_members(name)
    folder = group.folder if group else model.parent
    held_out = read_held_out(folder) if group or model.name == "model" else None
    if held_out is None and group:
        raise UserError(f"{group.folder}: has no oof.csv; give the group's training command again")
    return held_out or predict_validation(name, options, overrides)


def predict_validation(name: str, options: Namespace, overrides: Overrides) -> HeldOutPredictions:
    """A model's mos for the validation part of its own data."""
    loaded, _ = load_model(name)
    settings = replace(make_predict_options(options, overrides, loaded, labelled=True), captions=False)
    predictions, _ = Predictor.of_model(loaded).predict(load_part(loaded.config, "val"), settings)
    return from_columns(vars(predictions))


def learn_blend(held_out: Mapping[str, HeldOutPredictions], seed: int = 0) -> LearnedBlend:
    """The blend of members, by name; members without mos do not count.

    Args:
        held_out: predictions for images that the member was not trained on.
        seed: of the folds.

    Raises:
        UserError: fewer than two members have mos, or few images are common to all.
    """
    members = {name: member for name, member in held_out.items() if np.isfinite(member.mos).any()}
    if len(members) < 2:
        raise UserError(f"--learn: {len(members)} of the models predict mos; name at least two that do")
    images = common_images(members)
    values, true = stack_mos(members, images)
    rng = np.random.default_rng(seed)
    mos, fold = cross_fit(values, true, learn_weights, OUTER_FOLDS, rng)
    weights = learn_weights(values, true, rng)
    names = [name for _, name in images]
    alone = {name: score_images(names, row, true).scores for name, row in zip(members, values, strict=True)}
    learned, mean = (score_images(names, blended, true, intervals=True) for blended in (mos, blend_mos(values)))
    scores = {MEAN: mean.scores, LEARNED: learned.scores, DIFFERENCE: paired_differences(learned, mean)}
    return LearnedBlend(list(members), weights, images, fold, mos, true, alone, scores)


def common_images(members: Mapping[str, HeldOutPredictions]) -> list[Image]:
    """The images with true mos and predictions of all members. Raises UserError where these are few."""
    rated = {name: set(member.rated) for name, member in members.items()}
    common = set.intersection(*rated.values())
    if len(common) < MIN_IMAGES:
        counts = ", ".join(f"{name}: {len(images):,}" for name, images in rated.items())
        remedy = "train all on the folds of one split (--folds 5), or with one validation part"
        raise UserError(f"--learn: {len(common)} photos are held out by all models ({counts}), too few; {remedy}")
    first = next(iter(members.values()))
    return [image for image in first.images if image in common]


def stack_mos(members: Mapping[str, HeldOutPredictions], images: Sequence[Image]) -> tuple[np.ndarray, np.ndarray]:
    """Predicted [M, P] and true [P] mos. Raises UserError where members know other true mos."""
    chosen = {name: member.select(images) for name, member in members.items()}
    first, true = next((name, member.mos_true) for name, member in chosen.items())
    for name, member in chosen.items():
        if (other := ~np.isclose(member.mos_true, true, rtol=1e-5)).any():
            row = int(other.argmax())
            values = f"{true[row]:g} for {first} and {member.mos_true[row]:g} for {name}"
            raise UserError(f"--learn: mos of photo {images[row][1]} is {values}; name models of the same labels")
    return np.stack([member.mos for member in chosen.values()]), true
