"""Several models as one: their mos blended; captions from all decoders at once, or by vote."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace
from torch import Tensor

from src.common.errors import UserError
from src.common.progress import progress_bar
from src.config.cli import Overrides
from src.data.batch import Batch
from src.data.image_list import find_images
from src.data.sample import Sample
from src.inference.blending import blend_mos, consensus_captions
from src.inference.engine import TorchEngine
from src.inference.ensemble_decoder import EnsembleDecoder
from src.inference.fallbacks import complete_submission
from src.inference.image_features import FeatureBatch, make_batch
from src.inference.model_loading import load_members
from src.inference.predict_options import PredictOptions, check_style_option, make_predict_options
from src.inference.predictions import Predictions
from src.inference.predictor import Predictor
from src.inference.provenance import model_provenance, prediction_provenance
from src.inference.reranking import rank_candidates
from src.inference.submission import Submission
from src.models.generation import generate
from src.models.model_folder import ModelDescription
from src.tracking.run_group import group_members

RERANKED = "expected reward"  # how captions become one, where they are chosen among candidates
Blender = Callable[[np.ndarray], np.ndarray]
"""mos [P] from the mos [M, P] of M models, all known."""


def ensemble_models(options: Namespace, overrides: Overrides) -> tuple[Submission, dict[str, Any]]:
    """The submission of several models, groups by their members, and its provenance.

    Raises:
        UserError: fewer than two models, no images, or a model that cannot be loaded.
    """
    folders = [folder for name in options.models for folder in group_members(name)]
    if len(folders) < 2:
        raise UserError("--models: name at least two, or a group")
    samples = find_images(options.data, options.images, options.sample)
    blender = partial(blend_mos, method=options.mos, outliers=options.outliers)
    submission, provenance = join_models(folders, samples, options, overrides, blender)
    return submission, provenance | {"join": options.mos}


def join_models(
    folders: Sequence[Path],
    samples: Sequence[Sample],
    options: Namespace,
    overrides: Overrides,
    blender: Blender = blend_mos,
) -> tuple[Submission, dict[str, Any]]:
    """The submission of the models of some folders for some images, and its provenance."""
    models = load_members(folders)
    descriptions = [loaded for loaded, _ in models]
    each = [make_predict_options(options, overrides, loaded) for loaded in descriptions]
    check_style_option(options.style, each)
    members = [Predictor.of_model(loaded) for loaded, _ in models]
    predictions, failed = predict_ensemble(members, samples, each, blender)
    shared = combine_options(each)
    submission, fallbacks = complete_submission(predictions, failed, descriptions, shared)
    provenance = {
        **prediction_provenance(options.data, descriptions, samples, shared, fallbacks),
        "members": [model_provenance(loaded, folder) for loaded, folder in models],
        "comments": caption_method(descriptions, shared),
    }
    return submission, provenance


def predict_ensemble(
    members: Sequence[Predictor],
    samples: Sequence[Sample],
    options: Sequence[PredictOptions],
    blender: Blender = blend_mos,
) -> tuple[Predictions, dict[str, str]]:
    """The models' predictions as one, in the samples' order, as `Predictor.predict` gives them.

    Decoders of one vocabulary write together; where there are several vocabularies, their captions then vote.

    Args:
        members: the models.
        samples: the images.
        options: of each model; captions are written as those of the first decoder of a vocabulary say.
        blender: of the mos of the models with that head.
    """
    parts, votes, failed = predict_in_step(members, samples, options)
    blended = replace(parts[0], captions=consensus_captions(votes)) if votes else parts[0]
    enabled = [member.description.config.model.mos.enabled for member in members]
    if any(enabled):
        values = [part.mos for part, has_mos in zip(parts, enabled, strict=True) if has_mos]
        blended.mos = blend_known_mos(np.array(values), blender)
    return blended, failed


def predict_in_step(
    members: Sequence[Predictor], samples: Sequence[Sample], options: Sequence[PredictOptions]
) -> tuple[list[Predictions], list[list[str]], dict[str, str]]:
    """All models batch by batch: each one's mos, the captions of each vocabulary, and why images could not be read."""
    parts: list[list[Predictions]] = [[] for _ in members]
    descriptions = [member.description for member in members]
    reranked = caption_method(descriptions, combine_options(options)) == RERANKED
    groups = decoder_indices(descriptions) if reranked else vocabulary_groups(descriptions)
    votes: list[list[str]] = [[] for _ in groups]
    failed: dict[str, str] = {}
    with progress_bar(len(samples), "predicting", show=options[0].progress) as bar:
        for batches in shared_features(members, samples, options):
            for vote, group in zip(votes, groups, strict=True):
                shared = combine_options([options[i] for i in group])
                vote += ensemble_captions([members[i] for i in group], [batches[i] for i in group], shared)
            for part, member, features, member_options in zip(parts, members, batches, options, strict=True):
                part.append(member.predict_features(features.without_grid(), member_options))
                failed |= features.reasons()
            bar.update(len(batches[0].samples))
    return [Predictions.join(part) for part in parts], votes, failed


