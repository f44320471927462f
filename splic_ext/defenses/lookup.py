"""Which defence an operator of a graph computes, and whose masks it draws."""

from __future__ import annotations

import functools
import json
import secrets
from dataclasses import asdict
from typing import Any
from weakref import WeakValueDictionary

from splic_ext.options import SolverOptions

__all__ = ["describe", "find", "known_kind", "mode_of", "name_of", "register", "whose"]

#: Kinds of the library by name; an exported graph finds them again in another process.
_KINDS: dict[str, Any] = {}
#: Defences by token, which no other process, copy or pickle has.
_LIVE: WeakValueDictionary[str, Any] = WeakValueDictionary()
#: Those that only a loaded graph knows, by their token there: each holds its frozen mask.
_STRANGERS: dict[str, Any] = {}


def known_kind(kind: type) -> None:
    """Note a class of the library, whose attributes in `shown` make the same defence again."""
    if kind.__module__.startswith(f"{__package__}."):
        _KINDS[kind.__name__] = kind


def register(defense: Any) -> str:
    """Return a token by which operators find a defence of this process."""
    token = secrets.token_hex(8)
    _LIVE[token] = defense
    return token


def describe(defense: Any, token: str) -> str:
    """Return the text by which operators make a defence of the library, or find another one."""
    kind, rest = type(defense), json.dumps(token)
    if _KINDS.get(kind.__name__) is kind:
        values = {name: getattr(defense, name, None) for name in kind.shown}
        rest = json.dumps(values, default=asdict)  # the options of the solver
    return f"{kind.__name__} {getattr(defense, 'gradient', None)} {rest}"


@functools.lru_cache(maxsize=256)
def _build(text: str) -> Any:
    name, gradient, rest = text.split(" ", 2)
    values = json.loads(rest)
    if isinstance(values.get("options"), dict):
        values["options"] = SolverOptions(**values["options"])
    made = _KINDS[name](**values, gradient=gradient)
    for key, value in values.items():  # the attributes, where the constructor makes others of them
        setattr(made, key, value)
    return made


def find(text: str) -> Any:
    """Return the defence of a text; one of the library is made of it, whatever became of the first.

    So a graph keeps the parameters that it was made with.
    """
    name, _, rest = text.split(" ", 2)
    found: Any = _build(text) if rest[0] == "{" else _LIVE.get(json.loads(rest))
    if found is None:
        raise RuntimeError(
            f"the graph holds the defence `{name}`, which is not of this library, and the object "
            "that it was made with is gone; make the graph again in the process that runs it"
        )
    return found


def whose(token: str, text: str) -> Any:
    """Return the defence that draws the masks: that of the token, if this process has it."""
    found: Any = _LIVE.get(token) or _STRANGERS.get(token)
    if found is None:
        find(text)  # which refuses one that is not of the library
        found = _STRANGERS[token] = _build.__wrapped__(text)
    return found


def name_of(text: str) -> str:
    """Return the name of the class in a text."""
    return text.split(" ")[0]


def mode_of(text: str) -> str:
    """Return the gradient mode in a text."""
    return text.split(" ")[1]
