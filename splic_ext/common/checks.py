"""Checks of scalar parameters, with messages that name the parameter and the range."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from splic_ext.errors import ShapeError

__all__ = [
    "Channels",
    "check_bool",
    "check_fields",
    "check_integer",
    "check_labels",
    "check_mapping",
    "check_number",
    "out_of_range",
    "printable",
    "shortened",
    "told_apart",
]

#: How channels become matrices: a word that options and masks share.
Channels = Literal["stacked", "separate"]
#: The largest count that is taken where there is no other bound.
MOST = 2**31 - 1


#: Characters that move the cursor, hide or turn text: controls, and halves of a pair.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, keep: str = "") -> str:
    r"""Escape what no terminal or page should be sent, such as controls in the names of files.

    >>> printable("a\x1b[2J\n")
    'a\\x1b[2J\\n'
    """

    def escaped(found: re.Match[str]) -> str:
        return found[0] if found[0] in keep else found[0].encode("unicode_escape").decode()

    return UNSAFE.sub(escaped, text)


def shortened(text: str, most: int = 80) -> str:
    """Return a text for a message: of a longer one than `most` the beginning and the end."""
    if len(text) <= most:
        return text
    end = (most - 3) // 2
    return f"{text[: most - 3 - end]}...{text[-end:]}"


def reason_of(error: BaseException, most: int = 300) -> str:
    """Return what an error says in one line, shortened: a damaged file can put anything in it."""
    return shortened(" ".join(str(error).split()), most) or type(error).__name__


def check_bool(name: str, value: Any) -> bool:
    """Return `value` if it is True or False; NumPy's do not count."""
    if not isinstance(value, bool):
        raise TypeError(
            f"`{name}` must be True or False, got {shortened(repr(value))} of "
            f"{type(value).__name__}; convert it with bool()"
        )
    return value


def check_integer(name: str, value: Any, low: int, high: int = MOST) -> int:
    """Return `value` as an int in [low, high]; NumPy integers count, bools do not."""
    given: Any = None if isinstance(value, (bool, np.bool_)) else value
    try:
        number = operator.index(given)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an integer, got {shortened(repr(value))} of "
            f"{type(value).__name__}; "
            "convert it with int()"
        ) from None
    if not low <= number <= high:
        raise ValueError(
            f"`{name}` must be an integer in [{low}, {high}], got {_digits(number)}; "
            "choose one of these"
        )
    return number


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, above: bool = False
) -> float:
    """Return `value` as a finite float in [low, high], or in (low, high] if `above`."""
    refused = (bool, str, bytes, bytearray, np.bool_, np.complexfloating)
    n_axes: Any = getattr(value, "ndim", 0)
    given: Any = None if isinstance(value, refused) or n_axes != 0 else value
    try:
        number = float(given)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        raise TypeError(
            f"`{name}` must be a number, got {shortened(repr(value))} of "
            f"{type(value).__name__}; "
            "convert it with float()"
        ) from None
    if not (math.isfinite(number) and low <= number <= high) or (above and number == low):
        bound = f"in {'(' if above else '['}{low:g}, {high:g}]"
        if high == math.inf:
            bound = f"{'>' if above else '>='} {low:g}"
        raise ValueError(
            f"`{name}` must be finite and {bound}, got {number!r}; choose one of these"
        )
    return number


def check_labels(labels: Any, count: int | None = None) -> npt.NDArray[np.int64]:
    """Return the classes of `count` images, integers of any container and size, as an array."""
    tensor = hasattr(labels, "cpu")
    try:
        # The class of each is clear, whatever holds it; of booleans and floats it is not.
        array = np.asarray(labels.cpu() if tensor else labels)
    except (TypeError, ValueError, RuntimeError):
        array = np.empty((), object)
    if array.dtype.kind in "iufb" and array.shape != (len(array.flat) if count is None else count,):
        expected = f"(N,){'' if count is None else f' = ({count},)'}"
        fix = "pass the class of each image"
        if array.ndim == 2 and 1 not in array.shape:
            fix += ", which is `labels.argmax(1)` if they are one-hot"
        elif array.ndim > 1:
            fix += ", as `labels.flatten()` has it"
        raise ShapeError(
            f"`labels` must have shape {expected}, got {array.shape}; {fix}", array.shape, expected
        )
    if array.dtype.kind not in "iu" and not (array.dtype.kind == "f" and array.size == 0):
        got = type(labels).__name__
        if hasattr(labels, "dtype"):
            got = f"{labels.dtype}{f' on the device {labels.device}' if tensor else ''}"
        elif isinstance(labels, (list, tuple)):
            got += f" of {', '.join(sorted({type(item).__name__ for item in labels}))}"
        fix = "them with `labels.long()`" if tensor else "them with `np.asarray(labels, np.int64)`"
        if array.dtype.kind in "US" or any(isinstance(item, str) for item in array.flat):
            fix = "names with `[classes.index(name) for name in labels]`"
        raise TypeError(
            f"`labels` must be integers, the class of each image, got {got}; convert {fix}"
        )
    return array.astype(np.int64, copy=False)


def check_mapping(what: str, values: Any) -> None:
    """Raise unless `values` is a mapping, of which `what` can be made."""
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{what} must be a mapping of names to values, got {type(values).__name__}; "
            "pass what `to_dict` returned"
        )


def check_fields(what: str, values: Any, known: Sequence[str]) -> None:
    """Raise unless `values` maps some of the known fields of `what` to values."""
    check_mapping(what, values)
    for name in values:
        if name not in known:
            raise TypeError(
                f"unknown field {shortened(repr(name))} of {what}; known are {', '.join(known)}"
            )


def out_of_range(image: int, low: float, high: float, data_range: float) -> ValueError:
    """Return the error that tells of an image with such least and largest values."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ValueError(
            f"`batch` must be finite, got NaN or infinity in image {image}; "
            "replace them, for example with numpy.nan_to_num"
        )
    return ValueError(
        f"`batch` must lie in [0, data_range] = [0, {data_range:g}], got minimum "
        f"{told_apart(low, 0.0)} and maximum {told_apart(high, data_range)} in image {image}; "
        "rescale it or pass the right `data_range=`"
    )


def told_apart(value: float, bound: float) -> str:
    """Return a number for a message, with all of its digits if it looks like the bound."""
    return f"{value:.17g}" if f"{value:.6g}" == f"{bound:.6g}" else f"{value:.6g}"


def _digits(number: int) -> str:
    """Return an integer for a message; Python refuses to print very long ones."""
    bits = number.bit_length()
    return str(number) if bits <= 256 else f"one of {bits} bits"
