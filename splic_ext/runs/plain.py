"""Frozen dataclasses to plain values and back, with every departure named."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["decode", "encode", "read_versioned", "told_if_nested"]

Kind = TypeVar("Kind")


def encode(value: Any) -> Any:
    """Return a dataclass, or what it holds, as dicts, lists and plain values.

    Parameters
    ----------
    value : object
        A dataclass, mapping, sequence or plain value, as deep as it likes.

    Examples
    --------
    >>> from splic_ext.runs.records import NetworkInfo
    >>> encode((NetworkInfo("digits_cnn", "4f..."), None))
    [{'name': 'digits_cnn', 'sha256': '4f...'}, None]
    """
    if is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    return value


def decode(kind: type[Kind], values: Any, where: str) -> Kind:
    """Return what :func:`encode` made plain.

    Parameters
    ----------
    kind : type
        A dataclass; its fields may be dataclasses, tuples, dicts, optional or plain.
    values : object
        What JSON gave.
    where : str
        Names the place in messages.

    Raises
    ------
    ValueError
        A key is missing or unknown, or a value is of another kind.

    Examples
    --------
    >>> from splic_ext.runs.records import NetworkInfo
    >>> decode(NetworkInfo, {"name": "digits_cnn", "sha256": "4f..."}, "model")
    NetworkInfo(name='digits_cnn', sha256='4f...')
    """
    result: Kind = _decode(kind, values, where)
    return result


@contextmanager
def told_if_nested(what: str) -> Iterator[None]:
    """Turn the error of what is nested too deeply into one that names the file."""
    try:
        yield
    except RecursionError:
        raise ValueError(f"{what} must be a text in JSON: it is nested too deeply") from None


def read_versioned(
    text: str,
    version: int,
    what: str,
    older: Mapping[int, Mapping[str, Any]] = types.MappingProxyType({}),
) -> dict[str, Any]:
    """Return the object that a text in JSON holds, without its "schema_version".

    Parameters
    ----------
    text : str
    version : int
        Of the schema; another one is refused.
    what : str
        Names the file in messages.
    older : mapping, optional
        Earlier version that is read as well -> the keys that it lacks, with their values.

    Raises
    ------
    ValueError
        No JSON, or another version.

    Examples
    --------
    >>> read_versioned('{"schema_version": 1, "key": 3}', 1, "a report")
    {'key': 3}
    >>> read_versioned('{"schema_version": 1, "key": 3}', 2, "a report", {1: {"new": []}})
    {'key': 3, 'new': []}
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{what} must be a text in JSON: {error}") from None
    found = values.pop("schema_version", None) if isinstance(values, dict) else None
    if type(found) is int and found in older:
        values = {**values, **older[found]}
    elif type(found) is not int or found != version:
        raise ValueError(
            f"{what} must have the schema version {version}, got {found!r}; read it with the "
            "version of splic_ext that wrote it, or make it anew"
        )
    result: dict[str, Any] = values
    return result


def _decode(kind: Any, values: Any, where: str) -> Any:
    origin, arms = get_origin(kind), get_args(kind)
    if kind is Any:
        return values
    if origin in (Union, types.UnionType):
        if values is None and type(None) in arms:
            return None
        (kind,) = (arm for arm in arms if arm is not type(None))
        return _decode(kind, values, where)
    if is_dataclass(kind):
        return _decode_dataclass(kind, values, where)
    if origin is tuple:
        if not isinstance(values, list):
            raise _refused(where, "a list", values)
        return tuple(_decode(arms[0], item, f"{where}[{i}]") for i, item in enumerate(values))
    if origin is dict:
        if not isinstance(values, dict):
            raise _refused(where, "an object", values)
        return {key: _decode(arms[1], item, f"{where}.{key}") for key, item in values.items()}
    if kind is float and type(values) is int:
        return float(values)
    if type(values) is not kind:
        raise _refused(where, f"of type {kind.__name__}", values)
    return values


def _decode_dataclass(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise _refused(where, "an object", values)
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    missing = [name for name in names if name not in values]
    unknown = [name for name in values if name not in names]
    if missing or unknown:
        raise ValueError(
            f"`{where}` must have the keys {', '.join(names)}; missing "
            f"{', '.join(missing) or 'none'}, unknown {', '.join(map(str, unknown)) or 'none'}; "
            "take a file as it was written"
        )
    return kind(**{name: _decode(hints[name], values[name], f"{where}.{name}") for name in names})


def _refused(where: str, expected: str, got: Any) -> ValueError:
    shown = repr(got)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return ValueError(f"`{where}` must be {expected}, got {shown}; take a file as it was written")
