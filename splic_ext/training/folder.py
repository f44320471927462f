"""The files of a training: what is there already, and what is kept."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import nn

from splic_ext.common.atomic import remove_stale, write_text
from splic_ext.models import load_weights
from splic_ext.runs.fingerprints import fingerprint, fingerprint_weights
from splic_ext.training.checkpoint import (
    NOT_WRITTEN,
    REBUILD,
    Checkpoint,
    DamagedError,
    differences,
    write_tensors,
)
from splic_ext.training.records import TrainingRecord

__all__ = ["CHECKPOINT", "RECORD", "WEIGHTS", "TrainingFolder"]

#: Names of the files.
RECORD, WEIGHTS, CHECKPOINT = "training.json", "weights.safetensors", "checkpoint.safetensors"
LOCK = ".lock"


class TrainingFolder:
    """The folder of a training; without a path nothing is kept. `notes` are what was warned of."""

    def __init__(
        self, path: Path | None, identity: dict[str, Any], environment: dict[str, Any]
    ) -> None:
        self.path, self.identity, self.environment = path, identity, environment
        self.notes: list[str] = []

    @property
    def logs(self) -> Path | None:
        """Where TensorBoard's files go."""
        return None if self.path is None else self.path / "tensorboard"

    def find(
        self, network: nn.Module, overwrite: bool
    ) -> tuple[TrainingRecord | None, Checkpoint | None]:
        """Return the record of the same training if it is finished, or else its checkpoint.

        The network gets the weights of a finished training. With `overwrite`, what is damaged, or
        of another training, counts as missing.
        """
        folder = self.path
        if folder is None:
            return None, None
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"`output` must be a folder, got the file '{folder}'; name another")
        try:
            if (folder / RECORD).exists():
                return self._finished(folder, network), None
            if (folder / CHECKPOINT).exists():
                found = Checkpoint.read(folder / CHECKPOINT, self.identity)
                self._compare(f"the checkpoint '{folder / CHECKPOINT}'", found.environment)
                return None, found
            if (folder / WEIGHTS).exists():
                raise ValueError(
                    f"'{folder / WEIGHTS}' is not of this training; name another `output`, or give "
                    "`overwrite=True` to replace it"
                )
        except DamagedError as error:
            if not overwrite:
                raise
            note = f"the training is begun anew: {str(error).partition(';')[0]}"
            self.notes.append(note)
            warnings.warn(note, stacklevel=2)
        except ValueError:
            if not overwrite:
                raise
        return None, None

    @contextmanager
    def held(self, overwrite: bool) -> Iterator[None]:
        """Keep other processes from training into the folder; a killed one lets it go.

        With `overwrite`, a result may go that has appeared since :meth:`find` looked.
        """
        if self.path is None:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        busy = ValueError(
            f"`output` must be a folder that no other process trains into, got '{self.path}'; "
            "wait until it is done, or name another"
        )
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise busy from error
        try:
            if (self.path / RECORD).exists() and not overwrite:
                raise busy
            yield
        finally:
            (self.path / LOCK).unlink(missing_ok=True)
            lock.release()

    def clear(self, overwrite: bool) -> None:
        """Remove the files of another training, with `overwrite` also logs that none has left."""
        if self.path is None:
            return
        remove_stale(self.path)
        old = [self.path / name for name in (RECORD, CHECKPOINT, WEIGHTS)]
        if overwrite or any(path.exists() for path in old):
            old += self.path.glob("tensorboard/events.out.tfevents.*")
        for path in old:
            path.unlink(missing_ok=True)

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint in place of the last one."""
        if self.path is not None:
            checkpoint.write(self.path / CHECKPOINT)

    def finish(self, network: nn.Module, record: TrainingRecord) -> None:
        """Keep the result, which makes the checkpoint needless."""
        if self.path is None:
            return
        write_tensors(self.path / WEIGHTS, network.state_dict())
        write_text(self.path / RECORD, record.to_json(), NOT_WRITTEN)
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def _finished(self, folder: Path, network: nn.Module) -> TrainingRecord:
        """Return the record of this training, with its weights in the network."""
        try:
            record = TrainingRecord.load(folder / RECORD)
        except ValueError as error:
            raise DamagedError(
                f"'{folder / RECORD}' cannot be read: {error.__cause__ or error}; name another "
                "`output`, or give `overwrite=True` to begin anew"
            ) from error
        if record.key != fingerprint(self.identity):
            there = {
                "options": record.options.identity(),
                "data set": record.dataset.sha256,
                "test set": None if record.test is None else record.test.sha256,
            }
            here = {name: self.identity[name] for name in there}
            hint = REBUILD if self.identity["initialisation"] else ""
            rest = "another network" + hint
            if any("defence" in name for name in self.identity):
                rest += ", or another defence or other code of it"
            other = differences(there, here) or rest
            raise ValueError(
                f"'{folder / RECORD}' is of another training: {other}; name another `output`, or "
                "give `overwrite=True` to begin anew"
            )
        trial = copy.deepcopy(network)  # the network itself may have to begin anew
        try:
            load_weights(trial, folder / WEIGHTS)
        except (FileNotFoundError, ValueError) as error:
            raise DamagedError(
                f"the training of '{folder / RECORD}' has lost its weights: {error}; put them "
                "back, or give `overwrite=True` to begin anew"
            ) from error
        if fingerprint_weights(trial) != record.model.sha256:
            raise DamagedError(
                f"'{folder / WEIGHTS}' does not hold the weights of '{folder / RECORD}'; put them "
                "back, or give `overwrite=True` to begin anew"
            )
        network.load_state_dict(trial.state_dict())
        made = {"versions": record.provenance.versions, "code": record.provenance.code}
        self._compare(f"the training of '{folder / RECORD}'", made)
        return record

    def _compare(self, what: str, made: Mapping[str, Any]) -> None:
        """Tell of what was computed otherwise, to other rounding, by all that is known of it."""
        here = self.environment
        other = [name for name in here if name in made and made[name] != here[name]]
        if other:
            note = (
                f"{what} was made with other {', '.join(other)}: the result may differ from that "
                "of one run"
            )
            self.notes.append(note)
            warnings.warn(note, stacklevel=2)
