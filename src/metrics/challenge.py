"""The scores of the 2023 Samsung AI Challenge, Image Quality Assessment (DACON 236134).

The captions' weighted sum is not divided by its weights' sum (10). The published results show it: single BLIP models
reached 1.13 to 1.28 and the 6th place 1.36. As a plain sum that is what one to three free comments a photo allow, say
4 x 0.15 (CIDEr-D) + 3 x 0.12 (METEOR) + 0.1 (BLEU) + 0.25 (ROUGE-L) = 1.3; divided by ten, it would take a sum of 13.6,
while Flickr8k captions of a good model, with five references each, sum to about 3.5.
"""

import numpy as np

# The 6th place's public result: what `combined` is relative to.
QUALITY_OF_6TH, CAPTIONING_OF_6TH = 0.7874, 1.35946

Number = float | np.ndarray


def quality_score(plcc: Number, srcc: Number) -> Number:
    """Mean of PLCC and SRCC, each at least 0: 0..1."""
    return (np.maximum(plcc, 0) + np.maximum(srcc, 0)) / 2


def captioning_score(cider_d: Number, meteor: Number, bleu_3: Number, bleu_4: Number, rouge_l: Number) -> Number:
    """4 CIDEr-D + 3 METEOR + 2 mean(BLEU-3, BLEU-4) + ROUGE-L."""
    return 4 * cider_d + 3 * meteor + 2 * (bleu_3 + bleu_4) / 2 + rouge_l


def combined_score(quality: Number | None = None, captioning: Number | None = None) -> Number:
    """Both scores relative to the 6th place's and added (2 is its level); with one task, that task's term alone."""
    parts = []
    if quality is not None:
        parts.append(quality / QUALITY_OF_6TH)
    if captioning is not None:
        parts.append(captioning / CAPTIONING_OF_6TH)
    return sum(parts[1:], parts[0]) if parts else 0.0
