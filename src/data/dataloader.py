"""Batches from a data set: a DataLoader that resumes within an epoch.

Held by tests/data/test_dataset.py and tests/training/test_datamodule.py.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from src.common.errors import UserError
from src.data.batch import Batch
from src.data.dataset import ImageDataset
from src.data.sampler import EvalBatchSampler, TrainBatchSampler


class ResumableDataLoader(DataLoader[Batch]):
    """Batches, each of which the data set makes as a whole.

    Its state is that of its training batches: the epoch and the number of batches handed out. Lightning stores it in
    its checkpoints and, where it resumes within an epoch, restores it before the next batch.
    """

    def __init__(self, dataset: ImageDataset, batches: TrainBatchSampler | EvalBatchSampler, workers: int = 0) -> None:
        """A loader with `workers` processes; 0: this process alone."""
        # With a separate generator, for otherwise each iteration draws from torch's global one.
        super().__init__(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_identity,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            generator=torch.Generator(),
        )
        self.batches = batches
        self.resumed = False
        self.unreadable: set[str] = set()

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        if not isinstance(self.batches, TrainBatchSampler):
            yield from self._batches()
            return
        state = self.batches.state_dict()
        if state["done"] >= len(self.batches) or (state["done"] and not self.resumed):
            self.batches.load_state_dict({"epoch": state["epoch"] + 1, "done": 0})
        self.resumed = False
        # The sampler's own iteration is ahead of what workers have handed out, so batches are counted here.
        for batch in self._batches():
            self.batches.done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Where training is: epoch and batches done; empty in evaluation."""
        return self.batches.state_dict() if isinstance(self.batches, TrainBatchSampler) else {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration continues from a state."""
        if isinstance(self.batches, TrainBatchSampler) and state:
            self.batches.load_state_dict(state)
            self.resumed = True

    def _batches(self) -> Iterator[Batch]:
        """The batches; a warning names unreadable images once, with the last batch.

        Not after it: Lightning does not ask for more batches than there are.
        """
        known, readable = len(self.unreadable), 0
        left = len(self.batches) - self.state_dict().get("done", 0)
        whole = left == len(self.batches)
        for batch in super().__iter__():
            self.unreadable.update(batch.names[row] for row in batch.unreadable)
            readable, left = readable + len(batch) - len(batch.unreadable), left - 1
            if not left and not readable and whole:
                raise UserError(f"none of the photos can be read, {batch.names[0]} for one; check the sources' paths")
            if not left and len(self.unreadable) > known:
                warn_unreadable_images(sorted(self.unreadable), len(self.dataset))  # type: ignore[arg-type]
            yield batch


def _identity(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # the workers are the threads


def warn_unreadable_images(names: Sequence[str], photos: int, part: str = "") -> None:
    """One warning that counts images of a part and names the first."""
    part = part and f"{part} "
    some = ", ".join(names[:3]) + (", .." if len(names) > 3 else "")
    text = f"{len(names)} of {photos} {part}photos cannot be read and are left out: {some}"
    warnings.warn(f"{text}; `python -m src.prepare check` says why", stacklevel=3)
