"""A reader for pickled arrays that runs nothing: neither Python's objects nor NumPy's.

A pickle names the functions that rebuild its objects, and Python's own reader calls whatever is
named. Here each of the few names in the official CIFAR files stands for a harmless stand-in, and
any other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

__all__ = ["PickledArray", "load_pickle"]

KINDS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}


def _refuse(what: str) -> NoReturn:
    raise pickle.UnpicklingError(
        f"the pickle holds {what}, expected plain values and arrays of integers; "
        "save it with `pickle.dump(values, file, protocol=2)`"
    )


class _Function:
    """What a name stands for; unlike a Python function, it has no attributes to tamper with."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        _refuse("a function with a state")


class _Type:
    """Stands for ``numpy.dtype("u1")`` and the like: an integer type, with its byte order."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: Any, *_: Any) -> None:
        self._code = code.decode("ascii") if isinstance(code, bytes) else code
        if self._code not in KINDS:
            _refuse(f"an array of type {code!r}")
        self._order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("|", "<", ">", "="):
            _refuse(f"an array of byte order {order!r}")
        self._order = order

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._order + self._code)


class PickledArray:
    """Stands for an array while a pickle is read; `array` makes it one."""

    __slots__ = ("_array",)

    def __init__(self) -> None:
        self._array: npt.NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Type) or not isinstance(data, bytes):
            _refuse("an array without type or data")
        if not all(type(n) is int and n >= 0 for n in shape):
            _refuse(f"an array of shape {shape!r}")
        if math.prod(shape) * kind.dtype().itemsize != len(data):
            _refuse(f"{len(data)} bytes for an array of shape {shape!r}")
        flat = np.frombuffer(data, dtype=kind.dtype())
        self._array = flat.reshape(shape, order="F" if fortran else "C")

    def array(self) -> npt.NDArray[Any]:
        """Return the array, read-only; empty if the pickle gave it no content."""
        return np.empty(0, np.uint8) if self._array is None else self._array


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes into a pickle of protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        _refuse(f"bytes encoded as {encoding!r}")
    return text.encode("latin-1")


def _empty_bytes() -> bytes:
    return b""


def _refuse_call(*_: Any) -> NoReturn:
    _refuse("an array made without NumPy's function for it")


def _allowed() -> dict[tuple[str, str], _Function]:
    names = {
        ("numpy", "ndarray"): _Function(_refuse_call),
        ("numpy", "dtype"): _Function(_Type),
        ("_codecs", "encode"): _Function(_encode),
        ("__builtin__", "bytes"): _Function(_empty_bytes),
        ("builtins", "bytes"): _Function(_empty_bytes),
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[module, "_reconstruct"] = _Function(_reconstruct)
    return names


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._names = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise pickle.UnpicklingError(
                f"the pickle asks for `{module}.{name}`, which is no part of an array; "
                "do not open it with Python's pickle: it may run any program"
            )
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        _refuse(f"a reference to an outside object, {pid!r}")


def load_pickle(content: bytes) -> Any:
    r"""Return what a pickle of plain values and integer arrays holds, without running any of it.

    Strings of Python 2 come as bytes, and each array as a :class:`PickledArray`. A pickle that
    names something else, or is damaged, raises a pickle.UnpicklingError.

    >>> import numpy as np
    >>> load_pickle(pickle.dumps({b"data": np.arange(3)}, 2))[b"data"].array()
    array([0, 1, 2])
    >>> try:
    ...     load_pickle(b"cos\nsystem\n(S'ls'\ntR.")
    ... except pickle.UnpicklingError as error:
    ...     print(str(error).partition(";")[0])
    the pickle asks for `os.system`, which is no part of an array
    """
    try:
        return _Unpickler(content).load()
    except (MemoryError, pickle.UnpicklingError):
        raise
    except Exception as error:  # of any type: the content of a damaged pickle is anything
        raise pickle.UnpicklingError(
            f"the pickle is damaged: {type(error).__name__}: {error}; fetch or save the file again"
        ) from error
