"""How varied captions are: which are said how often, how long they are, and which words are never said."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from src.metrics.text.ptb_tokenizer import tokenize


@dataclass
class CaptionVariety:
    """Words of P captions and of their references, PTB-tokenised.

    Attributes:
        said: caption -> photos it was said of, the commonest first.
        lengths: words of each caption.
        reference_lengths: words of each reference.
        used: distinct words of the captions.
        unused: words of the references that no caption has -> how often references say them, the commonest first.
    """

    said: list[tuple[str, int]]
    lengths: list[int]
    reference_lengths: list[int]
    used: set[str]
    unused: list[tuple[str, int]]


def caption_variety(captions: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionVariety:
    """Counts the words of captions, empty ones left out, and of their references."""
    said = tokenize([caption for caption in captions if caption])
    written = tokenize([one for several in references for one in several])
    used = {word for caption in said for word in caption.split()}
    counts = Counter(word for caption in written for word in caption.split())
    unused = [(word, count) for word, count in counts.most_common() if word not in used]
    lengths, reference_lengths = ([len(caption.split()) for caption in several] for several in (said, written))
    return CaptionVariety(Counter(said).most_common(), lengths, reference_lengths, used, unused)
