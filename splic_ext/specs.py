"""Short texts that name a thing and its parameters: ``pgd:steps=40,step_size=1/255``.

>>> parse_spec("tv:weight=0.1")
('tv', {'weight': 0.1})
"""

from __future__ import annotations

import re

from splic_ext.common.checks import shortened

__all__ = ["Value", "parse_parameters", "parse_spec", "parse_value", "split_spec"]

#: What a parameter may be.
Value = int | float | bool | str | None

_NAME = re.compile(r"[A-Za-z][\w-]*")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_FLOAT = re.compile(_DECIMAL)
_FRACTION = re.compile(f"({_DECIMAL}) */ *({_DECIMAL})")
#: A text in quotation marks that is a whole value.
_QUOTED = re.compile(r"""([=:,]\s*)('[^']*'|"[^"]*")(?=\s*(?:[,+]|$))""")
#: Digits of an integer; Python itself reads no more than some 4300.
_DIGITS = 1000
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
        parts do not count, and commas in quotation marks are no separators.

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
            f"a specification must be a string, got {shortened(repr(text))} of "
            f"{type(text).__name__}; "
            "write it like 'pgd:steps=40'"
        )
    name, colon, rest = (part.strip() for part in text.partition(":"))
    shown = shortened(repr(text))
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the specification {shown} must begin with a name, got {shortened(repr(name))}; "
            "write it like 'pgd' or 'pgd:steps=40'"
        )
    parameters = parse_parameters(rest, text, name) if colon else {}
    return name.lower().replace("_", "-"), parameters


def parse_parameters(rest: str, text: str, name: str) -> dict[str, Value]:
    """Read the part ``key=value,key=value`` of a specification `text` after its `name`.

    >>> parse_parameters("size=3, mode=near", "mine.py:Blur:size=3, mode=near", "mine.py:Blur")
    {'size': 3, 'mode': 'near'}
    """
    shown = shortened(repr(text))
    parameters: dict[str, Value] = {}
    for i, item in enumerate(_split(rest, ",", ":")):
        key, equals, value = (part.strip() for part in _partition(item))
        if i == 0 and not equals and key:
            key, equals, value = SHORT, "=", key
        if not _NAME.fullmatch(key) or not equals or not value:
            raise ValueError(
                f"the specification {shown} must have items of the form key=value, got "
                f"{shortened(repr(item.strip()))}; write it like '{name}:key=value,key=value'"
            )
        key = key.replace("-", "_")
        if key in parameters:
            raise ValueError(f"the specification {shown} gives `{key}` twice; give it once")
        parameters[key] = _read(key, value, shown)
    return parameters


def _hide(text: str, before: str = "") -> str:
    """Return the text with what is quoted made blank: a text of equal length."""
    blank = _QUOTED.sub(lambda m: m[1] + " " * len(m[2]), before + text)
    return blank[len(before) :]


def _split(text: str, separator: str, before: str = "") -> list[str]:
    """Split at a regular expression, but not within quotation marks."""
    parts, start = [], 0
    for found in re.finditer(separator, _hide(text, before)):
        parts.append(text[start : found.start()])
        start = found.end()
    return [*parts, text[start:]]


def _partition(item: str) -> tuple[str, str, str]:
    """Return key, equals sign and value; without a sign the whole item is the key."""
    place = _hide(item, ":").find("=")
    return (item, "", "") if place < 0 else (item[:place], "=", item[place + 1 :])


def _read(key: str, value: str, shown: str) -> Value:
    try:
        return parse_value(value)
    except ValueError as error:
        raise ValueError(f"`{key}` of the specification {shown}: {error}") from None


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
        A fraction of denominator 0, or an integer of more than 1000 digits.

    Examples
    --------
    >>> [parse_value(text) for text in ("7", "1e-3", "3/4", "True", "none", "exact", "'7'")]
    [7, 0.001, 0.75, True, None, 'exact', '7']
    """
    if _INTEGER.fullmatch(text):
        if len(text) > _DIGITS:
            raise ValueError(f"an integer must have at most {_DIGITS} digits, got {len(text)}")
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if fraction := _FRACTION.fullmatch(text):
        above, below = float(fraction[1]), float(fraction[2])
        if below == 0:
            raise ValueError(
                f"a fraction must not have the denominator 0, got {shortened(repr(text))}; mend it"
            )
        return above / below
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def split_spec(text: str) -> list[str]:
    """Split ``a+b``, one thing after the other, into its parts.

    A plus sign counts if a name or a path follows: that of an exponent, ``1e+3``, does not, nor
    does one in quotation marks.
    """
    if not isinstance(text, str):
        parse_spec(text)
    return [part.strip() for part in _split(text, r"\+(?![0-9]|\.[0-9])")]
