"""Error types of the package; everything else is a plain ``TypeError`` or ``ValueError``."""

from __future__ import annotations

from typing import Any

__all__ = [
    "AttackError",
    "BackendUnavailableError",
    "ConversionError",
    "MissingExtraError",
    "ShapeError",
]


class AttackError(RuntimeError):
    """An attack had nothing to follow: no gradient, or answers that change.

    Its result would say nothing about robustness.

    Attributes
    ----------
    defense : str
        The defences in the network, and their gradients.
    gradient : str or None
        Gradient mode of the first of them; None if there is none.

    Examples
    --------
    >>> AttackError("the gradient was 0", "BitDepth", "identity").gradient
    'identity'
    """

    def __init__(self, message: str, defense: str, gradient: str | None) -> None:
        super().__init__(message)
        self.defense = defense
        self.gradient = gradient

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.defense, self.gradient)


class BackendUnavailableError(RuntimeError):
    """A back end was asked for by name, or by the device of the input, and cannot run here.

    The message holds the reason that :func:`splic_ext.backend_info` gives for it.
    """


class ConversionError(RuntimeError):
    """Shards of a data set could not be made, or an image was rejected where none may be.

    What is finished is kept: the same call makes the rest.

    Attributes
    ----------
    failed : tuple of str
        Names of the shards.

    Examples
    --------
    >>> ConversionError("1 shard failed", ("train-00001",)).failed
    ('train-00001',)
    """

    def __init__(self, message: str, failed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.failed = failed

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.failed)


class MissingExtraError(ImportError):
    """An optional dependency is missing; the message names the extra that installs it.

    Attributes
    ----------
    extra : str
        The extra of this package that installs it: "attack", "cli", "demo", "data", "parquet",
        "ray", "remote", "report", "torch" or "train".

    Examples
    --------
    >>> MissingExtraError("`splic-ext demo`", "scikit-image", "demo").extra
    'demo'
    """

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package {package!r}, which is not installed; "
            f'install it with `pip install "splic-ext[{extra}]"`'
        )
        self.extra = extra
        self._arguments = feature, package, extra

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments


class ShapeError(ValueError):
    """An array has the wrong shape.

    Attributes
    ----------
    actual_shape : tuple of int
        The shape that came.
    expected_shape : str
        The shape, or shapes, that would have been accepted.

    Examples
    --------
    >>> import numpy as np
    >>> import splic_ext
    >>> try:
    ...     splic_ext.complete(np.zeros(7))
    ... except ShapeError as error:
    ...     print(error.actual_shape, "is not", error.expected_shape)
    (7,) is not (H, W), (C, H, W) or (N, C, H, W)
    """

    def __init__(self, message: str, actual_shape: tuple[int, ...], expected_shape: str) -> None:
        super().__init__(message)
        self.actual_shape = actual_shape
        self.expected_shape = expected_shape

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.actual_shape, self.expected_shape)
