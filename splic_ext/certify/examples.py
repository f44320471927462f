"""A few images as a certification saw them: what was hidden, filled and decided."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.certify.plan import PatchPlan
from splic_ext.certify.records import CertificateReport
from splic_ext.common.atomic import write_bytes
from splic_ext.common.checks import reason_of
from splic_ext.data.npz import check_unpacked, read_member

__all__ = ["EXAMPLES", "Examples", "choose_examples", "has_examples", "make_examples"]

#: Name of the file beside the report.
EXAMPLES = "examples.npz"
#: Most images of it.
MOST = 3
#: Most bytes that a file unpacks to.
MOST_BYTES = 2**26

#: Kind of dtype and number of axes of each array.
FORMS = {
    "key": ("U", 0),
    "classes": ("U", 1),
    "index": ("i", 1),
    "labels": ("i", 1),
    "images": ("u", 4),
    "pairs": ("i", 3),
    "visible": ("b", 4),
    "filled": ("u", 5),
    "decided": ("i", 2),
}


@dataclass(frozen=True, eq=False)
class Examples:
    """I images under the R records of a report, each with a pair of masks hidden.

    The pair is the one that failed; where the image is certified, the one whose answer leads least.

    Attributes
    ----------
    key : str
        Of the report.
    classes : tuple of str
        Names of the classes.
    index, labels : int64 arrays of shape (I,)
        Positions and classes of the images.
    images : uint8 array of shape (I, C, H, W)
    pairs : int64 array of shape (R, I, 2)
        The masks.
    visible : bool array of shape (R, I, H, W)
    filled : uint8 array of shape (R, I, C, H, W)
    decided : int64 array of shape (R, I)
        What the network took the filled images for.

    Raises
    ------
    ValueError
        Shapes that do not fit together, or classes without a name.
    """

    key: str
    classes: tuple[str, ...]
    index: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    pairs: npt.NDArray[np.int64]
    visible: npt.NDArray[np.bool_]
    filled: npt.NDArray[np.uint8]
    decided: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        count, channels, *sides = self.images.shape
        records = len(self.decided)
        expected = {
            "index": (count,),
            "labels": (count,),
            "pairs": (records, count, 2),
            "visible": (records, count, *sides),
            "filled": (records, count, channels, *sides),
            "decided": (records, count),
        }
        found = {name: getattr(self, name).shape for name in expected}
        named = [int(v) for part in (self.labels, self.decided) for v in (*part.flat, 0)]
        if found != expected or not (min(named) >= 0 and max(named) < len(self.classes)):
            raise ValueError(
                f"examples of certificates must be of the same images, masks and classes, got "
                f"{found}; certify again"
            )

    def fits(self, report: CertificateReport) -> bool:
        """Say whether these are examples of a report."""
        return self.key == report.key and len(self.decided) == len(report.records)

    def save(self, path: Path) -> None:
        """Write an archive, at once."""
        file = io.BytesIO()
        arrays: dict[str, Any] = {p.name: np.asarray(getattr(self, p.name)) for p in fields(self)}
        np.savez_compressed(file, **arrays)
        write_bytes(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> Examples:
        """Read an archive.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            It is damaged.
        """
        content = path.read_bytes()
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members = archive.infolist()
                problem = check_unpacked(members, MOST_BYTES)
                if problem is not None:
                    raise ValueError(problem.partition(";")[0])
                arrays = {m.filename.removesuffix(".npy"): read_member(archive, m) for m in members}
            forms = {name: (array.dtype.kind, array.ndim) for name, array in arrays.items()}
            if forms != FORMS:
                raise ValueError(f"arrays of other kinds, {forms}")
            values: dict[str, Any] = {**arrays, "key": str(arrays["key"])}
            return cls(**values | {"classes": tuple(arrays["classes"].tolist())})
        except MemoryError:
            raise
        except Exception as error:  # of any type: the content of a damaged file is anything
            raise ValueError(
                f"the examples '{path}' cannot be used: {reason_of(error)}; certify again to have "
                "them made"
            ) from error


def has_examples(path: Path, report: CertificateReport) -> bool:
    """Say whether a file holds the examples of a report; a damaged one does not."""
    try:
        return Examples.load(path).fits(report)
    except (FileNotFoundError, ValueError):
        return False


def choose_examples(certified: npt.NDArray[np.bool_]) -> list[int]:
    """Return the images to show, of certificates (R, N): certified by many, few, and some.

    >>> choose_examples(np.array([[True, False, False, True], [True, True, False, True]]))
    [0, 1, 2]
    """
    counts = certified.sum(axis=0)
    middle = len(certified) / 2
    order = (-counts, counts, abs(counts - middle))
    found = dict.fromkeys(int(np.argsort(key, kind="stable")[0]) for key in order)
    for i in range(len(counts)):
        if len(found) < MOST:
            found.setdefault(i)
    return sorted(found)


def make_examples(
    plan: PatchPlan, report: CertificateReport, weakest: Sequence[Sequence[Sequence[int]]]
) -> Examples:
    """Return the examples of a report; `weakest` has a pair for each record and image."""
    given = plan.request
    index = np.array(choose_examples(np.array([r.certified for r in report.records])))
    few = [given.batch(i, 1)[0] for i in index.tolist()]
    images = torch.cat(few)
    pairs, visible, filled, decided = [], [], [], []
    for task, found in zip(plan.tasks, weakest, strict=True):
        chosen = np.array([found[i] for i in index], np.int64)
        shown = task.masks.visible[chosen[:, 0]] & task.masks.visible[chosen[:, 1]]
        asker = plan.askers[task.fill, task.patch]
        answers = asker.ask(images, np.arange(len(index)), chosen[:, 0], chosen[:, 1])
        with torch.no_grad():
            mask = torch.from_numpy(shown)[:, None].to(images.device)
            values = given.fills[task.fill](images, mask)[:, : images.shape[1]]
        pairs.append(chosen)
        visible.append(shown)
        filled.append(_bytes(values))
        decided.append(answers.classes)
    names = given.data.classes
    return Examples(
        key=report.key,
        classes=tuple(map(str, (*names, *range(len(names), int(np.max(decided)) + 1)))),
        index=index.astype(np.int64),
        labels=given.data.labels[index].astype(np.int64),
        images=_bytes(images),
        pairs=np.stack(pairs),
        visible=np.stack(visible),
        filled=np.stack(filled),
        decided=np.stack(decided),
    )


def _bytes(images: torch.Tensor) -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = (255 * images).round().to(torch.uint8).cpu().numpy()
    return found
