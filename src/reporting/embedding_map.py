"""A plane of photos: their vectors by PCA and t-SNE, their captions in clusters."""

from collections.abc import Sequence

import numpy as np

MOST = 2000  # photos on a plane: t-SNE of so many takes a core about half a minute
CLUSTERS = 8


def pca_plane(vectors: np.ndarray) -> np.ndarray:
    """[P, 2]: the two directions in which vectors [P, C] vary most, each feature on one scale."""
    return _principal(vectors, 2)


def tsne_plane(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """[P, 2] by t-SNE (van der Maaten and Hinton 2008), of the 50 main directions; P is at least 5."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(_principal(vectors, 50))


def _principal(vectors: np.ndarray, size: int) -> np.ndarray:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(vectors)
    return PCA(min(size, *scaled.shape), svd_solver="randomized", random_state=0).fit_transform(scaled)


def caption_clusters(captions: Sequence[str], count: int = CLUSTERS, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Captions in clusters by their words, English function words aside: TF-IDF, k-means.

    Returns:
        The cluster of each caption [P], -1 for an empty one, and each cluster's most telling words. None where fewer
        than two captions differ.
    """
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    found = np.full(len(captions), -1)
    rows = [i for i, caption in enumerate(captions) if caption.strip()]
    texts = [captions[i].lower() for i in rows]
    count = min(count, len({frozenset(text.split()) for text in texts}))
    if count < 2:
        return found, []
    words = TfidfVectorizer(
        token_pattern=r"\b\w+\b", stop_words="english", sublinear_tf=True, max_features=5000, max_df=0.9
    )
    try:
        table = words.fit_transform(texts)
    except ValueError:  # no word is left: all captions have the same ones
        return found, []
    means = KMeans(count, n_init=3, random_state=seed).fit(table)
    found[rows] = means.labels_
    names, above = words.get_feature_names_out(), means.cluster_centers_ - np.asarray(table.mean(axis=0))
    return found, [", ".join(_telling(names, centre)) or "none of these words" for centre in above]


def _telling(names: np.ndarray, above: np.ndarray) -> list[str]:
    """The three words that weigh most above their weight in all captions."""
    return [str(names[i]) for i in above.argsort()[:-4:-1] if above[i] > 1e-9]
