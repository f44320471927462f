"""What certifications of data sets share: what they are given, checked, and their report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.certify.ablation_draws import as_encoding
from splic_ext.common.checks import check_integer
from splic_ext.data import Dataset, DatasetLike
from splic_ext.evaluation.inputs import one_line
from splic_ext.fills import Fill, as_fill
from splic_ext.runs.clock import Clock, Spent
from splic_ext.runs.fingerprints import (
    CERTIFY_CODE,
    code_fingerprint,
    fingerprint,
    fingerprint_module,
    fingerprint_own,
    fingerprint_source,
    fingerprint_weights,
    package_versions,
)
from splic_ext.runs.inputs import check_dataset, describe_dataset, resolve_device
from splic_ext.runs.records import DatasetInfo, NetworkInfo
from splic_ext.runs.store import Part, PartStore

__all__ = ["PART", "Request", "check_report", "finished_part", "named_encodings", "named_fills"]

#: Images of a part on disk: what a kill may cost.
PART = 10

Seconds = TypeVar("Seconds", bound=Spent)


@dataclass(frozen=True, eq=False)
class Request:
    """A network, images and fills. Network and fills are on the device, and must not change."""

    model: nn.Module
    data: Dataset
    fills: dict[str, Fill]
    batch_size: int
    device: torch.device
    command: str | None
    dataset_info: DatasetInfo
    model_info: NetworkInfo
    #: What determines every part: code, versions, kind of device.
    environment: dict[str, Any]
    model_sha256: str
    fill_sha256: dict[str, str]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        dataset: DatasetLike,
        fills: dict[str, Fill],
        *,
        batch_size: int,
        limit: int | None,
        device: str | torch.device | None,
        model_name: str | None,
        command: str | None,
    ) -> Request:
        """Check what a certification of a data set is given."""
        data = check_dataset(dataset, limit)
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"`model` must be a torch.nn.Module, got {type(model).__name__}; wrap it in one"
            )
        check_integer("batch_size", batch_size, 1)
        place = resolve_device(device, model)
        return cls(
            model=model.to(place),
            data=data,
            fills=fills,
            batch_size=batch_size,
            device=place,
            command=command,
            dataset_info=describe_dataset(data),
            model_info=NetworkInfo(model_name or type(model).__name__, fingerprint_weights(model)),
            environment={
                "code": code_fingerprint(CERTIFY_CODE),
                "device": place.type,
                "versions": package_versions(),
            },
            model_sha256=fingerprint_own(model),
            fill_sha256={
                name: fingerprint({"fill": fingerprint_module(f), "source": fingerprint_source(f)})
                for name, f in fills.items()
            },
        )

    def batch(self, start: int, count: int) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
        """Return some images on the device, and their labels."""
        part = slice(start, start + count)
        whole = Dataset(
            self.data.name, self.data.images[part], self.data.labels[part], self.data.classes
        )
        return torch.from_numpy(whole.to_float()).to(self.device), whole.labels

    def key(self, values: Mapping[str, Any]) -> str:
        """Return the hash of all that determines the records; `values` are the parameters."""
        return fingerprint(
            {
                "environment": self.environment,
                "dataset": self.dataset_info.sha256,
                "model": self.model_sha256,
                "fills": self.fill_sha256,
                "batch_size": self.batch_size,
                **values,
            }
        )


def named_fills(
    fills: Any, parameter: str = "fills", make: Callable[[Any], Fill] = as_fill
) -> dict[str, Fill]:
    """Return fills by name: a text names itself, others are named by their repr.

    Raises
    ------
    TypeError, ValueError
        Something else, none, or a name twice.

    Examples
    --------
    >>> list(named_fills(["gray", "splic:rank=12"]))
    ['gray', 'splic:rank=12']
    """
    given = fills if isinstance(fills, (Mapping, list, tuple)) else [fills]
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        pairs = [(f if isinstance(f, str) else one_line(make(f)), f) for f in given]
    found: dict[str, Fill] = {}
    for name, fill in pairs:
        if not isinstance(name, str) or not name or name in found:
            raise ValueError(
                f"`{parameter}` must have names that differ, got {name!r} twice or no name; give "
                "each a name of its own, in a dict"
            )
        found[name] = make(fill)
    if not found:
        raise ValueError(f"`{parameter}` must not be empty; use ['splic']")
    return found


def named_encodings(encodings: Any) -> dict[str, Fill]:
    """Return encodings by name, as :func:`named_fills` does.

    >>> list(named_encodings("splic"))
    ['splic']
    """
    return named_fills(encodings, "encodings", as_encoding)


def finished_part(
    store: PartStore,
    description: Mapping[str, Any],
    expected: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    clock: Clock,
    kind: type[Seconds],
    make: Callable[[], Mapping[str, npt.NDArray[Any]]],
) -> tuple[Mapping[str, npt.NDArray[Any]], Seconds, Seconds]:
    """Return the arrays of a part, made or found; the seconds it took, and those of this run."""
    part = store.get(description, expected)
    if part is not None:
        own: dict[str, Any] = {"rest": clock.rest}
        return part.arrays, kind(**own, **part.seconds), kind(**own)
    arrays = make()
    store.put(description, Part(arrays, clock.phases))
    seconds = kind.of(clock)
    return arrays, seconds, seconds


class Keyed(Protocol):
    """A report that knows what determines it."""

    @property
    def key(self) -> str:
        """The hash of it."""


Report = TypeVar("Report", bound=Keyed)


def check_report(
    path: Path,
    key: str,
    load: Callable[[Path], Report],
    differences: Callable[[Report], Mapping[str, tuple[Any, Any]]],
    *,
    overwrite: bool,
) -> None:
    """Raise if the report of another certification would be lost.

    `differences` returns what the report tells of: what -> (there, here).
    """
    folder = path.parent
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`output` must be a folder, got the file '{folder}'; name another")
    if overwrite or not path.exists():
        return
    fix = "name another `output`, or give `overwrite=True` to replace it: finished parts are kept"
    try:
        report = load(path)
    except (OSError, ValueError) as error:
        reason = str(error.__cause__ or error).partition(";")[0]
        raise ValueError(f"'{path}' is no report that can be read: {reason}; {fix}") from error
    if report.key != key:
        found = [
            f"other {what}" for what, (there, here) in differences(report).items() if there != here
        ]
        told = ", ".join(found) or "other `batch_size`, or something else that it does not tell"
        raise ValueError(f"'{path}' is the report of another certification: {told}; {fix}")
