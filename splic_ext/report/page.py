"""One page of all results, which needs no other file and no network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import PurePosixPath
from typing import Any

from splic_ext import __version__
from splic_ext.experiments import EXPERIMENTS
from splic_ext.experiments.results.keys import ADAPTIVE
from splic_ext.report.benchmarks import benchmark_entry, search_entry
from splic_ext.report.certificates import patches_entry, pixels_entry, proved
from splic_ext.report.entries import address, evaluation_entry, result_entry
from splic_ext.report.sources import Collection, NoResultError, Unread, collect, leave_out
from splic_ext.report.summary import Summary, parts_of, summarize
from splic_ext.report.trainings import training_entry
from splic_ext.report.views import Entry, one_line
from splic_ext.report.writing import check_target, page_file, render

__all__ = ["Page", "make_page", "write_report"]

#: Titles of a page: of experiments or of all, and of one kind alone, by its heading.
TITLE = "SPLIC: results"
TITLES = {
    "Certified against patches": "SPLIC: certificates against patches",
    "Certified against changed pixels": "SPLIC: certificates against changed pixels",
    "Evaluations": "SPLIC: evaluations",
    "Speed": "SPLIC: speed of the solver",
    "Networks": "SPLIC: trained networks",
}
#: What is no experiment of the paper, nor made by the same command.
OTHERS = {ADAPTIVE: "Adaptive attacks on a defence: splic-ext attack"}
#: Part of the collection -> heading of its entries, and what makes one.
GROUPS: dict[str, tuple[str, Callable[[str, Any], Entry]]] = {
    "results": ("Experiments", result_entry),
    "patches": ("Certified against patches", patches_entry),
    "pixels": ("Certified against changed pixels", pixels_entry),
    "evaluations": ("Evaluations", evaluation_entry),
    "benchmarks": ("Speed", benchmark_entry),
    "searches": ("Presets", search_entry),
    "trainings": ("Networks", training_entry),
}
#: Part of the collection -> when a file of it was made.
DATES: dict[str, Callable[[Any], str]] = {
    "results": attrgetter("provenance.date"),
    "patches": lambda result: str(result.report.records[-1].provenance.date),
    "pixels": lambda found: str(found.reports[-1].provenance.date),
    "evaluations": lambda report: str(report.records[-1].provenance.date),
    "benchmarks": attrgetter("date"),
    "searches": attrgetter("date"),
    "trainings": attrgetter("provenance.date"),
}


@dataclass(frozen=True)
class Group:
    """Entries under one heading."""

    title: str
    entries: tuple[Entry, ...]

    @property
    def key(self) -> str:
        """Its address within the page."""
        return address("group", self.title)


@dataclass(frozen=True)
class Page:
    """What is on the page.

    Attributes
    ----------
    title : str
    groups : tuple of Group
    summary : Summary
    missing : tuple of (str, str)
        Names and titles of the experiments that have no result, where another has one.
    unread : tuple of Unread
    dates : tuple of str
        The first and the last date of a result.
    version : str
        Of this package.
    """

    title: str
    groups: tuple[Group, ...]
    summary: Summary
    missing: tuple[tuple[str, str], ...]
    unread: tuple[Unread, ...]
    dates: tuple[str, ...]
    version: str = __version__

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All of them."""
        return tuple(entry for group in self.groups for entry in group.entries)

    def to_html(self) -> str:
        """Return the page.

        Raises
        ------
        MissingExtraError
            Jinja is not installed.
        """
        return render("page.html", self)


