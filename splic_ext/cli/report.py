"""The command ``splic-ext report``: it reads the command line, and leaves the work to others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splic_ext.cli.console import print_message
from splic_ext.cli.exits import exit_codes
from splic_ext.cli.options import FailuresOnly

if TYPE_CHECKING:  # brings torch
    from splic_ext.report import Unread

__all__ = ["report"]


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Folders and files of results: of reproduce, evaluate, certify, train, and the "
            "benchmarks.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The page to write.")
    ] = Path("report.html"),
    title: Annotated[
        str | None,
        typer.Option(help="Title of the page. Default: that of its only result, or a general one."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a page that exists.")
    ] = False,
    quiet: FailuresOnly = False,
) -> None:
    """Put all results on one page of HTML.

    It has tables with intervals and the paper's numbers, curves, pictures, the solver's speed, and
    how each was made. On top it compares in short, and says what the page does not show. The page
    needs no other file and no network.

    Of a folder every .json file is read, except in folders named work and parts. A file that is
    damaged, or holds no result, is named, and the others are shown. Exit code: 0, 1 if there was
    such a file or the page cannot be written, 2 for wrong usage, 130 after Ctrl-C.
    """
    with exit_codes(
        report, interrupted="no page was written", memory="use fewer results", quiet=quiet
    ):
        from splic_ext.report import NoResultError, write_report

        try:
            page = write_report(paths, out, overwrite=overwrite, title=title)
        except NoResultError as error:
            if not error.unread:
                raise
            _tell(error.unread)
            print_message("error: no page was written: none of the files can be used")
            raise typer.Exit(1) from None
    _tell(page.unread)
    if not quiet:
        count = len(page.entries)
        print_message(f"page: {out}, {count} {'result' if count == 1 else 'results'}")
    if page.unread:
        raise typer.Exit(1)


def _tell(files: Iterable[Unread]) -> None:
    """Name the files that could not be used."""
    for file in files:
        print_message(f"error: {file.path}: {file.reason}")
