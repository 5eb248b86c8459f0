"""Captions learned from their own scores: REINFORCE (Rennie et al. 2017, "Self-critical sequence training").

A photo's baseline is the mean reward of its other samples (Luo 2020, "A better variant of self-critical sequence
training").

Notation: R photos, S samples of each, T tokens of a caption, N places of the grid, C channels.
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
    """A caption loss for `Multitask.losses`.

    Attributes:
        weights: what each of its parts counts.
        seed: of the next samples; the caller sets it at each step, so that a resumed run draws what the whole run drew.
    """

    def __init__(
        self,
        config: SelfCriticalConfig,
        model: MultitaskModel,
        tokenizer: Tokenizer,
        samples: Sequence[Sample],
        longest: int,
    ) -> None:
        """Counts the references of the training photos.

        Args:
            config: samples and dropout.
            model: what learns.
            tokenizer: its words.
            samples: the training photos.
            longest: most words of a caption.
        """
        self.reward = Reward(config.reward, samples)
        self.config, self.model, self.tokenizer = config, model, tokenizer
        self.weights: Mapping[str, float] = {
            "caption_rl": 1.0,
            "caption_ce": config.cross_entropy,
            "caption_reward": 0.0,
        }
        self.drawing = GenerationConfig(
            method="nucleus", temperature=config.temperature, top_p=1.0, no_repeat=0, max_length=longest
        )
        self.seed = 0

    def __call__(self, grid: Tensor, batch: Batch) -> dict[str, Mean]:
        """Parts of the loss.

        `caption_rl`, whose gradient is REINFORCE's, over the samples' words, `caption_ce`, the cross-entropy of the
        captions as written, and `caption_reward`, the mean reward of the samples.
        """
        assert batch.captioning is not None
        rows = batch.captioning.rows
        names = [image_key(batch.sources[row], batch.names[row]) for row in rows.tolist()]
        with _dropout(self.model, self.config.dropout):
            drawn = self._draw(grid, batch.style[rows])
            reward = self._reward(names, drawn).to(grid.device)
            tokens = _tokens(drawn, batch.style[rows], self.config.samples)
            assert self.model.decoder is not None
            scale, temperature = advantage(reward), self.config.temperature
            loss = self.model.decoder.loss(grid, tokens, scale=scale, temperature=temperature)
        learned = {"caption_rl": (loss, int((tokens[:, :, 1:] > 0).sum()))} | self.model.caption_ce(grid, batch)
        return learned | {"caption_reward": (reward.mean(), reward.numel())}

    def _draw(self, grid: Tensor, style: Tensor) -> list[list[int]]:
        """R S captions, photo by photo."""
        self.drawing.seed = self.seed
        drawn = self.model.generate(grid, style, self.drawing, each=self.config.samples)
        return [caption.tokens for caption in drawn]

    def _reward(self, names: list[str], drawn: list[list[int]]) -> Tensor:
        """[R, S]."""
        owners = [name for name in names for _ in range(self.config.samples)]
        captions = [self.tokenizer.decode(tokens) for tokens in drawn]
        return torch.from_numpy(self.reward(owners, captions)).float().view(len(names), -1)


def advantage(reward: Tensor) -> Tensor:
    """[R, S] rewards less the mean of the photo's other samples; 0 for a single sample."""
    samples = reward.shape[1]
    return (reward - reward.mean(dim=1, keepdim=True)) * samples / max(1, samples - 1)


def _tokens(drawn: list[list[int]], style: Tensor, samples: int) -> Tensor:
    """[R, S, T] with style and end tokens, padded with 0."""
    rows = [torch.tensor([*caption, END]) for caption in drawn]
    body = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(style.device)
    return torch.cat([style.repeat_interleave(samples).unsqueeze(1), body], dim=1).view(len(style), samples, -1)


@contextmanager
def _dropout(model: MultitaskModel, on: bool) -> Iterator[None]:
    """Within the block the decoder drops values out only if `on`: samples then follow the very policy that learns."""
    assert model.decoder is not None
    before = model.decoder.training
    model.decoder.train(before and on)
    try:
        yield
    finally:
        model.decoder.train(before)