def shared_features(
    members: Sequence[Predictor], samples: Sequence[Sample], options: Sequence[PredictOptions]
) -> Iterator[list[FeatureBatch]]:
    """Each model's batch of features, computed once for the models that share a backbone and its inputs."""
    keys = [feature_key(member, o) for member, o in zip(members, options, strict=True)]
    streams = {keys[i]: members[i].feature_batches(samples, options[i]) for i in reversed(range(len(members)))}
    for batches in zip(*streams.values(), strict=True):
        batch_of_key = dict(zip(streams, batches, strict=True))
        yield [batch_of_key[key] for key in keys]


def feature_key(member: Predictor, options: PredictOptions) -> tuple[Any, ...]:
    """Equal for models that read the same features."""
    if not isinstance(member.engine, TorchEngine):
        return (id(member),)
    data, precision = member.description.config.data, member.description.config.train.precision
    networks = map(id, member.engine.model.networks)
    settings = (data.flip, data.cache, precision, data.cache_dir, data.split_dir)
    passes = member.engine.passes(options)
    return (*networks, *passes, *settings, options.cache, options.labelled, options.batch_size)


@torch.inference_mode()
def ensemble_captions(
    members: Sequence[Predictor], batches: Sequence[FeatureBatch], options: PredictOptions
) -> list[str]:
    """One caption for each image of a batch from all decoders, empty where it could not be read."""
    captions = [""] * len(batches[0].samples)
    pairs = [(member, batch) for member, batch in zip(members, batches, strict=True) if "grid" in batch.features]
    if not pairs:
        return captions
    written = choose_captions(pairs, options) if options.generation.rerank.enabled else joint_captions(pairs, options)
    for row, caption in zip(pairs[0][1].rows["grid"], written, strict=True):
        captions[row] = caption
    return captions


def joint_captions(pairs: Sequence[tuple[Predictor, FeatureBatch]], options: PredictOptions) -> list[str]:
    """The caption of each image with a grid from all decoders at once, which share a vocabulary."""
    member = pairs[0][0]
    engine, tokenizer = member.engine, member.description.tokenizer
    grids = [batch.features["grid"][:, 0].to(engine.device) for _, batch in pairs]
    decoder = EnsembleDecoder([m.engine.decoder for m, _ in pairs if m.engine.decoder is not None], grids)
    style = torch.full((len(grids[0]),), tokenizer.style(options.style), device=engine.device)
    generated = generate(decoder, grids[0], style, options.generation, engine.special)
    return [tokenizer.decode(caption.tokens) for caption in generated]


def choose_captions(pairs: Sequence[tuple[Predictor, FeatureBatch]], options: PredictOptions) -> list[str]:
    """The caption of each image with a grid whose expected reward is highest among the candidates of all models.

    A reward is the mean over the models, each with its own neighbours. Where they share a vocabulary, their joint
    caption is a candidate too.
    """
    shared = len(vocabulary_groups([member.description for member, _ in pairs])) == 1
    count = len(pairs[0][1].rows["grid"])
    candidates = [[caption] for caption in joint_captions(pairs, options)] if shared else [[] for _ in range(count)]
    inputs = [(member, *caption_inputs(member, features, options), features) for member, features in pairs]
    for member, grid, batch, _ in inputs:
        for captions, others in zip(candidates, member.candidates(grid, batch, options)[1], strict=True):
            captions += others
    rewards = [m.candidate_rewards(candidates, grid, batch, features, options) for m, grid, batch, features in inputs]
    totals = [np.sum(values, axis=0) for values in zip(*rewards, strict=True)]
    return [captions[rank_candidates(captions, total)[0]] for captions, total in zip(candidates, totals, strict=True)]


def caption_inputs(member: Predictor, features: FeatureBatch, options: PredictOptions) -> tuple[Tensor, Batch]:
    """The grid [R, N, C] of a batch's images that have one, and the batch."""
    batch = make_batch(member.description, features, options).to(member.engine.device)
    assert batch.caption_input is not None
    assert batch.caption_input.features is not None
    return batch.caption_input.features, batch


def caption_method(members: Sequence[ModelDescription], options: PredictOptions) -> str:
    """How the models' captions become one, for the provenance."""
    if options.generation.rerank.enabled:
        return RERANKED
    return "mean probabilities" if len(vocabulary_groups(members)) == 1 else "consensus"


def decoder_indices(members: Sequence[ModelDescription]) -> list[list[int]]:
    """Indices of all models with a decoder, as one group; no group where there is none."""
    indices = [i for i, member in enumerate(members) if member.config.model.decoder.enabled]
    return [indices] if indices else []


def vocabulary_groups(members: Sequence[ModelDescription]) -> list[list[int]]:
    """Indices of the models with a decoder, those of one vocabulary together."""
    groups: dict[str, list[int]] = {}
    for i, member in enumerate(members):
        if member.config.model.decoder.enabled:
            groups.setdefault(member.tokenizer.to_json(), []).append(i)
    return list(groups.values())


def combine_options(options: Sequence[PredictOptions]) -> PredictOptions:
    """The heads of all models; captions as the first that writes any."""
    first = next((o for o in options if o.captions), options[0])
    return replace(first, mos=any(o.mos for o in options), captions=any(o.captions for o in options))


def blend_known_mos(values: np.ndarray, blender: Blender) -> list[float]:
    """Blended mos [P] of [M, P], NaN where a model gives none."""
    known = np.isfinite(values).all(axis=0)
    blended = np.full(values.shape[1], np.nan)
    if known.any():
        blended[known] = blender(values[:, known])
    return blended.tolist()
