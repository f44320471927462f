"""Error types of the package; everything else is a plain ``TypeError`` or ``ValueError``."""

from __future__ import annotations

__all__ = ["BackendUnavailableError", "MissingExtraError", "ShapeError"]


class BackendUnavailableError(RuntimeError):
    """A back end was asked for by name, or by the device of the input, and cannot run here.

    The message holds the reason that :func:`splic_ext.backend_info` gives for it.
    """


class MissingExtraError(ImportError):
    """An optional dependency is missing; the message names the extra that installs it."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package {package!r}, which is not installed; "
            f'install it with `pip install "splic-ext[{extra}]"`'
        )
        self.extra = extra


class ShapeError(ValueError):
    """An array has the wrong shape.

    Attributes
    ----------
    actual_shape : tuple of int
        The shape that came.
    expected_shape : str
        The shape, or shapes, that would have been accepted.
    """

    def __init__(self, message: str, actual_shape: tuple[int, ...], expected_shape: str) -> None:
        super().__init__(message)
        self.actual_shape = actual_shape
        self.expected_shape = expected_shape
