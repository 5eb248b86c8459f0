"""The scores that need a download: SPICE, BERTScore, semantic similarity, CLIPScore; none unless asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jsonargparse import Namespace

from src.common.errors import UserError
from src.inference.predictions import Predictions
from src.metrics import pretrained as embedding
from src.metrics.spice import check_spice, spice

TITLES = {
    "spice": "spice",
    "bert": "bert_score",
    "glove": "similarity_glove",
    "sentence": "similarity_sentence",
    "clip": "clip_score",
}


def check_pretrained_options(options: Namespace) -> None:
    """Raises UserError where what a score needs is not here; a hub name is only looked up when it is used."""
    if options.spice:
        check_spice()
    if options.glove and not Path(options.glove).is_file():
        raise UserError(f"--glove {options.glove}: no such file; name a GloVe text file")
    for name in ("bert", "sentence", "clip"):
        if options[name]:
            embedding.resolve_model_name(f"--{name}", options[name])


def pretrained_scores(answers: Predictions, paths: Sequence[Path], options: Namespace) -> dict[str, np.ndarray]:
    """Name -> [P], NaN where a photo has no caption or, but for CLIPScore, no reference.

    Args:
        answers: of P photos.
        paths: the photos' files.
        options: spice, bert, glove, sentence and clip of the command line.

    Raises:
        UserError: a score is asked for that cannot be computed.
    """
    wanted = [name for name in TITLES if options[name]]
    said = [i for i, caption in enumerate(answers.captions) if caption]
    told = [i for i in said if answers.references[i]]
    if wanted and not said:
        raise UserError(f"--{wanted[0]}: there are no captions to score; leave it out")
    if wanted not in ([], ["clip"]) and not told:
        raise UserError(f"--{wanted[0]}: no captioned photo has references; leave it out")
    candidates, references = [answers.captions[i] for i in told], [answers.references[i] for i in told]
    scorers = reference_scores(candidates, references, options)
    found = {}
    for name in wanted:
        rows = said if name == "clip" else told
        found[TITLES[name]] = np.full(len(answers), np.nan)
        if name == "clip":
            photos, captions = [paths[i] for i in rows], [answers.captions[i] for i in rows]
            found[TITLES[name]][rows] = embedding.clip_score(photos, captions, options.clip)
        else:
            found[TITLES[name]][rows] = scorers[name]()
    return found


def reference_scores(
    candidates: Sequence[str], references: Sequence[Sequence[str]], options: Namespace
) -> dict[str, Callable[[], np.ndarray]]:
    """The scores that compare captions with references, by option; each is computed when it is called."""
    return {
        "spice": lambda: spice(candidates, references),
        "bert": lambda: embedding.bert_score(candidates, references, options.bert),
        "glove": lambda: embedding.glove_similarity(candidates, references, Path(options.glove)),
        "sentence": lambda: embedding.sentence_similarity(candidates, references, options.sentence),
    }
