"""The state of a training in one file, written at once; and whether it is that of this training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from splic_ext.common.atomic import write_bytes
from splic_ext.common.checks import reason_of
from splic_ext.runs.fingerprints import fingerprint, fingerprint_arrays
from splic_ext.runs.plain import decode, encode
from splic_ext.training.options import LATER
from splic_ext.training.trainer import Position, Trainer

__all__ = ["NOT_WRITTEN", "REBUILD", "Checkpoint", "DamagedError", "differences", "write_tensors"]

#: Under which the header of a checkpoint holds what is no tensor.
META = "splic_ext"

#: What may explain that a network is another.
REBUILD = " (other `weights`; a network that is given is trained in place: build it anew)"

#: What is said of a file that cannot be written; see :func:`splic_ext.common.atomic.telling`.
NOT_WRITTEN = (
    "'{path}' cannot be written: {reason}; make room and run it again: it goes on from the last "
    "checkpoint"
)

#: Of the file: 2 has a checksum that is of the header too.
VERSION = 2


class DamagedError(ValueError):
    """A file that is not as it was written."""


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on.

    `identity` and `environment` are those of the plan; `scaler` is that of the loss, for float16;
    `averaged` counts the updates that the running average has seen; `notes` are what was warned of
    at the beginning. Names of tensors are "model/...", "momentum/...", "average/...".
    """

    identity: dict[str, Any]
    environment: dict[str, Any]
    position: Position
    scaler: dict[str, Any]
    averaged: int
    tensors: dict[str, torch.Tensor]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, trainer: Trainer) -> Checkpoint:
        """Return the present state of a training."""
        learner, plan = trainer.learner, trainer.plan
        tensors = _prefixed("model/", learner.network.state_dict())
        for name, part in learner.network.named_parameters():
            buffer = learner.optimizer.state.get(part, {}).get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum/{name}"] = buffer
        averaged = 0
        if learner.average is not None:
            tensors |= _prefixed("average/", learner.average.module.state_dict())
            averaged = int(learner.average.n_averaged)
        scaler = learner.scaler.state_dict()
        parts = plan.identity, plan.environment, trainer.position, scaler, averaged, tensors
        return cls(*parts, trainer.notes)

    def restore(self, trainer: Trainer) -> None:
        """Put a training of the same identity into this state."""
        learner = trainer.learner
        learner.network.load_state_dict(_part("model/", self.tensors))
        for name, part in learner.network.named_parameters():
            saved = self.tensors.get(f"momentum/{name}")
            if saved is not None:
                buffer = torch.empty_like(part, requires_grad=False).copy_(saved)
                learner.optimizer.state[part]["momentum_buffer"] = buffer
        if learner.average is not None:
            learner.average.module.load_state_dict(_part("average/", self.tensors))
            learner.average.n_averaged.fill_(self.averaged)
        if self.scaler:
            learner.scaler.load_state_dict(self.scaler)
        trainer.position, trainer.notes = self.position, self.notes

    @property
    def finite(self) -> bool:
        """Whether no weight is infinite or NaN."""
        return all(
            bool(value.isfinite().all())
            for value in self.tensors.values()
            if value.is_floating_point()
        )

    def write(self, path: Path) -> None:
        """Write the file, in place of any that is there; if that fails, what is there is kept."""
        meta = {
            "schema_version": VERSION,
            "identity": self.identity,
            "environment": self.environment,
            "position": encode(self.position),
            "scaler": self.scaler,
            "averaged": self.averaged,
            "notes": self.notes,
        }
        meta["sha256"] = _checksum(meta, self.tensors)
        write_tensors(path, self.tensors, {META: json.dumps(meta)})

    @classmethod
    def read(cls, path: Path, identity: Mapping[str, Any]) -> Checkpoint:
        """Return what a file holds, if it is of the training that wants to go on."""
        try:
            with safe_open(path, framework="pt") as file:
                meta = json.loads((file.metadata() or {})[META])
                version = meta["schema_version"]
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            intact = meta.pop("sha256", None) == _checksum(meta, tensors)
        except MemoryError:
            raise
        except Exception as error:  # of any type: the content of a damaged file is anything
            reason = f"{type(error).__name__}: {reason_of(error)}"
            raise _refused(path, f"cannot be read ({reason})") from error
        if version != VERSION:
            raise DamagedError(
                f"the checkpoint '{path}' must have the schema version {VERSION}, got "
                f"{version!r}; go on with the version of splic_ext that wrote it, or give "
                "`overwrite=True` to begin anew"
            )
        if not intact:
            raise _refused(path, "is damaged (the checksum is wrong)")
        other = differences(meta.get("identity"), identity)
        if other:
            raise ValueError(
                f"the checkpoint '{path}' is of another training: {other}; name another `output`, "
                "or give `overwrite=True` to begin anew"
            )
        try:
            position = decode(Position, meta["position"], "position")
            parts = meta["identity"], meta["environment"], position, meta["scaler"]
            notes = tuple(map(str, meta.get("notes", ())))  # older files have none
            return cls(*parts, int(meta["averaged"]), tensors, notes)
        except (KeyError, TypeError, ValueError) as error:
            raise _refused(path, f"is damaged ({reason_of(error)})") from error


def differences(there: Any, here: Mapping[str, Any]) -> str:
    """Say in which respects two identities of trainings differ; an empty text if in none.

    >>> here = {"options": {"epochs": 3, "seed": 0}, "dataset": "4f..."}
    >>> differences({"options": {"epochs": 5, "seed": 0}, "dataset": "a0..."}, here)
    '`epochs` is 5 there and 3 here, another dataset'
    """
    if not isinstance(there, Mapping):
        return "it does not say of which"
    old, new = there.get("options"), here["options"]
    old, new = ({**LATER, **o} if isinstance(o, Mapping) else {} for o in (old, new))
    found = [
        f"`{name}` is {old.get(name)!r} there and {new.get(name)!r} here"
        for name in {**new, **old}
        if old.get(name) != new.get(name)
    ]
    found += [
        f"another {name}{REBUILD if name == 'initialisation' and here[name] else ''}"
        for name in here
        if name != "options" and there.get(name) != here[name]
    ]
    return ", ".join(found)


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], meta: dict[str, str] | None = None
) -> None:
    """Write a file of safetensors at once, as :func:`write_text` does; `meta` is for the header."""
    # Copies: safetensors takes neither shared memory nor other layouts.
    plain = {
        name: value.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
        for name, value in tensors.items()
    }
    write_bytes(path, save(plain, meta), NOT_WRITTEN)


def _refused(path: Path, reason: str) -> DamagedError:
    return DamagedError(
        f"the checkpoint '{path}' {reason}; put back a copy, or give `overwrite=True` to begin anew"
    )


def _prefixed(prefix: str, tensors: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {
        f"{prefix}{name}": value
        for name, value in tensors.items()
        if isinstance(value, torch.Tensor)
    }


def _part(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _checksum(meta: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    found: dict[str, Any] = {"header": meta}
    for name, value in tensors.items():
        host = value.detach().cpu().contiguous()
        shape = f"{host.dtype}{tuple(host.shape)}"
        found[f"tensor {name}"] = shape + fingerprint_arrays(
            host.reshape(-1).view(torch.uint8).numpy()
        )
    return fingerprint(found)