def make_page(found: Collection, *, title: str | None = None) -> Page:
    """Return the page of what was found.

    Parameters
    ----------
    found : Collection
    title : str, optional
        Of the page. Default: that of its only entry, or of its only kind of entries.

    Returns
    -------
    Page
        A file that turns out to be damaged only now is among its `unread`.

    Raises
    ------
    MissingExtraError
        Matplotlib is not installed, and there are curves.
    """
    order = {name: i for i, name in enumerate(EXPERIMENTS)}
    results = sorted(found.results, key=lambda source: order.get(source.content.name, len(order)))
    found = replace(found, results=tuple(results))
    unread = list(found.unread)
    groups, names, dates = [], list[str](), set[str]()
    for kind, (heading, make) in GROUPS.items():
        entries = []
        for source in getattr(found, kind):
            made: list[Entry] = []
            with leave_out(source.path, unread):
                entry = make(source.path, source.content)
                day = DATES[kind](source.content)[:10]
                # Here, since the summary of all does not know whose fault it is.
                alone = Collection(**{kind: (source,)})
                key = {source.path: (entry.title, entry.key)}
                summarize(parts_of(alone, key), proved(alone, key), missing=0, unread=0, smoke=0)
                made.append(entry)
            if not made:
                continue
            dates.add(day)
            taken = sum(name == entry.key for name in names)
            names.append(entry.key)
            entries.append(replace(entry, key=f"{entry.key}-{taken}") if taken else entry)
        if entries:
            groups.append(Group(heading, _titled(entries)))
    all_entries = [entry for group in groups for entry in group.entries]
    done = {source.content.name for source in found.results}
    known = {name: experiment.title for name, experiment in EXPERIMENTS.items()} | OTHERS
    # Who shows an evaluation alone has not set out to run the experiments.
    wanted = known.items() if done & EXPERIMENTS.keys() else ()
    missing = tuple((name, text) for name, text in wanted if name not in done)
    keys = {entry.path: (entry.title, entry.key) for entry in all_entries}
    summary = summarize(
        parts_of(found, keys),
        proved(found, keys),
        missing=len(missing),
        unread=len(unread),
        smoke=sum(bool(entry.warning) for entry in all_entries),
    )
    days = sorted(dates)
    limits = tuple(dict.fromkeys((*days[:1], *days[-1:])))
    if title is None:
        title = TITLES.get(groups[0].title, TITLE) if len(groups) == 1 else TITLE
        title = all_entries[0].title if len(all_entries) == 1 else title
    return Page(one_line(title), tuple(groups), summary, missing, tuple(unread), limits)


def write_report(
    paths: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str] = "report.html",
    *,
    overwrite: bool = False,
    title: str | None = None,
) -> Page:
    """Put all results among and below the paths on one page of HTML.

    These are results of experiments and of the adaptive protocol, reports of evaluations,
    certificates against patches and changed pixels, records of trainings, results of the
    benchmarks, and the search for the preset "recommended"; see :func:`splic_ext.report.collect`.
    The same files give the same page, byte for byte.

    Parameters
    ----------
    paths : iterable of path
        Files and folders.
    output : path, default "report.html"
        The page; it appears at once, when it is finished.
    overwrite : bool, default False
        Whether a file may be there already.
    title : str, optional
        Of the page. Default: that of its only entry, or of its only kind of entries.

    Returns
    -------
    Page
        What is on it, and in `unread` which files could not be used, and why.

    Raises
    ------
    FileExistsError
        `output` exists.
    FileNotFoundError
        One of the paths does not exist.
    MissingExtraError
        Jinja or Matplotlib is not installed.
    OSError
        `output` cannot be written.
    NoResultError
        There is no result, or none that can be used.
    ValueError
        `output` is a folder.

    Examples
    --------
    >>> from splic_ext.data import load_dataset
    >>> from splic_ext.evaluation import evaluate
    >>> from splic_ext.models import build_model
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     network, digits = build_model("digits_cnn").eval(), load_dataset("digits", limit=5)
    ...     _ = evaluate(network, digits, defenses=["usvt"], output=folder)
    ...     page = write_report([folder], Path(folder, "report.html"))
    >>> [entry.title for entry in page.entries]
    ['Evaluation of DigitsCNN on digits, gray box']
    """
    target = check_target(output)
    found = collect(paths)
    if not found:
        raise NoResultError(found.paths, found.unread)
    with page_file(target, overwrite=overwrite) as save:
        page = make_page(found, title=title)
        if not page.entries:
            raise NoResultError(found.paths, page.unread)
        save(page.to_html())
    return page


def _titled(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Give entries of equal titles their data sets as well, then what differs of their paths."""
    found = list(entries)
    for group in _alike(found):
        for i in group:
            if found[i].data:
                found[i] = replace(found[i], title=f"{found[i].title} ({found[i].data})")
    for group in _alike(found):
        paths = [PurePosixPath(found[i].path) for i in group]
        shared = set(paths[0].parents).intersection(*(path.parents for path in paths))
        same = max((len(folder.parts) for folder in shared), default=0)
        for i, path in zip(group, paths, strict=True):
            rest = PurePosixPath(*path.parts[same:])
            found[i] = replace(found[i], title=f"{found[i].title}, {rest}")
    return tuple(found)


def _alike(entries: Sequence[Entry]) -> list[list[int]]:
    """Return the places of the entries of each title that is there more than once."""
    places: dict[str, list[int]] = {}
    for i, entry in enumerate(entries):
        places.setdefault(entry.title, []).append(i)
    return [group for group in places.values() if len(group) > 1]
