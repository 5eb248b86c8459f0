"""Scores that compare meanings by a pretrained model or word vectors: BERTScore, semantic similarity, CLIPScore.

Each model is a local folder, or a hub name that is fetched at first use. A score's answer is one number a photo.
Notation: P photos, R references of all photos together, D size of a vector.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import UserError, one_line
from src.data.image_io import ImageError, load_image
from src.metrics.text.corpus import flatten_references
from src.metrics.text.ptb_tokenizer import tokenize

BATCH = 64
LONGEST = 128  # tokens of a caption
CLIP_WEIGHT = 2.5


def load_pretrained(option: str, name: str, load: Callable[[str], Any]) -> Any:
    """What `load` makes of a folder or hub name.

    Raises:
        UserError: it is no such model, or cannot be fetched.
    """
    try:
        return load(resolve_model_name(option, name))
    except Exception as error:  # transformers raises many kinds, for a wrong folder and for a hub that does not answer
        remedy = "name a folder that holds the model, or its hub name where there is a network"
        raise UserError(f"{option} {name}: cannot be loaded ({one_line(error)[:160]}); {remedy}") from error


def resolve_model_name(option: str, name: str) -> str:
    """The folder of a name, else the hub name that it is. Raises UserError where it is a folder's that is not there."""
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    path = Path(name).expanduser()
    if looks_local and not path.exists():
        raise UserError(f"{option} {name}: no such folder; name one that holds the model, or its hub name")
    return str(path) if path.exists() else name


def bert_score(candidates: Sequence[str], references: Sequence[Sequence[str]], model: str) -> np.ndarray:
    """BERTScore F1 (Zhang et al. 2020) with the last layer, no idf, no rescaling: the best over the references [P].

    Not torchmetrics' own: version 1.9 puts captions of unlike lengths back in a wrong order, and pairs them wrongly.

    Raises:
        UserError: the model cannot be loaded.
    """
    made = load_pretrained("--bert", model, load_text_model)
    owner, flat = flatten_references(references)
    values = [
        bert_pair_f1(a, b)
        for part in in_chunks(zip((candidates[i] for i in owner), flat, strict=True))
        for a, b in zip(*(_words([pair[side] for pair in part], *made) for side in (0, 1)), strict=True)
    ]
    return best_over_references(np.array(values), owner, len(candidates))


def load_text_model(name: str) -> tuple[Any, Any]:
    """A transformers model in eval mode, and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    return AutoModel.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)


def bert_pair_f1(said: np.ndarray, written: np.ndarray) -> float:
    """F1 of words' vectors [T, D] of length 1, each matched with the likest of the other caption; 0 without words."""
    if not len(said) or not len(written):
        return 0.0
    alike = said @ written.T
    precision, recall = alike.max(1).mean(), alike.max(0).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall > 0 else 0.0


def _words(texts: list[str], model: Any, tokenizer: Any) -> list[np.ndarray]:
    """For each text the vectors of its tokens [T, D], of length 1, without the special ones at its ends."""
    last, mask = _last_layer(texts, model, tokenizer)
    rows = []
    for vectors, kept in zip(last, mask.bool(), strict=True):
        words = vectors[kept][1:-1].float().numpy()
        rows.append(words / np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-12))
    return rows


