"""Packages that may be absent: the error says which extra brings them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from splic_ext.errors import MissingExtraError

__all__ = ["DISTRIBUTIONS", "needed", "optional"]

#: Import name -> name on the package index, where they differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "art": "adversarial-robustness-toolbox",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}


@contextmanager
def optional(feature: str, extra: str, *packages: str) -> Iterator[None]:
    """Guard imports of packages that an extra brings.

    Parameters
    ----------
    feature : str
        What needs them, as the message names it.
    extra : str
        The extra of this package that installs them.
    *packages : str
        Their import names.

    Raises
    ------
    MissingExtraError
        One of `packages` is not installed. The absence of any other package is raised as it is.

    Examples
    --------
    >>> try:
    ...     with optional("`load`", "data", "sklearn"):
    ...         raise ModuleNotFoundError(name="sklearn.datasets")
    ... except MissingExtraError as error:
    ...     print(error.extra)
    data
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in packages:
            raise
        raise MissingExtraError(feature, DISTRIBUTIONS.get(name, name), extra) from None


def needed(feature: str, extra: str, *packages: str) -> None:
    """Raise before any work if one of the packages that a command needs is not there.

    Parameters are those of :func:`optional`; `extra` may name several, as in ``"attack,report"``.

    >>> needed("`sum`", "none", "math")
    """
    for name in packages:
        if find_spec(name) is None:
            raise MissingExtraError(feature, DISTRIBUTIONS.get(name, name), extra)
