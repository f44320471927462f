"""The registry: one name, one loader for each back end."""

from __future__ import annotations

from importlib import import_module

from splic_ext.backends.base import Backend, BackendInfo
from splic_ext.errors import BackendUnavailableError

__all__ = ["available_backends", "backend_info", "get_backend", "takes_device"]

#: Name -> module whose ``BACKEND`` is the back end, in the order in which "auto" tries them.
_LOADERS = {
    "cpu": "splic_ext.backends.cpu",
    "numpy": "splic_ext.backends.reference",
    "cuda": "splic_ext.backends.cuda",
}


def _load(name: str) -> Backend:
    backend: Backend = import_module(_LOADERS[name]).BACKEND
    return backend


def backend_info() -> dict[str, BackendInfo]:
    """Describe every back end, and say why an absent one is absent.

    Returns
    -------
    dict of str to BackendInfo
        One entry for each name that :func:`splic_ext.complete` takes as `backend`, best first.

    Notes
    -----
    Raises nothing: what keeps a back end from running is its `reason`, and what a setting of the
    environment keeps it from stands under "error" in its `details`.

    Examples
    --------
    >>> info = backend_info()["numpy"]
    >>> info.available, info.devices, info.precisions
    (True, ('cpu',), ('float64',))
    """
    return {name: _load(name).info() for name in _LOADERS}


def available_backends() -> tuple[str, ...]:
    """Return the names of the back ends that can run here, fastest first.

    Returns
    -------
    tuple of str
        The last is "numpy", which runs everywhere.

    Examples
    --------
    >>> available_backends()[-1]
    'numpy'
    """
    return tuple(name for name, info in backend_info().items() if info.available)


def get_backend(name: str, device: str) -> Backend:
    """Return the back end of that name, or for ``"auto"`` the best one for the device.

    Raises
    ------
    TypeError
        `name` is not a string.
    ValueError
        No back end has that name, or it does not take arrays of that device.
    BackendUnavailableError
        It cannot run here; an explicit choice never falls back to another back end.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"`backend` must be a string, got {type(name).__name__}; pass 'auto' or a name in "
            "splic_ext.backend_info()"
        )
    if name == "auto":
        absent = []
        for candidate in map(_load, _LOADERS):
            info = candidate.info()
            if device in info.devices:
                if info.available:
                    return candidate
                absent.append(f"{info.name}: {info.reason}")
        reasons = "; ".join(absent) or "none takes arrays of that device"
        raise BackendUnavailableError(
            f"no back end can complete an array on device {device!r} ({reasons}); "
            "move the batch to the CPU, or see splic_ext.backend_info()"
        )
    if name not in _LOADERS:
        expected = ", ".join(repr(key) for key in ("auto", *_LOADERS))
        raise ValueError(f"`backend` must be one of {expected}, got {name!r}")
    backend = _load(name)
    info = backend.info()
    if not info.available:
        raise BackendUnavailableError(
            f"back end {name!r} cannot run here: {info.reason}; "
            f"use backend='auto' or one of {available_backends()}"
        )
    if device not in info.devices:
        raise ValueError(
            f"back end {name!r} takes arrays on {' or '.join(info.devices)}, got one on "
            f"{device!r}; move the batch, or use backend='auto'"
        )
    return backend


def takes_device(name: str, device: str) -> bool:
    """Say whether a back end, or for ``"auto"`` any, takes arrays of that device where they are."""
    known = backend_info()
    if name != "auto":
        return device in known[name].devices
    return any(info.available and device in info.devices for info in known.values())


def gradient_backends() -> tuple[str, ...]:
    """Return the names of the back ends that can differentiate, fastest first."""
    return tuple(name for name in _LOADERS if _load(name).differentiates)
