"""Where the image is in a sample or a batch, and how it is put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from splic_ext.common.checks import shortened

__all__ = ["Key", "check_key", "with_image"]

#: Place of the image in a tuple, name in a mapping; None: the first, or the sample itself.
Key = int | str | None


def check_key(key: Any) -> Key:
    """Return the place of the image, or raise unless it is one."""
    if key is not None and (isinstance(key, bool) or not isinstance(key, (int, str))):
        raise TypeError(
            f"`key` must be the place or the name of the image in a sample, got "
            f"{shortened(repr(key))}; use 0 or 'image', say"
        )
    return key


def with_image(sample: Any, key: Key, change: Callable[[Any], Any]) -> Any:
    """Return a sample with another image in its place; what came stays as it is.

    >>> with_image((1, "label"), None, lambda image: image + 1)
    (2, 'label')
    >>> with_image({"image": 1, "label": 3}, "image", lambda image: image + 1)
    {'image': 2, 'label': 3}
    """
    if isinstance(sample, Mapping):
        if key not in sample:
            names = ", ".join(map(repr, sample))
            raise ValueError(
                f"`key` must name the image among {shortened(names, 200)}, got {key!r}; pass that "
                "name"
            )
        return {**sample, key: change(sample[key])}
    if not isinstance(sample, (tuple, list)):
        if key is not None:
            raise TypeError(
                f"`key` must be None for samples that are {type(sample).__name__}, got {key!r}: "
                "they are no tuples or mappings; leave it out"
            )
        return change(sample)
    place = 0 if key is None else key
    if not isinstance(place, int) or not -len(sample) <= place < len(sample):
        raise ValueError(
            f"`key` must be the place of the image in samples of {len(sample)} parts, got "
            f"{key!r}; use 0 for the first"
        )
    parts = list(sample)
    parts[place] = change(parts[place])
    if hasattr(sample, "_fields"):  # a named tuple
        return type(sample)(*parts)
    return parts if isinstance(sample, list) else tuple(parts)
