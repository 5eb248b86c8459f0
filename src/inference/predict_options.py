"""How images are predicted: the options, from a command line and a model's own `generate` settings.

Held by tests/inference/test_predict_submission.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from jsonargparse import Namespace

from src.common.errors import UserError
from src.config.cli import Overrides
from src.config.schema import Config, GenerationConfig, MosViewsConfig
from src.data.feature_store import FeatureKind
from src.data.sample import Sample
from src.inference.caption_style import check_style, default_style
from src.inference.feature_passes import FeaturePass, feature_passes
from src.inference.neighbours import check_neighbours
from src.inference.submission import COMMENTS, MOS, NAME
from src.models.model_folder import ModelDescription


@dataclass
class PredictOptions:
    """How images are predicted.

    Attributes:
        generation: how captions are written.
        style: the caption style of all images; empty: that of each image's own source, or the model's default.
        batch_size: images at a time.
        cache: take features from the feature cache, and fill it.
        labelled: predict only what an image has a label for.
        mos: predict mos, where the model has that head.
        captions: write captions, where the model has that head.
        views: of mos; None: the model's own.
        attention: of images given as bytes: also where the decoder attended for each word.
        progress: show a bar.
    """

    generation: GenerationConfig = field(default_factory=GenerationConfig)
    style: str = ""
    batch_size: int = 32
    cache: bool = False
    labelled: bool = False
    mos: bool = True
    captions: bool = True
    views: MosViewsConfig | None = None
    attention: bool = False
    progress: bool = True

    def passes(self, config: Config) -> list[FeaturePass]:
        """The passes through the networks of a model with this config."""
        return feature_passes(config, self.mos, self.captions, self.mos_views(config))

    def mos_views(self, config: Config) -> MosViewsConfig:
        """The views of mos of a model with this config."""
        return self.views or config.model.mos.views

    def needs(self, sample: Sample, kind: FeatureKind) -> bool:
        """Whether the head that reads features of a kind predicts an image."""
        return not self.labelled or (sample.mos is not None if kind == "levels" else bool(sample.captions))


def make_predict_options(
    options: Namespace, overrides: Overrides, description: ModelDescription, labelled: bool = False
) -> PredictOptions:
    """How a model predicts: by its own `generate` settings, except for those that a person typed.

    Args:
        options: of the command, with those of `add_prediction_options`.
        overrides: the options that a person typed, by dotted key.
        description: the model.
        labelled: predict only what an image has a label for, in the style of its own source.

    Returns:
        The options, without a style where no captions are written.

    Raises:
        UserError: the model does not know the style, cannot fill the columns, or lacks the captions to choose by.
    """
    columns = choose_columns(options.get("columns", ""), description)
    style = ""
    if COMMENTS in columns:
        style = options.style or ("" if labelled else default_style(description))
        if style:
            check_style(description, style)
    generation = override_generation(description.config.generate, overrides)
    if COMMENTS in columns and generation.rerank.enabled:
        check_neighbours(description.folder)
    heads = {"mos": MOS in columns, "captions": COMMENTS in columns}
    views = override_views(description.config.model.mos.views, overrides)
    return PredictOptions(generation, style, options.batch_size, options.cache, labelled, **heads, views=views)


def override_generation(generation: GenerationConfig, overrides: Overrides) -> GenerationConfig:
    """The settings with those that a person typed as --generate.KEY or --generate.rerank.KEY."""
    typed = {key.removeprefix("generate."): value for key, value in overrides.items() if key.startswith("generate.")}
    rerank = {key.removeprefix("rerank."): typed.pop(key) for key in list(typed) if key.startswith("rerank.")}
    return replace(generation, **typed, rerank=replace(generation.rerank, **rerank))


def override_views(views: MosViewsConfig, overrides: Overrides) -> MosViewsConfig | None:
    """The views with the settings that a person typed as --views.KEY; None where there are none."""
    typed = {key.removeprefix("views."): value for key, value in overrides.items() if key.startswith("views.")}
    return replace(views, **typed) if typed else None


def check_style_option(style: str, options: Sequence[PredictOptions]) -> None:
    """Raises UserError where --style or --views is given and none of the models predicts what it is for."""
    if style and not any(o.captions for o in options):
        raise UserError("--style: no captions are written; leave it out")
    if not any(o.mos for o in options) and any(o.views for o in options):
        raise UserError("--views: no mos is predicted; leave it out")


def choose_columns(names: str, description: ModelDescription) -> list[str]:
    """The columns to write: those of --columns, else those that the model has heads for.

    Raises:
        UserError: an unknown column, or one that the model cannot fill.
    """
    model = description.config.model
    able = [NAME] + [MOS] * model.mos.enabled + [COMMENTS] * model.decoder.enabled
    columns = [word.strip() for word in names.split(",")] if names else able
    if columns not in ([NAME, MOS, COMMENTS], [NAME, COMMENTS], [NAME, MOS]):
        raise UserError(f"--columns {names}: give img_name,mos,comments or img_name,comments or img_name,mos")
    for column in columns:
        if column not in able:
            raise UserError(f"--columns: this model gives no {column}; it gives {','.join(able)}")
    return columns


def with_rerank(generation: GenerationConfig, enabled: bool) -> GenerationConfig:
    """The same settings with the choice among candidates on or off."""
    return replace(generation, rerank=replace(generation.rerank, enabled=enabled))


def with_beam(generation: GenerationConfig, beam: int) -> GenerationConfig:
    """The same settings with a beam of another width."""
    return replace(generation, method="beam", beam=beam)
