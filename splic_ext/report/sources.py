"""Files of results: found below folders, told apart, read."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from splic_ext.certify import CertificateReport, Examples, PixelEvaluation
from splic_ext.certify.examples import EXAMPLES
from splic_ext.errors import MissingExtraError
from splic_ext.evaluation import EvaluationReport
from splic_ext.experiments import ExperimentResult
from splic_ext.report.benchmarks import BenchmarkRun, TuningRun
from splic_ext.runs.plain import not_too_deep
from splic_ext.training.records import TrainingRecord

__all__ = [
    "Collection",
    "NoResultError",
    "PatchResult",
    "Source",
    "Unread",
    "collect",
    "leave_out",
]

Content = TypeVar("Content", covariant=True)

#: Folders of finished parts and networks, which hold no results of their own.
WORK = ("work", "parts")
#: So many paths and files are named in a message.
FEW = 3
#: Most characters of a reason, and digits of an integer: a seed has 20.
REASON, DIGITS = 400, 20


@dataclass(frozen=True)
class PatchResult:
    """Certificates against patches, and the pictures in the file beside them, if it is there."""

    report: CertificateReport
    examples: Examples | None = None

    @classmethod
    def from_json(cls, text: str) -> PatchResult:
        """Return the report that a text in JSON holds, without pictures."""
        return cls(CertificateReport.from_json(text))


#: What a file holds -> the keys that tell, those within "seconds" too, and how it is read.
KINDS: Mapping[str, tuple[frozenset[str], Callable[[str], Any]]] = {
    "results": (frozenset({"name", "title", "rows", "provenance"}), ExperimentResult.from_json),
    "pixels": (frozenset({"key", "names", "reports"}), PixelEvaluation.from_json),
    "patches": (frozenset({"key", "records", "seconds.fill"}), PatchResult.from_json),
    "evaluations": (frozenset({"key", "records"}), EvaluationReport.from_json),
    "benchmarks": (frozenset({"commit", "machine", "results"}), BenchmarkRun.from_json),
    "searches": (frozenset({"chosen", "round_1", "round_2"}), TuningRun.from_json),
    "trainings": (frozenset({"key", "options", "history", "model"}), TrainingRecord.from_json),
}


@dataclass(frozen=True)
class Source(Generic[Content]):
    """A file, and what it holds.

    Attributes
    ----------
    path : str
        As it was given, or below the folder that was.
    content : object
    """

    path: str
    content: Content


@dataclass(frozen=True)
class Unread:
    """A file that could not be used, and why."""

    path: str
    reason: str


class NoResultError(ValueError):
    """There is no result to show, or none that can be used.

    Parameters
    ----------
    paths : sequence of str
        Where it was looked for.
    unread : sequence of Unread
        The files that are there and cannot be used.

    Attributes
    ----------
    paths : tuple of str
    unread : tuple of Unread
    """

    def __init__(self, paths: Sequence[str], unread: Sequence[Unread]) -> None:
        self.paths, self.unread = tuple(paths), tuple(unread)
        named = [f"'{path}'" for path in self.paths]
        reasons = [f"'{file.path}': {file.reason}" for file in self.unread]
        super().__init__(
            f"`paths` must hold a result at least, got {_first(named, ', ') or 'no path'}; make "
            "one with `splic-ext evaluate` or `splic-ext reproduce`"
            + (f"; {_first(reasons, '; ')}" if reasons else "")
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.paths, self.unread)


def _first(texts: Sequence[str], between: str) -> str:
    """Join the first few of them, and say how many more there are."""
    more = len(texts) - FEW
    return between.join([*texts[:FEW], *([f"and {more} more"] if more > 0 else [])])


@dataclass(frozen=True)
class Collection:
    """All that was found.

    Attributes
    ----------
    results, patches, pixels, evaluations, benchmarks, searches, trainings : tuple of Source
    unread : tuple of Unread
    paths : tuple of str
        Where it was looked for.
    """

    results: tuple[Source[ExperimentResult], ...] = ()
    patches: tuple[Source[PatchResult], ...] = ()
    pixels: tuple[Source[PixelEvaluation], ...] = ()
    evaluations: tuple[Source[EvaluationReport], ...] = ()
    benchmarks: tuple[Source[BenchmarkRun], ...] = ()
    searches: tuple[Source[TuningRun], ...] = ()
    trainings: tuple[Source[TrainingRecord], ...] = ()
    unread: tuple[Unread, ...] = ()
    paths: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many files were read."""
        return sum(len(getattr(self, kind)) for kind in KINDS)