def _last_layer(texts: list[str], model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """The last layer [B, T, D], and which tokens are no padding [B, T]."""
    import torch

    longest = min(LONGEST, tokenizer.model_max_length)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    with torch.inference_mode():
        return model(**batch).last_hidden_state, batch["attention_mask"]


def glove_similarity(candidates: Sequence[str], references: Sequence[Sequence[str]], path: Path) -> np.ndarray:
    """Cosine of mean GloVe vectors (Pennington et al. 2014) of PTB words, mean over the references [P].

    Raises:
        UserError: the file cannot be read, or is no file of word vectors.
    """
    owner, flat = flatten_references(references)
    said, written = tokenize(candidates), tokenize(flat)
    vectors = read_glove(path, {word for caption in (*said, *written) for word in caption.split()})
    if not vectors:
        raise UserError(f"--glove {path}: holds vectors of none of the captions' words; name a GloVe text file")
    size = len(next(iter(vectors.values())))
    a, b = (np.stack([_mean_vector(caption, vectors, size) for caption in some]) for some in (said, written))
    return mean_over_references(row_cosine(a[owner], b), owner, len(candidates))


def read_glove(path: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    """The vectors of the wanted words, from a file of lines `word number number ...`.

    Raises:
        UserError: the file cannot be read, or a line does not hold a word and as many numbers as others.
    """
    found: dict[str, np.ndarray] = {}
    size = 0
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for at, line in enumerate(file, 1):
                word, _, rest = line.rstrip().partition(" ")
                sizes = at == 1 and rest.isdigit()  # word2vec's text has a first line of sizes
                size = size or (int(rest) if sizes else len(rest.split()))
                if word in wanted and not sizes:
                    numbers = rest.split()
                    if len(numbers) < size:
                        raise ValueError(f"line {at} has {len(numbers)} numbers, not {size}")
                    if len(numbers) == size:  # else its word holds spaces, such as "at name@domain.com" of Common Crawl
                        found[word] = np.array(numbers, dtype=np.float32)
    except OSError as error:
        raise UserError(f"--glove {path}: cannot be read ({error.strerror}); name a GloVe text file") from error
    except ValueError as error:
        raise UserError(f"--glove {path}: is no file of word vectors ({one_line(error)}); check it") from error
    return found


def _mean_vector(caption: str, vectors: dict[str, np.ndarray], size: int) -> np.ndarray:
    known = [vectors[word] for word in caption.split() if word in vectors]
    return np.mean(known, axis=0) if known else np.zeros(size, dtype=np.float32)


def sentence_similarity(candidates: Sequence[str], references: Sequence[Sequence[str]], model: str) -> np.ndarray:
    """Cosine of sentence vectors (Reimers and Gurevych 2019), mean over the references [P].

    A vector is the mean of the last layer over a caption's tokens, as most sentence-transformers models pool.

    Raises:
        UserError: the model cannot be loaded.
    """
    made = load_pretrained("--sentence", model, load_text_model)
    owner, flat = flatten_references(references)
    a, b = (np.concatenate([_sentences(part, *made) for part in in_chunks(some)]) for some in (candidates, flat))
    return mean_over_references(row_cosine(a[owner], b), owner, len(candidates))


def _sentences(texts: list[str], model: Any, tokenizer: Any) -> np.ndarray:
    last, mask = _last_layer(texts, model, tokenizer)
    mask = mask.unsqueeze(2)
    return ((last * mask).sum(1) / mask.sum(1).clamp(min=1)).float().numpy()


def clip_score(photos: Sequence[Path], candidates: Sequence[str], model: str) -> np.ndarray:
    """CLIPScore (Hessel et al. 2021), 2.5 max(cosine, 0) of photo and caption [P]; NaN where a photo cannot be read.

    The captions have no prompt ahead of them.

    Raises:
        UserError: the model cannot be loaded.
    """
    from transformers import CLIPModel, CLIPProcessor

    made = load_pretrained(
        "--clip", model, lambda n: (CLIPModel.from_pretrained(n).eval(), CLIPProcessor.from_pretrained(n))
    )
    parts = [_clip(rows, photos, candidates, *made) for rows in in_chunks(range(len(photos)))]
    return CLIP_WEIGHT * np.maximum(np.concatenate(parts), 0) if parts else np.empty(0)


def _clip(rows: list[int], photos: Sequence[Path], candidates: Sequence[str], model: Any, processor: Any) -> np.ndarray:
    import torch

    images, found = {}, np.full(len(rows), np.nan)
    for at, row in enumerate(rows):
        try:
            images[at] = load_image(photos[row])
        except ImageError:  # told where it was answered
            continue
    if not images:
        return found
    texts = [candidates[rows[at]] for at in images]
    batch = processor(text=texts, images=list(images.values()), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        made = model(**batch)
    found[list(images)] = row_cosine(made.image_embeds.float().numpy(), made.text_embeds.float().numpy())
    return found


def row_cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row of [R, D] with its like; 0 where one is 0."""
    below = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.where(below > 0, below, 1.0)


def mean_over_references(values: np.ndarray, owner: np.ndarray, photos: int) -> np.ndarray:
    """Mean [P] over each photo's references [R]."""
    return np.bincount(owner, weights=values, minlength=photos) / np.bincount(owner, minlength=photos)


def best_over_references(values: np.ndarray, owner: np.ndarray, photos: int) -> np.ndarray:
    """Best [P] over each photo's references [R]."""
    found = np.full(photos, -np.inf)
    np.maximum.at(found, owner, values)
    return found


def in_chunks(values: Iterable) -> Iterator[list]:
    """Values, 64 at a time."""
    left = iter(values)
    while part := list(islice(left, BATCH)):
        yield part
