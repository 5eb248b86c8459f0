"""Training of captions on their own scores: REINFORCE (Rennie et al. 2017, "Self-critical sequence training").

An image's baseline is the mean reward of its other samples (Luo 2020, "A better variant of self-critical sequence
training").

Notation: R images, S samples of each, T tokens of a caption, N places of the grid, C channels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from src.config.schema import GenerationConfig, SelfCriticalConfig
from src.data.batch import Batch
from src.data.sample import Sample
from src.data.tokenizer import END, Tokenizer
from src.models.multitask import Mean, MultitaskModel
from src.training.reward import Reward, image_key


class SelfCriticalLoss:
    """A CaptionLoss for MultitaskModel.losses.

    Attributes:
        weights: of its parts.
        seed: of the next samples; the caller sets it at each step, so that a resumed run draws the same samples.
    """

    def __init__(
        self,
        config: SelfCriticalConfig,
        model: MultitaskModel,
        tokenizer: Tokenizer,
        samples: Sequence[Sample],
        longest: int,
    ) -> None:
        """Counts the references of the training images.

        Args:
            config: samples and dropout.
            model: the one in training.
            tokenizer: its words.
            samples: the training images.
            longest: most words of a caption.
        """
        self.reward = Reward(config.reward, samples)
        self.config, self.model, self.tokenizer = config, model, tokenizer
        self.weights: Mapping[str, float] = {
            "caption_rl": 1.0,
            "caption_ce": config.cross_entropy,
            "caption_reward": 0.0,
        }
        self.sampling = GenerationConfig(
            method="nucleus", temperature=config.temperature, top_p=1.0, no_repeat=0, max_length=longest
        )
        self.seed = 0

    def __call__(self, grid: Tensor, batch: Batch) -> dict[str, Mean]:
        """Parts of the loss.

        `caption_rl`, whose gradient is REINFORCE's, over the samples' words, `caption_ce`, the cross-entropy of the
        captions as written, and `caption_reward`, the mean reward of the samples.
        """
        assert batch.caption_input is not None
        rows = batch.caption_input.rows
        names = [image_key(batch.sources[row], batch.names[row]) for row in rows.tolist()]
        with _dropout(self.model, self.config.dropout):
            captions = self._sample(grid, batch.style[rows])
            reward = self._reward(names, captions).to(grid.device)
            tokens = _tokens(captions, batch.style[rows], self.config.samples)
            assert self.model.decoder is not None
            scale, temperature = advantage(reward), self.config.temperature
            if batch.weight is not None:
                scale = scale * batch.weight[rows].unsqueeze(1)
            loss = self.model.decoder.loss(grid, tokens, scale=scale, temperature=temperature)
        parts = {"caption_rl": (loss, int((tokens[:, :, 1:] > 0).sum()))} | self.model.caption_ce(grid, batch)
        return parts | {"caption_reward": (reward.mean(), reward.numel())}

    def _sample(self, grid: Tensor, style: Tensor) -> list[list[int]]:
        """R S captions, image by image."""
        self.sampling.seed = self.seed
        captions = self.model.generate(grid, style, self.sampling, each=self.config.samples)
        return [caption.tokens for caption in captions]

    def _reward(self, names: list[str], captions: list[list[int]]) -> Tensor:
        """[R, S]."""
        images = [name for name in names for _ in range(self.config.samples)]
        texts = [self.tokenizer.decode(tokens) for tokens in captions]
        return torch.from_numpy(self.reward(images, texts)).float().view(len(names), -1)


def advantage(reward: Tensor) -> Tensor:
    """[R, S] rewards less the mean of the image's other samples; 0 for a single sample."""
    samples = reward.shape[1]
    return (reward - reward.mean(dim=1, keepdim=True)) * samples / max(1, samples - 1)


def _tokens(captions: list[list[int]], style: Tensor, samples: int) -> Tensor:
    """[R, S, T] with style and end tokens, padded with 0."""
    rows = [torch.tensor([*caption, END]) for caption in captions]
    body = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(style.device)
    return torch.cat([style.repeat_interleave(samples).unsqueeze(1), body], dim=1).view(len(style), samples, -1)


@contextmanager
def _dropout(model: MultitaskModel, on: bool) -> Iterator[None]:
    """Within the block the decoder has dropout only if `on`; without it, samples follow the policy that is trained."""
    assert model.decoder is not None
    before = model.decoder.training
    model.decoder.train(before and on)
    try:
        yield
    finally:
        model.decoder.train(before)
