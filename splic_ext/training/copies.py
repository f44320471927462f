"""Defended copies of a data set on disk, for trainings that do not draw fresh masks."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.common.atomic import atomic_path, remove_stale
from splic_ext.data import Dataset
from splic_ext.data.npz import check_npy
from splic_ext.defenses import Defense, RandomDefense, seeded_masks
from splic_ext.runs.clock import Clock
from splic_ext.runs.fingerprints import (
    DEFENSE_CODE,
    code_fingerprint,
    derive_seed,
    fingerprint,
    fingerprint_arrays,
    fingerprint_own,
)
from splic_ext.runs.progress import Progress
from splic_ext.runs.store import Part, PartStore
from splic_ext.training.options import TrainingOptions
from splic_ext.training.processes import Processes

__all__ = ["Copies"]

#: Images that are defended, and kept, at a time.
BLOCK = 500

FORMAT = 1


class Copies:
    """Defended copies of the images of a data set: files ``copy-....npy`` of uint8.

    A file is named after the hash of what determines it: the images, the defence, the seed, the
    number of the copy, and the code of the defences. Beside it stands a ``.json`` with the same
    in words, and its checksum. One that is damaged, or not what its name says, gives a warning
    and is made anew. Blocks of a copy that is not finished are kept too.

    The defence is `defense`, or that of the options.

    `folder` is made when there is need, and trainings may share it. `count` is one, if the defence
    has no fresh masks; `notes` are what was warned of.
    """

    def __init__(
        self,
        folder: Path,
        data: Dataset,
        options: TrainingOptions,
        processes: Processes,
        device: torch.device,
        defense: Defense | None = None,
    ) -> None:
        self.folder, self.data, self.seed = folder, data, options.seed
        self.processes, self.device = processes, device
        self.defense = (options.build_defense() if defense is None else defense).to(device)
        parts = self.defense.modules()
        fresh = any(isinstance(part, RandomDefense) and part.fresh for part in parts)
        self.count = options.copies if fresh else 1
        self.notes: list[str] = []
        self._common = {
            "kind": "copy",
            "format": FORMAT,
            "images": fingerprint_arrays(data.images),
            "defense": options.defense,
            "fingerprint": fingerprint_own(self.defense),
            "seed": options.seed,
            "code": code_fingerprint(DEFENSE_CODE),
        }

    def all(self, progress: Progress) -> list[npt.NDArray[np.uint8]]:
        """Return all copies; see :meth:`open`."""
        return [self.open(number, progress) for number in range(self.count)]

    def open(self, number: int, progress: Progress) -> npt.NDArray[np.uint8]:
        """Return a copy, memory-mapped and not to be changed; make it if it is not there."""
        description = self._common | {"copy": number}
        path = self.folder / f"copy-{fingerprint(description)[:40]}.npy"
        found = self._read(path, description)
        # Another training may have made it between the looks of two processes: all do the same.
        lacking = torch.tensor(float(found is None), device=self.device)
        self.processes.add([lacking])
        if found is None or lacking > 0:
            self._make(path, description, number, progress)
            self.processes.wait()
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            progress.advance("copies", len(self.data), 0.0)
        return found

    def _read(self, path: Path, description: dict[str, Any]) -> npt.NDArray[np.uint8] | None:
        if not path.exists() or not path.with_suffix(".json").exists():
            return None
        try:
            meta = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            if meta["description"] != description:
                raise ValueError("it belongs to another one")
            check_npy(path)
            found: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
            expected = (np.dtype(np.uint8), self.data.images.shape)
            if (found.dtype, found.shape) != expected or meta["sha256"] != fingerprint_arrays(
                found
            ):
                raise ValueError("its content is damaged")
        except MemoryError:
            raise
        except Exception as error:  # of any type: the content of a damaged file is anything
            note = (
                f"the file '{path}' is no defended copy of these images and is made anew: "
                f"{str(error) or type(error).__name__}"
            )
            self.notes.append(note)
            warnings.warn(note, stacklevel=2)
            return None
        return found

    def _make(
        self, path: Path, description: dict[str, Any], number: int, progress: Progress
    ) -> None:
        if self.processes.first:
            remove_stale(self.folder)
        store = PartStore(self.folder / "parts")
        starts = range(0, len(self.data), BLOCK)
        for k, start in enumerate(starts):
            if k % self.processes.count == self.processes.rank:
                clock = Clock(self.device)
                block = self._block(store, number, start)
                progress.advance("copies", len(block), clock.total)
        self.processes.wait()
        if self.processes.first:
            self._assemble(path, description, [self._block(store, number, s) for s in starts])
            for start in starts:
                place = store.path(self._describe(number, start))
                if place is not None:
                    place.unlink(missing_ok=True)
        self.notes += store.notes

    def _assemble(
        self, path: Path, description: dict[str, Any], blocks: list[npt.NDArray[np.uint8]]
    ) -> None:
        """Write a finished copy; not through mapped memory, where a full disk would kill us."""
        copy = np.concatenate(blocks)
        meta = {"description": description, "sha256": fingerprint_arrays(copy)}
        try:
            with atomic_path(path, overwrite=True) as temporary, temporary.open("wb") as file:
                np.save(file, copy, allow_pickle=False)
            with atomic_path(path.with_suffix(".json"), overwrite=True) as temporary:
                temporary.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise OSError(
                f"the defended copy '{path}' cannot be written: {error.strerror or error}; make "
                "room or name another `cache`, and run it again: finished blocks are kept"
            ) from error

    def _describe(self, number: int, start: int) -> dict[str, Any]:
        count = min(BLOCK, len(self.data) - start)
        return self._common | {"copy": number, "start": start, "count": count}

    def _block(self, store: PartStore, number: int, start: int) -> npt.NDArray[np.uint8]:
        """Return some defended images, from a file if they are there."""
        images, description = self.data.images[start : start + BLOCK], self._describe(number, start)
        part = store.get(description, {"images": (np.dtype(np.uint8), images.shape)})
        if part is None:
            clock = Clock(self.device)
            batch = torch.from_numpy(images.astype(np.float32) / np.float32(255)).to(self.device)
            masks = seeded_masks(derive_seed(self.seed, "copy", number))
            with clock.phase("defense"), torch.no_grad(), masks:
                defended = self.defense(batch, index=start)
            rounded = (defended * 255).round().to(torch.uint8).cpu().numpy()
            part = Part({"images": rounded}, clock.phases)
            store.put(description, part)
        return part.arrays["images"]
