"""Logs for TensorBoard, where it is installed."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from splic_ext.training.records import EpochRecord

__all__ = ["MISSING", "Board"]

#: What a record notes then.
MISSING = "no logs for TensorBoard, which is not installed; the extra `train` has it"


class Board:
    """Writes TensorBoard's curves after each epoch, given a folder and where it is installed.

    `first` epochs are finished already: what an earlier run wrote beyond them is hidden. `notes`
    are what the record should tell.
    """

    def __init__(self, folder: Path | None, first: int) -> None:
        self.notes: list[str] = []
        self._writer: Any = None
        if folder is None:
            return
        try:
            tensorboard: Any = import_module("torch.utils.tensorboard")
        except ImportError:
            self.notes.append(MISSING)
            return
        self._guarded(
            lambda: setattr(
                self,
                "_writer",
                tensorboard.SummaryWriter(str(folder), purge_step=first + 1, max_queue=1),
            )
        )

    def add(self, epoch: EpochRecord) -> None:
        """Add an epoch to the curves."""
        if self._writer is None:
            return
        values = {
            "loss": epoch.loss,
            "accuracy/train": epoch.train_accuracy,
            "accuracy/test": epoch.test_accuracy,
            "learning_rate": epoch.learning_rate,
            **{f"seconds/{name}": value for name, value in asdict(epoch.seconds).items()},
        }

        def write() -> None:
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(name, value, epoch.epoch)
            self._writer.flush()

        self._guarded(write)

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._writer is not None:
            self._guarded(self._writer.close)

    def _guarded(self, work: Any) -> None:
        """Go on without logs where they cannot be written: the training matters more."""
        try:
            work()
        except OSError as error:
            self._writer = None
            note = f"the logs for TensorBoard cannot be written: {error}; the training goes on"
            self.notes.append(note)
            warnings.warn(note, stacklevel=2)
