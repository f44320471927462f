"""Which files to complete, under which index, and where each result goes."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from splic_ext.common.atomic import remove_stale
from splic_ext.files.arrays import ARRAY_SUFFIXES
from splic_ext.files.images import IMAGE_SUFFIXES, is_other_image

__all__ = ["Job", "Plan", "PlanError", "is_supported", "left_out", "plan_jobs"]


class PlanError(ValueError):
    """Inputs and output that do not go together; found before anything runs."""


@dataclass(frozen=True)
class Job:
    """One file to complete.

    Attributes
    ----------
    index : int
        Number of the file in the sorted list of all inputs; its mask index.
    source, target : Path
        The file, and where its result goes.
    """

    index: int
    source: Path
    target: Path


class Plan(list[Job]):
    """The jobs in the order of their indices; `folders` are those of all outputs."""

    def __init__(self, jobs: Iterable[Job], folders: Iterable[Path]) -> None:
        super().__init__(jobs)
        self.folders = frozenset(folders)

    def clean(self) -> None:
        """Remove what killed runs have left in the folders."""
        for folder in self.folders:
            remove_stale(folder)


def is_supported(path: Path) -> bool:
    """Tell from its suffix whether a file is an image or an array."""
    return path.suffix.lower() in (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES)


def plan_jobs(
    inputs: Sequence[str],
    out: Path,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> Plan:
    """List the files to complete, sorted by their path below the output folder.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders (searched recursively; hidden files, and `out` if it lies inside, are left
        out) and glob patterns of files. What exists under its literal name is no pattern.
    out : Path
        Output folder. A file keeps its name there, a folder its inner paths. For a single input
        file also an output file of the same format.
    overwrite : bool, default False
        Whether outputs may exist, or be their own inputs.
    skip_existing : bool, default False
        Leave out files whose output exists; the indices of the others stay the same.

    Returns
    -------
    Plan
        A list of jobs.

    Raises
    ------
    PlanError
        No input, two inputs with one output, or an output that exists.
    """
    if overwrite and skip_existing:
        raise PlanError("`overwrite` and `skip_existing` contradict each other; give one of them")
    found = [pair for text in inputs for pair in _expand(text, out)]
    if len(inputs) == 1 and len(found) == 1 and _is_output_file(out, Path(inputs[0])):
        jobs = [Job(0, found[0][0], out)]
    else:
        if out.exists() and not out.is_dir():
            raise PlanError(f"the output {str(out)!r} is a file, expected a folder; name another")
        if is_supported(out) and not out.exists():
            raise PlanError(
                f"the output {str(out)!r} is named like a file, expected a folder; a file is only "
                "possible for a single input file of the same format"
            )
        jobs = _number(found, out)
    _check_chains(jobs)
    folders = {job.target.parent for job in jobs}
    existing = {job.index for job in jobs if os.path.lexists(job.target)}
    if skip_existing:
        return Plan((job for job in jobs if job.index not in existing), folders)
    if existing and not overwrite:
        first = next(job for job in jobs if job.index in existing)
        more = f" and {len(existing) - 1} more outputs exist" if len(existing) > 1 else " exists"
        raise PlanError(
            f"'{first.target}'{more}; give `overwrite=True` to replace what is there, "
            "`skip_existing=True` to complete only the others, or another output folder"
        )
    return Plan(jobs, folders)


def _expand(text: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the files of one input, each with its path below the output folder."""
    path = Path(text)
    if path.is_dir():
        yield from _walk(path, out)
    elif path.is_file():
        yield path, Path(path.name)
    elif path.exists():
        raise PlanError(f"the input {text!r} is neither a file nor a folder")
    elif glob.has_magic(text):
        matches = [Path(match) for match in glob.glob(text, recursive=True)]  # noqa: PTH207
        files = [match for match in matches if is_supported(match) and _is_file_or_broken(match)]
        if not files:
            raise PlanError(f"no image or array file matches the pattern {text!r}")
        yield from ((match, Path(match.name)) for match in files)
    else:
        raise PlanError(f"the input {text!r} does not exist; check its path")


def left_out(inputs: Sequence[str]) -> list[tuple[Path, str]]:
    """Return what is not completed below the input folders, and why.

    Links to folders are not followed, and image files of other formats are not read.
    """
    found = []
    for text in filter(os.path.isdir, inputs):
        others = []
        for where, folders, names in os.walk(text):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            links = [Path(where, name) for name in folders if Path(where, name).is_symlink()]
            found += [(link, "a linked folder is left out; name it as an input") for link in links]
            others += [path for name in names if is_other_image(path := Path(where, name))]
        if others:
            kinds = " ".join(sorted({path.suffix.lower() for path in others}))
            reason = f"images of other formats are left out, {len(others)} of {kinds}: convert them"
            found.append((Path(text), reason))
    return found


def _is_file_or_broken(path: Path) -> bool:
    """Tell whether this is a file, or a link to nothing, which then fails as a file of its own."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _walk(folder: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    def refuse(error: OSError) -> None:
        raise PlanError(f"the folder {error.filename!r} cannot be read: {error.strerror}")

    inside = out.resolve() if out.resolve() != folder.resolve() else None
    empty = True
    for where, folders, names in os.walk(folder, onerror=refuse):
        here = Path(where)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() != inside
        ]
        for name in names:
            path = here / name
            if not name.startswith(".") and is_supported(path) and _is_file_or_broken(path):
                empty = False
                yield path, path.relative_to(folder)
    if empty:
        suffixes = " ".join((*IMAGE_SUFFIXES, *ARRAY_SUFFIXES))
        raise PlanError(f"the folder '{folder}' holds no file of {suffixes}")


def _is_output_file(out: Path, source: Path) -> bool:
    """Tell whether `out` is meant as the output file of the single input `source`."""
    if out.is_dir() or not is_supported(out) or not source.is_file():
        return False
    formats = [IMAGE_SUFFIXES.get(path.suffix.lower(), path.suffix) for path in (source, out)]
    if formats[0] != formats[1]:
        raise PlanError(
            f"the output '{out}' is of another format than the input '{source}'; the format is "
            f"kept, so give it the suffix {source.suffix!r} or name a folder"
        )
    return True


def _number(found: list[tuple[Path, Path]], out: Path) -> list[Job]:
    by_output: dict[Path, Path] = {}
    for source, relative in found:
        other = by_output.setdefault(relative, source)
        if other is not source and other.resolve() != source.resolve():
            raise PlanError(
                f"'{other}' and '{source}' would both be written to '{out / relative}'; run them "
                "with two output folders, or give a folder that holds both"
            )
    ordered = sorted(by_output.items(), key=lambda item: item[0].parts)
    return [Job(i, source, out / relative) for i, (relative, source) in enumerate(ordered)]


def _check_chains(jobs: list[Job]) -> None:
    """Refuse an output that is the input of another file, which would be lost or read anew."""

    @cache
    def resolved(folder: Path) -> Path:
        return folder.resolve()

    def place(path: Path) -> Path:
        return resolved(path.parent) / path.name

    sources: dict[Path, Job] = {}
    for job in jobs:
        sources[place(job.source)] = job
        if job.source.is_symlink():
            sources[job.source.resolve()] = job
    for job in jobs:
        victim = sources.get(place(job.target))  # a link there would be replaced, not followed
        if victim is not None and victim is not job:
            raise PlanError(
                f"the result of '{job.source}' would replace the input '{victim.source}'; "
                "name another output folder"
            )
