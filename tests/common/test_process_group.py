"""Losses and gradients of two real processes, each with a part of a batch, against those of the whole batch."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from src.common.process_group import ProcessGroup
from src.config.schema import MosConfig
from src.data.batch import Batch, TaskInput
from src.data.tokenizer import Tokenizer
from src.models.backbones.base import Backbone
from src.models.multitask import MultitaskModel
from tests.tiny import CAPTIONS, tiny_config

PHOTOS, CUT = 6, 2  # the first process has two photos, the second four
LABELS = {"all": ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]), "apart": ([2, 3, 5], [0, 1, 4]), "second": ([2, 4, 5], [3])}


def make_model() -> tuple[MultitaskModel, Tokenizer]:
    torch.manual_seed(0)
    config = tiny_config()
    config.model.mos = MosConfig(hidden=8, dropout=0.0, losses={"mse": 1.0, "huber": 0.5, "plcc": 0.7, "rank": 0.3})
    config.model.task_weights = "learned"
    tokenizer = Tokenizer.train(CAPTIONS, config.data.tokenizer, ("challenge",))
    return MultitaskModel(config.model, Backbone(config.model.backbone), tokenizer.size), tokenizer


def make_batch(labels: str, first: int, last: int, tokenizer: Tokenizer) -> Batch:
    """Photos first..last of one batch; some carry mos, some a caption, of different lengths."""
    pixels = torch.rand(PHOTOS, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    encoded = tokenizer.encode_all([" ".join(["sharp dark photo"] * (1 + i % 3)) for i in range(PHOTOS)], [3] * PHOTOS)
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(one) for one in encoded], batch_first=True).unsqueeze(1)
    rated, described = (torch.tensor([i for i in rows if first <= i < last]) for rows in LABELS[labels])
    mos = torch.tensor([5.0, 3.0, 7.0, 4.0, 6.5, 2.0])
    plain = Batch(
        [str(i) for i in range(first, last)],
        ["x"] * (last - first),
        tokens[first:last, 0, 0],
        mos[first:last],
        tokens[first:last],
    )
    views = [TaskInput(rows.long() - first, pixels[rows.long()]) if len(rows) else None for rows in (rated, described)]
    return replace(plain, mos_input=views[0], caption_input=views[1])


def gradients(model: MultitaskModel) -> dict[str, torch.Tensor]:
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    group = ProcessGroup(rank, 2)
    for labels in LABELS:
        model, tokenizer = make_model()
        batch = make_batch(labels, *((0, CUT) if rank == 0 else (CUT, PHOTOS)), tokenizer)
        losses = model.losses(batch, group=group)
        losses["loss"].backward()
        kept = {name: value.item() for name, value in losses.items()}
        torch.save({"losses": kept, "gradients": gradients(model)}, folder / f"{labels}{rank}.pt")
    assert group.gather([rank]) == ([[0], [1]] if rank == 0 else [])
    assert group.broadcast("first" if rank == 0 else "") == "first"
    assert group.sum(rank, 5) == [1, 10]
    dist.barrier()  # neither leaves while the other still listens
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads abort, once in many runs, a process that takes itself down with more care


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    processes.start_processes(work, (folder,), nprocs=2, start_method="spawn")
    return folder


@pytest.mark.parametrize("labels", LABELS)
def test_parts_of_a_batch_have_its_losses_and_on_average_its_gradient(found: Path, labels: str) -> None:
    model, tokenizer = make_model()
    whole = model.losses(make_batch(labels, 0, PHOTOS, tokenizer))
    whole["loss"].backward()
    parts = [torch.load(found / f"{labels}{rank}.pt", weights_only=True) for rank in (0, 1)]
    for part in parts:
        assert part["losses"] == pytest.approx({name: value.item() for name, value in whole.items()}, abs=1e-5)
    expected = gradients(model)
    assert set().union(*(part["gradients"] for part in parts)) == expected.keys()
    for name, value in expected.items():
        sums = sum(part["gradients"].get(name, torch.zeros_like(value)) for part in parts)
        torch.testing.assert_close(sums / 2, value, atol=1e-5, rtol=1e-3)


def test_a_process_alone_is_the_whole() -> None:
    group, value = ProcessGroup(), torch.tensor([1.0, 2.0], requires_grad=True)
    assert group.all_gather(value) is value
    assert group.mean(value, 3) is value
    assert (group.sum(2, 3), group.gather("a"), group.broadcast("b")) == ([2, 3], ["a"], "b")
