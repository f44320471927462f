"""Short texts that name a thing and its parameters: ``pgd:steps=40,step_size=1/255``.

>>> parse_spec("tv:weight=0.1")
('tv', {'weight': 0.1})
"""

from __future__ import annotations

import re

__all__ = ["Value", "parse_spec", "parse_value", "split_spec"]

#: What a parameter may be.
Value = int | float | bool | str | None

_NAME = re.compile(r"[A-Za-z][\w-]*")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_FLOAT = re.compile(_DECIMAL)
_FRACTION = re.compile(f"({_DECIMAL}) */ *({_DECIMAL})")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}

#: The parameter that a first item without "=" gives.
SHORT = "preset"


def parse_spec(text: str) -> tuple[str, dict[str, Value]]:
    """Read ``name`` or ``name:key=value,key=value``.

    Parameters
    ----------
    text : str
        The name comes back in lower case with hyphens, keys with underscores; values are read by
        :func:`parse_value`. A first item without "=" is the value of `preset`. Spaces around the
        parts do not count.

    Returns
    -------
    name : str
    parameters : dict
        Key -> int, float, bool, str or None, in the order of the text.

    Raises
    ------
    TypeError
        `text` is no string.
    ValueError
        It is not of this form, or gives a key twice.

    Examples
    --------
    >>> parse_spec("pgd:epsilon=8/255, steps=40, random-start=false")
    ('pgd', {'epsilon': 0.03137254901960784, 'steps': 40, 'random_start': False})
    >>> parse_spec("splic:recommended,tv_weight=0.1")
    ('splic', {'preset': 'recommended', 'tv_weight': 0.1})
    >>> parse_spec("Soft_Impute")
    ('soft-impute', {})
    """
    if not isinstance(text, str):
        raise TypeError(
            f"a specification must be a string, got {text!r} of {type(text).__name__}; "
            "write it like 'pgd:steps=40'"
        )
    name, colon, rest = (part.strip() for part in text.partition(":"))
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the specification {text!r} must begin with a name, got {name!r}; "
            "write it like 'pgd' or 'pgd:steps=40'"
        )
    parameters: dict[str, Value] = {}
    items = rest.split(",") if colon else []
    for i, item in enumerate(items):
        key, equals, value = (part.strip() for part in item.partition("="))
        if i == 0 and not equals and key:
            key, equals, value = SHORT, "=", key
        if not _NAME.fullmatch(key) or not equals or not value:
            raise ValueError(
                f"the specification {text!r} must have items of the form key=value, got "
                f"{item.strip()!r}; write it like '{name}:key=value,key=value'"
            )
        key = key.replace("-", "_")
        if key in parameters:
            raise ValueError(f"the specification {text!r} gives `{key}` twice; give it once")
        parameters[key] = _read(key, value, text)
    return name.lower().replace("_", "-"), parameters


def _read(key: str, value: str, text: str) -> Value:
    try:
        return parse_value(value)
    except ValueError as error:
        raise ValueError(f"`{key}` of the specification {text!r}: {error}") from None


def parse_value(text: str) -> Value:
    """Read a value: a number, a fraction, true, false, none, or else a string.

    Parameters
    ----------
    text : str
        Words in any case; a text in quotation marks is a string whatever it looks like.

    Returns
    -------
    int, float, bool, str or None

    Raises
    ------
    ValueError
        A fraction of denominator 0.

    Examples
    --------
    >>> [parse_value(text) for text in ("7", "1e-3", "3/4", "True", "none", "exact", "'7'")]
    [7, 0.001, 0.75, True, None, 'exact', '7']
    """
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if fraction := _FRACTION.fullmatch(text):
        above, below = float(fraction[1]), float(fraction[2])
        if below == 0:
            raise ValueError(f"a fraction must not have the denominator 0, got {text!r}; mend it")
        return above / below
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def split_spec(text: str) -> list[str]:
    """Split ``a+b``, one thing after the other, into its parts.

    A plus sign counts if a name follows: that of an exponent, ``1e+3``, does not.

    Parameters
    ----------
    text : str
        One specification or several.

    Returns
    -------
    list of str

    Raises
    ------
    TypeError
        `text` is no string.

    Examples
    --------
    >>> split_spec("bit-depth:bits=5 + tv:weight=1e+0")
    ['bit-depth:bits=5', 'tv:weight=1e+0']
    """
    if not isinstance(text, str):
        parse_spec(text)
    return [part.strip() for part in re.split(r"\+(?![0-9.])", text)]
