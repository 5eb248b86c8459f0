"""A group of models as one predictor, for images that a person waits for."""

import statistics
from collections.abc import Sequence
from typing import Self

from src.common.errors import UserError
from src.inference.blending import consensus_captions
from src.inference.engine import TorchEngine
from src.inference.image_features import FeatureBatch
from src.inference.model_loading import load_members, load_model
from src.inference.predict_options import PredictOptions
from src.inference.predictor import BeamCaption, ImageLimits, Predictor
from src.models.model_folder import LoadedModel
from src.tracking.run_group import group_members


def load_predictor(name: str, limits: ImageLimits | None = None) -> Predictor:
    """The predictor of a model or a group by its name.

    Raises:
        UserError: there is none of this name, or the group's models do not share a backbone.
    """
    folders = group_members(name)
    if len(folders) == 1:
        return Predictor.of_model(load_model(name)[0], limits)
    members = [loaded for loaded, _ in load_members(folders)]
    if len({tuple(map(id, member.model.networks)) for member in members}) > 1:
        remedy = f"name one, such as {folders[0]}, or predict files with src.predict"
        raise UserError(f"{name}: {len(members)} models with backbones of their own are too slow here; {remedy}")
    return GroupPredictor.of_members(members, limits)


class GroupPredictor(Predictor):
    """Models that share a backbone, which computes an image's features once: mean mos, and the caption of a vote.

    Attributes:
        members: the models; `description` and `engine` are the first one's.
    """

    members: list[Predictor]

    @classmethod
    def of_members(cls, members: Sequence[LoadedModel], limits: ImageLimits | None = None) -> Self:
        """A predictor of loaded models."""
        group = cls(members[0], TorchEngine(members[0]), limits)
        group.members = [Predictor.of_model(member) for member in members]
        return group

    def mos_and_beams(
        self, features: FeatureBatch, options: PredictOptions
    ) -> tuple[dict[int, float], dict[int, list[BeamCaption]]]:
        """The mean mos, and for each row the beam whose best caption agrees most with those of the other models."""
        parts = [member.mos_and_beams(features, options) for member in self.members]
        mos = {row: statistics.fmean(part[row] for part, _ in parts) for row in parts[0][0]}
        beams = {row: winning_beam([part[row] for _, part in parts]) for row in parts[0][1]}
        return mos, beams


def winning_beam(beams: Sequence[list[BeamCaption]]) -> list[BeamCaption]:
    """The first of several models' beams whose best caption wins their vote."""
    texts = [beam[0].text for beam in beams]
    [winner] = consensus_captions([[text] for text in texts])
    return beams[texts.index(winner)]