def collect(paths: Iterable[str | os.PathLike[str]]) -> Collection:
    """Read all files of results among and below the paths, in the order of their names.

    Below a folder these are the files ``*.json``, and ``examples.npz`` beside certificates; hidden
    ones, JSON schemas, those that describe an array beside them, and folders ``work`` and
    ``parts``, where finished parts are, are passed over. A file that is reached twice counts once.

    Parameters
    ----------
    paths : iterable of path
        Files and folders.

    Returns
    -------
    Collection
        With the files that cannot be read, are damaged or no results, and the reasons.

    Raises
    ------
    FileNotFoundError
        One of the paths does not exist.
    TypeError
        A single path in place of several.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "mine.json").write_text("[1, 2]")
    ...     found = collect([folder])
    >>> len(found), found.unread[0].reason
    (0, 'it holds no result of splic_ext')
    """
    if isinstance(paths, (str, os.PathLike)):
        raise TypeError(f"`paths` must be a list, got {str(paths)!r}; put a single one into it")
    found: dict[str, list[Source[Any]]] = {kind: [] for kind in KINDS}
    unread: list[Unread] = []
    seen: set[Path] = set()
    places = tuple(map(Path, paths))
    for given in places:
        if not given.exists():
            raise FileNotFoundError(f"the path '{given}' does not exist; check `paths`")
        for path in _files(given):
            place = path.resolve()
            if place in seen:
                continue
            seen.add(place)
            with leave_out(path.as_posix(), unread):
                kind, content = _read(path, named=path == given)
                if kind == "patches":
                    content = _with_examples(content, path.with_name(EXAMPLES), unread)
                if kind is not None:
                    found[kind].append(Source(path.as_posix(), content))
    return Collection(
        **{kind: tuple(some) for kind, some in found.items()},
        unread=tuple(unread),
        paths=tuple(path.as_posix() for path in places),
    )


@contextmanager
def leave_out(path: str, unread: list[Unread]) -> Iterator[None]:
    """Add a file to those that could not be used, where what is done with it fails.

    A damaged file holds anything, so errors of any type count, and warnings of numbers that
    overflow. A missing package and too little memory are no fault of the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=RuntimeWarning)
            yield
    except (MissingExtraError, MemoryError):
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, json.JSONDecodeError) or not isinstance(error, (OSError, ValueError)):
            reason = f"it is damaged: {reason}"
        reason = " ".join(reason.split())
        unread.append(Unread(path, reason if len(reason) <= REASON else f"{reason[:REASON]}..."))


def _files(given: Path) -> Iterator[Path]:
    if not given.is_dir():
        yield given
        return
    for folder, folders, names in os.walk(given):
        folders[:] = sorted(n for n in folders if n not in WORK and not n.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            # What stands beside an array describes it: the cached copies of a training.
            described = path.with_suffix(".npy").name in names
            if path.suffix == ".json" and not name.startswith(".") and not described:
                yield path


def _read(path: Path, *, named: bool) -> tuple[str | None, Any]:
    """Return what a file holds, and the kind of it; None for what is passed over."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None
    try:
        with not_too_deep("a file of results"):
            values = json.loads(
                text, parse_constant=_finite, parse_float=_finite, parse_int=_integer
            )
    except json.JSONDecodeError as error:
        raise ValueError(f"it is damaged, or no JSON: {error}") from None
    keys = set(values) if isinstance(values, dict) else set()
    if keys and isinstance(values.get("seconds"), dict):
        keys |= {f"seconds.{name}" for name in values["seconds"]}
    for kind, (needed, read) in KINDS.items():
        if needed <= keys:
            return kind, read(text)
    if "$schema" in keys and not named:
        return None, None
    raise ValueError("it holds no result of splic_ext")


def _with_examples(result: PatchResult, path: Path, unread: list[Unread]) -> PatchResult:
    """Return certificates with the pictures in a file; a damaged one is named, and they are not."""
    if path.exists():
        with leave_out(path.as_posix(), unread):
            examples = Examples.load(path)
            if not examples.fits(result.report):
                raise ValueError("its pictures are not of the report beside it; certify again")
            return replace(result, examples=examples)
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it is damaged: it holds the number {text[:DIGITS]}")
    return value


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"it is damaged: it holds an integer of {len(text)} digits")
    return int(text)
