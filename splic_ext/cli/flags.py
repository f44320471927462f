"""Messages of the library, which name parameters, in the words of the command line."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args

from typer.models import ArgumentInfo, OptionInfo

from splic_ext.options import SolverOptions

__all__ = ["RENAMED", "with_flags", "with_hint"]

#: Parameters of the library that a command calls by another name.
RENAMED = {
    "attacks": "attack",
    "defenses": "defense",
    "encodings": "encoding",
    "fills": "fill",
    "num_classes": "classes",
    "output": "out",
    "sections": "section",
    "surrogates": "surrogate",
}
#: Parameters that not every command has, and how to give them in Python.
ELSEWHERE = {
    "download": "`splic_ext.data.load_dataset(..., download=True)`",
    "max_bytes": "`splic_ext.data.load_dataset(..., max_bytes=...)`",
    "name_or_path": "the data set",
    "subjects": "the data sets (--cifar10, --svhn, --digits, --shapes)",
}
#: Names that stay as they are: those of a SPEC or a file of options may be meant as well.
AMBIGUOUS = {"learning_rate", "seed", *(field.name for field in fields(SolverOptions))}


def with_flags(message: str, command: Callable[..., Any] | None) -> str:
    """Name the flags of a command where a message of the library names parameters, in backticks."""
    flags = {} if command is None else _flags(command)

    def flag(found: re.Match[str]) -> str:
        name, value = found[1], found[2]
        if name in AMBIGUOUS or RENAMED.get(name, name) not in flags:
            return ELSEWHERE.get(name, found[0]) if flags else found[0]
        known = flags[RENAMED.get(name, name)]
        return known if value in (None, "", "True") else f"{known} {value}"

    return re.sub(r"`(\w+)(?:=(-?\w*))?`", flag, message)


def with_hint(message: str) -> str:
    """Add the known name that is nearest to an unknown one, or how to write a radius.

    >>> with_hint("`x` must be one of fgsm, pgd, got 'pdg'; choose one")
    "`x` must be one of fgsm, pgd, got 'pdg'; choose one; did you mean 'pgd'?"
    """
    radius = re.search(r"`(?:epsilon|step_size)` must be .*\[0, 1\], got (\d+)(?:\.0)?;", message)
    if radius and 1 < int(radius[1]) <= 255:
        return f"{message}; {radius[1]} of 255 levels are {radius[1]}/255"
    choice = re.search(r"must be (?:one of |among )?([^;`]+), got '([\w.-]+)'", message)
    unknown = re.search(r"`(\w+)` .*; known are (.+)$", message)
    if choice:
        names, given = choice[1], choice[2]
    elif unknown:
        names, given = unknown[2], unknown[1]
    else:
        return message
    near = difflib.get_close_matches(given, re.findall(r"[\w-]+", names), 1, 0.6)
    return f"{message}; did you mean '{near[0]}'?" if near else message


def _flags(command: Callable[..., Any]) -> dict[str, str]:
    """Return the flag of each parameter of a command, of arguments the name in its help."""
    found = {}
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        for option in get_args(parameter.annotation):
            if isinstance(option, ArgumentInfo) and option.metavar:
                found[name] = option.metavar.rstrip(".")
            if isinstance(option, OptionInfo):
                names = [text for text in option.param_decls or () if text.startswith("--")]
                names.append(f"--{name.replace('_', '-')}")
                found[name] = names[0].partition("/")[0]
    return found
