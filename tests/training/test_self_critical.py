"""Self-critical training: its baseline and gradient against brute force, and that it raises what it is to raise."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src.common.errors import UserError
from src.config.schema import DecoderConfig, SelfCriticalConfig
from src.data.batch import Batch, TaskInput
from src.data.sample import Sample
from src.data.tokenizer import END
from src.models.decoders.recurrent import RecurrentDecoder
from src.models.model_folder import load_model_folder
from src.train import main
from src.training.self_critical import SelfCriticalLoss, advantage
from tests.tiny import CAPTIONS, make_model, tiny_config
from tests.training.test_run import experiment


def test_the_baseline_is_the_mean_of_the_other_samples() -> None:
    reward = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])
    expected = [[1 - 4.0, 2 - 3.5, 6 - 1.5], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(advantage(reward), torch.tensor(expected))
    assert advantage(torch.tensor([[3.0]])).tolist() == [[0.0]]


def test_weighted_by_its_probability_the_loss_has_the_gradient_of_the_expected_reward() -> None:
    torch.manual_seed(0)
    config = DecoderConfig(embedding=6, hidden=8, attention_size=4)
    decoder = RecurrentDecoder(replace(config, dropout=0.0, word_dropout=0.0, grid_dropout=0.0), 7, 5)
    captions = [(*words, END) for n in (1, 2) for words in itertools.product((4, 5, 6), repeat=n)]
    tokens = torch.zeros(1, len(captions), 4, dtype=torch.long)
    for row, caption in enumerate(captions):
        tokens[0, row, : len(caption) + 1] = torch.tensor([3, *caption])
    grid, reward = torch.randn(1, 3, 5), torch.rand(len(captions))
    logp = decoder(grid, tokens).log_softmax(dim=3).gather(3, tokens[:, :, 1:, None]).squeeze(3)
    probability = (logp * (tokens[:, :, 1:] != 0)).sum(dim=2).exp()[0]
    expected = torch.autograd.grad((probability * reward).sum(), decoder.parameters(), retain_graph=True)
    words = sum(len(caption) for caption in captions)
    loss = decoder.loss(grid, tokens, scale=(probability.detach() * reward)[None])
    found = torch.autograd.grad(-words * loss, decoder.parameters())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_logits_are_divided_by_the_temperature() -> None:
    torch.manual_seed(0)
    decoder = RecurrentDecoder(DecoderConfig(embedding=6, hidden=8, attention_size=4), 7, 5).eval()
    grid, tokens, scale = (
        torch.randn(2, 3, 5),
        torch.tensor([[[3, 4, 5, 2]], [[3, 6, 2, 0]]]),
        torch.tensor([[1.5], [-2.0]]),
    )
    logp = (decoder(grid, tokens) / 0.5).log_softmax(dim=3).gather(3, tokens[:, :, 1:, None]).squeeze(3)
    expected = -(logp * (tokens[:, :, 1:] != 0) * scale[:, :, None]).sum() / 5
    torch.testing.assert_close(decoder.loss(grid, tokens, scale=scale, temperature=0.5), expected)


def test_samples_learn_to_be_like_the_references(tmp_path: Path) -> None:
    loaded = load_model_folder(make_model(tmp_path / "model", tiny_config(mos=False)))
    model, names = loaded.model, [str(i) for i in range(8)]
    samples = [Sample(tmp_path, names[i], "challenge", captions=(CAPTIONS[i % 4],)) for i in range(8)]
    critic = SelfCriticalLoss(SelfCriticalConfig(samples=8), model, loaded.tokenizer, samples, longest=6)
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=1e-2)
    grid = torch.randn(8, 4, model.backbone.grid_channels, generator=torch.Generator().manual_seed(1))
    style, rows = torch.full((8,), loaded.tokenizer.style("challenge")), torch.arange(8)
    view, tokens = TaskInput(rows, features=grid), torch.zeros(8, 1, 2, dtype=torch.long)
    batch = Batch(names, ["challenge"] * 8, style, torch.full((8,), torch.nan), tokens, caption_input=view)
    rewards = []
    for critic.seed in range(60):
        parts = model.losses(batch, critic)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        rewards.append(parts["caption_reward"].item())
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 1
    found = parts["caption_rl"] + 0.2 * parts["caption_ce"]
    torch.testing.assert_close(parts["loss"], found)


def test_what_to_start_from_must_fit(elsewhere: Path) -> None:
    file = str(experiment(elsewhere, epochs=1, checkpoint_steps=0))
    assert main(["--config", file]) == 0
    more = ["--config", file, "--train.start_from", "runs/tiny/model", "--track.name", "second"]
    more += ["--train.self_critical.epochs", "1"]
    assert main(more) == 0
    with pytest.raises(UserError, match=r"start_from runs/tiny/model: is built otherwise"):
        main([*more, "--model.decoder.hidden", "12", "--track.name", "third"])
    with pytest.raises(UserError, match=r"self_critical.epochs: more than train.epochs"):
        main([*more, "--train.self_critical.epochs", "2", "--track.name", "fourth"])


def test_self_critical_epochs_begin_at_the_moving_average(elsewhere: Path) -> None:
    critical = {"epochs": 1, "ema": 0.5, "lr": 1e-12}  # so small that weights stay where these epochs begin
    file = str(experiment(elsewhere, epochs=2, lr=0.05, ema=0.99, checkpoint_steps=0, self_critical=critical))
    assert main(["--config", file]) == 0
    assert main(["--config", file, "--track.name", "on", "--train.self_critical.ema", "0"]) == 0
    apart = []
    for name in ("tiny", "on"):
        kept = torch.load(elsewhere / f"runs/{name}/checkpoints/last.ckpt", weights_only=True)
        average, weights = kept["state_dict"], kept["current_model_state"]
        apart.append(max(float((average[name] - weights[name]).abs().max()) for name in average))
    assert apart[0] < 1e-6 < 1e-4 < apart[1]
