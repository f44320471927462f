"""How a data set is converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from splic_ext.backends import get_backend
from splic_ext.common.checks import check_bool, check_integer
from splic_ext.files.settings import JobSettings
from splic_ext.options import SolverOptions

__all__ = ["ENCODINGS", "Settings", "instruction_set"]

#: How image files are written.
ENCODINGS = ("keep", "png")


@dataclass(frozen=True)
class Settings:
    """What decides the bits of a conversion, beside the source, and how it runs.

    `identity` has the former. `defense` is a text, or None for the solver with `options`. `threads`
    are those of one worker.
    """

    options: SolverOptions
    seed: int = 0
    defense: str | None = None
    backend: str = "auto"
    encode: str = "keep"
    quality: int = 95
    max_pixels: int = 64_000_000
    max_bytes: int = 2**31
    threads: int = 1
    strict: bool = False
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        check_bool("strict", self.strict)
        check_bool("skip_unreadable", self.skip_unreadable)
        check_integer("seed", self.seed, 0, 2**64 - 1)
        if self.encode not in ENCODINGS:
            raise ValueError(
                f"`encode` must be one of {', '.join(ENCODINGS)}, got {self.encode!r}; choose one"
            )
        _ = self.job

    @property
    def job(self) -> JobSettings:
        """How the solver is called."""
        return JobSettings(
            options=self.options,
            seed=self.seed,
            backend=self.backend,
            threads=self.threads,
            jobs=1,
            quality=self.quality,
            max_pixels=self.max_pixels,
            max_bytes=self.max_bytes,
        )

    def identity(self) -> dict[str, Any]:
        """Return what decides the bits, as plain values."""
        values = asdict(self)
        for name in ("threads", "strict", "skip_unreadable", "options"):
            values.pop(name)
        values["options"] = None if self.defense is not None else self.options.to_dict()
        values["backend"] = get_backend(self.backend, "cpu").name
        values["instruction_set"] = instruction_set(self.backend)
        return values

    def to_dict(self) -> dict[str, Any]:
        """Return all as plain values."""
        return {**asdict(self), "options": self.options.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Return the settings of plain values."""
        made = dict(values)
        made["options"] = SolverOptions(**values["options"])
        return cls(**made)


def instruction_set(backend: str) -> str:
    """Return the instruction set that a back end computes with here, which decides its bits.

    >>> instruction_set("numpy")
    ''
    """
    details = get_backend(backend, "cpu").info().details
    return str(details.get("simd", ""))
