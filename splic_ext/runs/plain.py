"""Frozen dataclasses to plain values and back, with every departure named."""

from __future__ import annotations

import json
import os
import re
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from splic_ext.common.checks import shortened

__all__ = ["Counted", "Versioned", "decode", "encode", "not_too_deep", "read_versioned", "to_text"]

Kind = TypeVar("Kind")
Record = TypeVar("Record", bound="Versioned")
Counts = TypeVar("Counts", bound="Counted")

NOTHING: Mapping[int, Mapping[str, Any]] = types.MappingProxyType({})


def encode(value: Any) -> Any:
    """Return a dataclass, or what it holds, as dicts, lists and plain values."""
    if is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    return value


def to_text(values: Mapping[str, Any]) -> str:
    """Return plain values as JSON, with lists of numbers on one line.

    >>> print(to_text({"right": [1, 0]}))
    {
      "right": [1, 0]
    }
    """
    text = json.dumps(values, indent=2, allow_nan=False)
    # No string of JSON holds a line break.
    return re.sub(r"\[\n\s+([\w\s,.+-]+?)\n\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)


def decode(kind: type[Kind], values: Any, where: str) -> Kind:
    """Return what :func:`encode` made plain; `where` names it in messages.

    Fields of the dataclass may be dataclasses, tuples, dicts, optional or plain.

    >>> from splic_ext.runs.records import NetworkInfo
    >>> decode(NetworkInfo, {"name": "digits_cnn", "sha256": "4f..."}, "model")
    NetworkInfo(name='digits_cnn', sha256='4f...')
    """
    result: Kind = _decode(kind, values, where)
    return result


@contextmanager
def not_too_deep(what: str) -> Iterator[None]:
    """Turn the error of Python for JSON that is nested too deeply into one that names the file."""
    try:
        yield
    except RecursionError:
        raise ValueError(f"{what} must be a text in JSON: it is nested too deeply") from None


def read_versioned(
    text: str, version: int, what: str, older: Mapping[int, Mapping[str, Any]] = NOTHING
) -> dict[str, Any]:
    """Return the object that a text in JSON holds, without its "schema_version".

    `older` has the earlier versions that are read as well, with the keys that they lack.

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
            f"{what} must have the schema version {version}, got {shortened(repr(found))}; read "
            "it with the version of splic_ext that wrote it, or make it anew"
        )
    result: dict[str, Any] = values
    return result


class Counted:
    """A dataclass whose plain form also has the accuracies that follow from its counts."""

    #: Name in the plain form -> property.
    accuracies: ClassVar[Mapping[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, and the accuracies that follow from them, as plain values."""
        found = {name: encode(getattr(self, own)) for name, own in self.accuracies.items()}
        return {**encode(self), "accuracy": found}

    @classmethod
    def from_dict(cls: type[Counts], values: Any, where: str = "record") -> Counts:
        """Return the record that :meth:`to_dict` made plain.

        Parameters
        ----------
        values : dict
        where : str, default "record"
            Names it in messages.

        Raises
        ------
        ValueError
            Something is missing, unknown, of another kind, or contradicts the counts.
        """
        plain = dict(values) if isinstance(values, dict) else values
        accuracy = plain.pop("accuracy", None) if isinstance(plain, dict) else None
        record = decode(cls, plain, where)
        if accuracy != record.to_dict()["accuracy"]:
            raise ValueError(
                f"`{where}.accuracy` must be what its counts say; take a file as it was written"
            )
        return record


class Versioned:
    """A dataclass with a form in JSON that has a version."""

    #: Version of the schema, and what messages call the whole and its top.
    schema: ClassVar[tuple[int, str, str]]

    @classmethod
    def from_json(cls: type[Record], text: str) -> Record:
        """Return what :meth:`to_json` wrote.

        Parameters
        ----------
        text : str

        Raises
        ------
        ValueError
            No JSON, another version of the schema, or not as it was written.
        """
        version, what, where = cls.schema
        with not_too_deep(what):
            return cls._from_values(read_versioned(text, version, what), where)

    @classmethod
    def load(cls: type[Record], path: str | os.PathLike[str]) -> Record:
        """Read a file that holds what :meth:`to_json` wrote.

        Parameters
        ----------
        path : path
            ``report.json`` of an evaluation's folder, ``training.json`` of a training's.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            As :meth:`from_json`, or a file that is no text in UTF-8; the message names it.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"the file '{path}' is no text in UTF-8; make it anew") from error
        except ValueError as error:
            raise ValueError(f"the file '{path}' cannot be used: {error}") from error

    @classmethod
    def _from_values(cls: type[Record], values: dict[str, Any], where: str) -> Record:
        return decode(cls, values, where)


def _decode(kind: Any, values: Any, where: str) -> Any:
    origin, arms = get_origin(kind), get_args(kind)
    if kind is Any:
        return values
    if origin in (Union, types.UnionType):
        if values is None and type(None) in arms:
            return None
        arms = tuple(arm for arm in arms if arm is not type(None))
        kind = type(values) if type(values) in arms else arms[0]
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
            f"{', '.join(missing) or 'none'}, unknown {shortened(', '.join(unknown)) or 'none'}; "
            "take a file as it was written"
        )
    return kind(**{name: _decode(hints[name], values[name], f"{where}.{name}") for name in names})


def _refused(where: str, expected: str, got: Any) -> ValueError:
    shown = repr(got)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    where = shortened(where)
    return ValueError(f"`{where}` must be {expected}, got {shown}; take a file as it was written")
