"""Results of the benchmarks: the solver's speed beside that of its peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from splic_ext.runs.plain import decode, not_too_deep, read_versioned

__all__ = ["METHODS", "Benchmark", "BenchmarkMachine", "BenchmarkRun"]

#: Of the JSON form.
SCHEMA_VERSION = 1
#: Back ends and their peers, and how a table names them.
METHODS = {
    "cpu": "SPLIC, cpu",
    "cuda": "SPLIC, cuda",
    "torch.linalg.eigh": "torch eigh",
    "torch.linalg.svd": "torch SVD",
    "numpy.linalg.svd": "NumPy SVD",
    "numpy": "SPLIC, numpy (float64)",
}


@dataclass(frozen=True)
class BenchmarkMachine:
    """What the benchmarks ran on: processor, instruction set and versions."""

    cpu: str
    cores: int
    system: str
    simd: str | None
    splic_ext: str
    numpy: str
    torch: str | None
    python: str


@dataclass(frozen=True)
class Benchmark:
    """One of them.

    Attributes
    ----------
    group, name : str
        What is compared, and the test.
    method : str
        Back end or peer.
    data : str
        The images.
    params : dict
        "size", "channels", "mode", "threads"; some have "enlarged" or "batch".
    rounds : int
        Repeated calls.
    median_s, iqr_s : float
        Time of a call in seconds, and its spread.
    images, matrix_iterations : int
        Work of a call.
    images_per_second, us_per_matrix_iteration : float
    extra : dict
        Errors, ratios, latency, memory.
    """

    group: str
    name: str
    method: str
    data: str
    params: dict[str, Any]
    rounds: int
    median_s: float
    iqr_s: float
    images: int
    matrix_iterations: int
    images_per_second: float
    us_per_matrix_iteration: float
    extra: dict[str, float]

    def __post_init__(self) -> None:
        for key in ("size", "channels", "threads"):
            if type(self.params.get(key)) is not int:
                raise ValueError(
                    f"`params` of a benchmark must have the integer {key!r}, got "
                    f"{self.params.get(key)!r}; take a file as it was written"
                )

    @property
    def test(self) -> str:
        """The test without its parameters."""
        return self.name.partition("[")[0]

    @property
    def images_kind(self) -> str:
        """Kind of images: size and channels."""
        params = self.params
        kind = "gray" if params["channels"] == 1 else f"RGB, {params.get('mode')}"
        enlarged = ", enlarged" if params.get("enlarged") else ""
        return f"{params['size']} x {params['size']}, {kind}{enlarged}"


@dataclass(frozen=True)
class BenchmarkRun:
    """What ``benchmarks/condense.py`` keeps of a run of the benchmarks.

    Attributes
    ----------
    date : str
        In UTC.
    commit : str or None
    command : str
    quick : bool
        A smoke test, whose numbers mean nothing.
    machine : BenchmarkMachine
    results : tuple of Benchmark
    """

    date: str
    commit: str | None
    command: str
    quick: bool
    machine: BenchmarkMachine
    results: tuple[Benchmark, ...]

    @classmethod
    def from_json(cls, text: str) -> BenchmarkRun:
        """Return the run that a text in JSON holds.

        Parameters
        ----------
        text : str

        Raises
        ------
        ValueError
            No JSON, another version of the schema, or not as it was written.
        """
        what = "a result of the benchmarks"
        with not_too_deep(what):
            return decode(cls, read_versioned(text, SCHEMA_VERSION, what), "benchmarks")

    def select(self, test: str, **params: Any) -> Sequence[Benchmark]:
        """Return those of a test, with these parameters."""
        return [
            result
            for result in self.results
            if result.test == test
            and all(result.params.get(key) == value for key, value in params.items())
        ]
