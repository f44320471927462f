"""Command-line flags for the solver's options, made from :class:`SolverOptions` itself."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from rich.markup import escape

from splic_ext.cli.groups import flag_group
from splic_ext.options import PRESETS, SolverOptions

__all__ = ["option_help", "resolve_options", "solver_flags"]

PANEL = "Solver options (default: those of the preset)"


def solver_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `overrides` of a command by one flag for each solver option.

    The command receives in `overrides` a dict of the options whose flag was given.
    """
    return flag_group(
        command,
        "overrides",
        [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
            for name, annotation in _annotations().items()
        ],
    )


def _annotations() -> dict[str, Any]:
    """Return the annotation of the flag of each option."""
    hints = get_type_hints(SolverOptions)
    help_texts = option_help()
    annotations = {}
    for field in fields(SolverOptions):
        name, hint = field.name, hints[field.name]
        dashed = name.replace("_", "-")
        names = [f"--{dashed}/--no-{dashed}"] if hint is bool else [f"--{dashed}"]
        metavar, parser = None, None
        if get_origin(hint) is Literal:
            metavar, hint = "|".join(get_args(hint)), str
        elif hint not in (bool, int, float):
            hint, *more = (arm for arm in get_args(hint) if arm is not type(None))
            if more:  # a whole number, or a share
                metavar, parser, hint = "NUMBER", _number, float
        values = {preset: str(getattr(options, name)) for preset, options in PRESETS.items()}
        shown = ", ".join(f"{preset}: {value}" for preset, value in values.items())
        if len(set(values.values())) == 1:
            shown = f"default: {values.popitem()[1]}"
        annotations[name] = Annotated[
            hint | None,
            typer.Option(
                *names,
                metavar=metavar,
                parser=parser,
                show_default=False,
                rich_help_panel=PANEL,
                help=escape(f"{help_texts.get(name, '')} [{shown}]".strip()),
            ),
        ]
    return annotations


def _number(text: str) -> int | float:
    """Return what a flag that takes an integer or a float was given."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number, such as 6 or 0.25") from None


def option_help() -> dict[str, str]:
    """Return one plain paragraph on each option, from the docstring of `SolverOptions`."""
    lines = inspect.getdoc(SolverOptions) or ""
    section = re.search(r"^Parameters\n-+\n(.*?)\n\n", lines, flags=re.DOTALL | re.MULTILINE)
    texts: dict[str, list[str]] = {}
    for line in section[1].splitlines() if section else []:
        if heading := re.match(r"(\w+) : ", line):
            texts[heading[1]] = []
        elif texts:
            texts[next(reversed(texts))].append(line.strip())
    return {name: _plain_text(" ".join(text)) for name, text in texts.items()}


def _plain_text(text: str) -> str:
    r"""Strip the markup of a docstring: ``code``, :math:`\epsilon`, [1]_."""
    text = re.sub(r":\w+:`([^`]*)`", r"\1", text).replace("``", "").replace("[1]_", "the paper")
    return re.sub(r"\\(\w+)", r"\1", text.replace(r"\|", "||").replace(r"\le ", "<= "))


def resolve_options(
    preset: str | None, file: Path | None, overrides: dict[str, Any]
) -> SolverOptions:
    """Return the options of a preset, by default "recommended", or of a file, with some changed.

    Raises a ValueError or TypeError on a preset and a file, an unreadable file, or a value out of
    its range.
    """
    if file is None:
        base = SolverOptions.preset("recommended" if preset is None else preset)
    elif preset is not None:
        raise ValueError("--preset and --options contradict each other; give one of them")
    else:
        try:
            base = SolverOptions.from_json(file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"'{file}' must hold a JSON object, but is no JSON: {error}") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"the options file '{file}': {error}") from None
        except OSError as error:
            raise ValueError(f"'{file}' cannot be read: {error.strerror}") from None
    return base.replace(**overrides)
