"""Finished parts of a computation on disk: found again by what determines them."""

from __future__ import annotations

import json
import math
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from splic_ext.common.atomic import RESULTS, atomic_path, remove_stale, telling
from splic_ext.common.checks import reason_of
from splic_ext.data.npz import check_unpacked, read_member
from splic_ext.runs.fingerprints import fingerprint, fingerprint_arrays

__all__ = ["Part", "PartStore", "Store"]

FORMAT = 1

#: Most bytes that a part has beside its arrays: their headers, and what determines it.
META_BYTES = 2**22

#: What a part may have spent time on.
PHASES = ("attack", "defense", "encoding", "fill", "masks", "network")


@dataclass(frozen=True)
class Part:
    """What was computed for one batch, and the seconds of each of :data:`PHASES`."""

    arrays: Mapping[str, npt.NDArray[Any]]
    seconds: Mapping[str, float]


class Store(Protocol):
    """Keeps parts, each under what determines it."""

    def get(
        self,
        description: Mapping[str, Any],
        expected: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    ) -> Part | None:
        """Return a part, or None if it is to be made."""

    def put(self, description: Mapping[str, Any], part: Part) -> None:
        """Keep a part."""


@dataclass
class PartStore:
    """A folder of parts, each a ``.npz`` file named after the hash of what determines it.

    A file appears at once, when it is finished, so that a process may be killed at any time, and
    several may work in one folder. A file that is damaged, or not what its name says, gives a
    warning and counts as missing.

    `folder` is made when the first part is written; without one nothing is kept. `notes` are what
    was warned of.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = PartStore(Path(folder))
    ...     store.put({"kind": "example"}, Part({"x": np.arange(3)}, {"attack": 0.5}))
    ...     part = store.get({"kind": "example"}, {"x": (np.dtype(int), (3,))})
    ...     store.get({"kind": "another"}, {}) is None
    True
    >>> part.arrays["x"], part.seconds
    (array([0, 1, 2]), {'attack': 0.5})
    """

    folder: Path | None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.folder is not None:
            remove_stale(self.folder)

    def path(self, description: Mapping[str, Any]) -> Path | None:
        """Return where the part is, or would be."""
        if self.folder is None:
            return None
        return self.folder / f"{description['kind']}-{fingerprint(description)[:40]}.npz"

    def get(
        self,
        description: Mapping[str, Any],
        expected: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    ) -> Part | None:
        """Return a part, or None if it is not there or not to be used.

        `description` is all that determines it, as plain values, with a "kind"; `expected` has the
        dtypes and shapes of its arrays.
        """
        path = self.path(description)
        if path is None or not path.exists():
            return None
        try:
            part, reason = _read(path, description, expected), ""
        except MemoryError:
            raise
        except FileNotFoundError:  # another process has finished with it, and removed it
            return None
        except Exception as error:  # of any type: the content of a damaged file is anything
            part, reason = None, reason_of(error)
        if part is None:
            note = f"the file '{path}' is no part of this run and is made anew: {reason}"
            self.notes.append(note)
            warnings.warn(note, stacklevel=2)
        return part

    def put(self, description: Mapping[str, Any], part: Part) -> None:
        """Write a part, in place of any that is there; if that fails, what is there is kept."""
        path = self.path(description)
        if path is None:
            return
        meta = {
            "format": FORMAT,
            "description": description,
            "seconds": part.seconds,
            "sha256": _checksum(part.arrays),
        }
        content: dict[str, Any] = {"meta": np.array(json.dumps(meta)), **part.arrays}
        with (
            telling(path, RESULTS),
            atomic_path(path, overwrite=True) as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(file, **content)


def _checksum(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    return fingerprint({name: fingerprint_arrays(array) for name, array in arrays.items()})


def _read(
    path: Path,
    description: Mapping[str, Any],
    expected: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
) -> Part:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        largest = sum(dtype.itemsize * math.prod(shape) for dtype, shape in expected.values())
        problem = check_unpacked(members, largest + META_BYTES)
        if problem is not None:
            raise ValueError(problem.partition(";")[0])
        arrays = {m.filename.removesuffix(".npy"): read_member(archive, m) for m in members}
    meta = json.loads(str(arrays.pop("meta")))
    if meta["format"] != FORMAT or meta["description"] != json.loads(json.dumps(description)):
        raise ValueError("it belongs to another one")
    shapes = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    if shapes != dict(expected) or meta["sha256"] != _checksum(arrays):
        raise ValueError("its content is damaged")
    seconds = {str(phase): float(value) for phase, value in meta["seconds"].items()}
    if not (seconds.keys() <= set(PHASES) and all(0 <= s < math.inf for s in seconds.values())):
        raise ValueError("its times are damaged")
    return Part(arrays, seconds)
