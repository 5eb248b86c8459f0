"""Maps of the images' embeddings: their vectors in a plane by PCA and t-SNE, their captions in clusters."""

from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from src.inference.image_embedding import embed_images
from src.inference.predictor import Predictor
from src.plots.embedding_scatter import plot_embedding_scatter
from src.plots.sample_sheet import mos_label
from src.reporting.embedded_images import evenly_spaced, figure_png, point_positions, thumbnails
from src.reporting.html import Page, Plot, Section
from src.reporting.model_data import ModelData

MIN_IMAGES = 5
MAX_CLUSTERS = 8
THUMBNAIL_SIDE, THUMBNAIL_QUALITY = 96, 55  # about 3 kB each within the page


def embedding_section(data: ModelData, page: Page, max_images: int) -> Section:
    """Images by PCA and t-SNE of their embeddings; the page gets thumbnails for hovered points."""
    section, predictions = Section("Embeddings"), data.predictions
    sampled = list(evenly_spaced(len(data.samples), max_images))
    predictor = Predictor.of_model(data.model.loaded)
    readable, vectors = embed_images(predictor, [data.samples[i] for i in sampled], data.model.options)
    rows = np.array(sampled)[readable]
    if len(rows) < MIN_IMAGES:
        return section
    has_decoder = data.model.loaded.config.model.decoder.enabled
    vector = "mean of the grid that the decoder attends to" if has_decoder else "multi-scale statistics"
    count = f"{len(rows):,} of {len(predictions):,} photos" if len(rows) < len(predictions) else "all photos"
    section.description = f"The backbone's {vector}, for {count}. Hover over a point to see its photo."
    captions = [predictions.captions[i] or next(iter(predictions.references[i]), "") for i in rows]
    clusters, names = caption_clusters(captions)
    page.hover_images = hover_images(data, rows, captions)
    mos = np.where(np.isfinite(true := np.array(predictions.mos_true)[rows]), true, np.array(predictions.mos)[rows])
    for name, title, points in (("pca", "PCA", pca_plane(vectors)), ("tsne", "t-SNE", tsne_plane(vectors))):
        figure = plot_embedding_scatter(points, mos, clusters.tolist() if names else [], names, title)
        plot = Plot(name, f"{title}, {count}", figure_png(figure))
        for axes in figure.axes[: 2 if names else 1]:
            plot.points += [(x, y, i) for i, (x, y) in enumerate(point_positions(axes, points))]
        section.blocks.append(plot)
    return section


def hover_images(data: ModelData, rows: np.ndarray, captions: Sequence[str]) -> list[tuple[str, str]]:
    """Thumbnails and labels of images."""
    predictions = data.predictions
    uris = thumbnails([data.samples[i].path for i in rows], THUMBNAIL_SIDE, THUMBNAIL_QUALITY)
    parts = [
        (predictions.names[i], mos_label(predictions.mos_true[i], predictions.mos[i]), caption[:120])
        for i, caption in zip(rows, captions, strict=True)
    ]
    return list(zip(uris, [": ".join(filter(None, label)) for label in parts], strict=True))


def pca_plane(vectors: np.ndarray) -> np.ndarray:
    """[P, 2]: the two main directions of variance of vectors [P, C], each feature standardised."""
    return main_directions(vectors, 2)


def tsne_plane(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """[P, 2] by t-SNE (van der Maaten and Hinton 2008), of the 50 main directions; P is at least 5."""
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(main_directions(vectors, 50))


def main_directions(vectors: np.ndarray, size: int) -> np.ndarray:
    """[P, size]: vectors [P, C], each feature standardised, along their main directions of variance."""
    scaled = StandardScaler().fit_transform(vectors)
    return PCA(min(size, *scaled.shape), svd_solver="randomized", random_state=0).fit_transform(scaled)


def caption_clusters(captions: Sequence[str], count: int = MAX_CLUSTERS, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Clusters of captions by their words without English stop words: TF-IDF, then k-means.

    Returns:
        The cluster of each caption [P], -1 for an empty caption, and the most characteristic words of each cluster.
        No clusters where fewer than two captions differ.
    """
    clusters = np.full(len(captions), -1)
    rows = [i for i, caption in enumerate(captions) if caption.strip()]
    texts = [captions[i].lower() for i in rows]
    count = min(count, len({frozenset(text.split()) for text in texts}))
    if count < 2:
        return clusters, []
    vectorizer = TfidfVectorizer(
        token_pattern=r"\b\w+\b", stop_words="english", sublinear_tf=True, max_features=5000, max_df=0.9
    )
    try:
        table = vectorizer.fit_transform(texts)
    except ValueError:  # no word is left: all captions have the same words
        return clusters, []
    means = KMeans(count, n_init=3, random_state=seed).fit(table)
    clusters[rows] = means.labels_
    words, excess = vectorizer.get_feature_names_out(), means.cluster_centers_ - np.asarray(table.mean(axis=0))
    return clusters, [", ".join(characteristic_words(words, row)) or "none of these words" for row in excess]


def characteristic_words(words: np.ndarray, excess: np.ndarray) -> list[str]:
    """The three words whose weight in the cluster exceeds their weight in all captions most."""
    return [str(words[i]) for i in excess.argsort()[:-4:-1] if excess[i] > 1e-9]
