"""A reader for pickled arrays that runs nothing: neither Python's objects nor NumPy's.

A pickle names the functions that rebuild its objects, and Python's own reader calls whatever is
named. Here each of the few names in the official CIFAR files stands for a harmless stand-in, and
any other name is refused. The opcodes are read here, too: Python's reader takes the memory that a
memo index or a length asks for, and a key of nested tuples ends the process.
"""

from __future__ import annotations

import codecs
import math
import pickle
import struct
from collections.abc import Callable
from pickletools import opcodes
from reprlib import repr as shown  # short, whatever the pickle holds
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

__all__ = ["PickledArray", "load_pickle"]

KINDS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}

#: Most opcodes, and so objects; an official batch of CIFAR has 61 thousand.
MAX_STEPS = 2**19

#: Most containers inside each other; an official batch has two.
MAX_DEPTH = 32

#: Most bytes of an integer, and of a number that is written out.
MAX_INTEGER, MAX_NUMBER = 16, 64


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
        if not isinstance(self._code, str) or self._code not in KINDS:
            _refuse(f"an array of type {shown(code)}")
        self._order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("|", "<", ">", "="):
            _refuse(f"an array of byte order {shown(order)}")
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
        if len(shape) > MAX_DEPTH or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
            _refuse(f"an array of shape {shown(shape)}")
        if math.prod(shape) * kind.dtype().itemsize != len(data):
            _refuse(f"{len(data)} bytes for an array of shape {shown(shape)}")
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
        _refuse(f"bytes encoded as {shown(encoding)}")
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


class _Mark:
    """Where the items of a container begin on the stack."""


_MARK = _Mark()

#: Opcodes that push a value -> how it is stored: the size of its length, or its format.
_BYTES = {"B": 4, "C": 1, "\x8e": 8, "T": 4, "U": 1}
_TEXTS = {"X": 4, "\x8c": 1, "\x8d": 8}
_INTEGERS = {"J": "<i", "K": "<B", "M": "<H"}
_CONSTANTS = {"N": None, "\x88": True, "\x89": False}
_TUPLES = {"\x85": 1, "\x86": 2, "\x87": 3}


class _Reader:
    """Runs the opcodes of one pickle, those of plain values and of NumPy's arrays."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self._stack: list[Any] = []
        self._depths: list[int] = []  # of what is on the stack
        self._memo: dict[int, tuple[Any, int]] = {}
        self._names = _allowed()
        self._encodable = len(content)  # a text may be encoded once, not again and again

    def load(self) -> Any:
        for _ in range(MAX_STEPS):
            opcode = chr(self._take(1)[0])
            if opcode == ".":
                return self._pop()[0]
            self._run(opcode)
        _refuse(f"more than {MAX_STEPS:,} values")

    # What follows an opcode

    def _take(self, size: int) -> bytes:
        if size > len(self._content) - self._at:
            raise EOFError(f"it ends {size - len(self._content) + self._at} bytes too early")
        self._at += size
        return self._content[self._at - size : self._at]

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _line(self, limit: int | None = None) -> bytes:
        end = self._content.find(b"\n", self._at)
        if end < 0:
            raise EOFError("it ends within a line")
        if limit is not None and end - self._at > limit:
            _refuse(f"a number of {end - self._at} digits")
        return self._take(end + 1 - self._at)[:-1]

    def _integer(self, size: int) -> int:
        if size > MAX_INTEGER:
            _refuse(f"an integer of {size} bytes")
        return int.from_bytes(self._take(size), "little", signed=True)

    # The stack

    def _push(self, value: Any, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            _refuse(f"containers nested more than {MAX_DEPTH} deep")
        self._stack.append(value)
        self._depths.append(depth)

    def _pop(self) -> tuple[Any, int]:
        value, depth = self._stack.pop(), self._depths.pop()
        if value is _MARK:
            raise ValueError("a mark stands for a value")
        return value, depth

    def _pop_items(self, count: int | None = None) -> tuple[list[Any], int]:
        """Take the last values, or those above the mark, and how deep they are."""
        if count is None:
            begin = len(self._stack) - 1
            while begin >= 0 and self._stack[begin] is not _MARK:
                begin -= 1
        else:
            begin = len(self._stack) - count - 1
        if begin < -1 or (count is None and begin < 0):
            raise IndexError("a container without its items")
        items, depth = self._stack[begin + 1 :], max(self._depths[begin + 1 :], default=0)
        if any(item is _MARK for item in items):
            raise ValueError("a mark stands for a value")
        keep = begin if count is None else begin + 1
        del self._stack[keep:], self._depths[keep:]
        return items, depth

    def _extend(self, kind: type[Any], items: list[Any], depth: int) -> None:
        """Add items to the list or dict on top."""
        container, own = self._pop()
        if type(container) is not kind:
            raise TypeError(f"items for no container but a {type(container).__name__}")
        if kind is list:
            container.extend(items)
        else:
            container.update(_pairs(items))
        self._push(container, max(own, depth + 1))

    # Opcodes

    def _run(self, opcode: str) -> None:
        if opcode in _CONSTANTS:
            self._push(_CONSTANTS[opcode])
        elif opcode in _INTEGERS:
            kind = _INTEGERS[opcode]
            self._push(struct.unpack(kind, self._take(struct.calcsize(kind)))[0])
        elif opcode in _BYTES:
            self._push(self._take(self._number(_BYTES[opcode])))
        elif opcode in _TEXTS:
            text = self._take(self._number(_TEXTS[opcode]))
            self._push(text.decode("utf-8", "surrogatepass"))
        elif opcode in _TUPLES:
            items, depth = self._pop_items(_TUPLES[opcode])
            self._push(tuple(items), depth + 1)
        elif opcode in _OPCODES:
            _OPCODES[opcode](self)
        else:
            names = {known.code: known.name for known in opcodes}
            _refuse(f"the opcode {names.get(opcode, repr(opcode))}")

    def _proto(self) -> None:
        version = self._number(1)
        if version > 5:
            _refuse(f"protocol {version}")

    def _frame(self) -> None:
        if self._number(8) > len(self._content) - self._at:
            raise EOFError("it ends within a frame")

    def _int(self) -> None:
        line = self._line(MAX_NUMBER)
        self._push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))

    def _string(self) -> None:
        line = self._line().strip()
        if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
            raise ValueError("a string without quotes")
        self._push(codecs.escape_decode(line[1:-1])[0])

    def _list(self) -> None:
        items, depth = self._pop_items()
        self._push(items, depth + 1)

    def _dict(self) -> None:
        items, depth = self._pop_items()
        self._push(_pairs(items), depth + 1)

    def _tuple(self) -> None:
        items, depth = self._pop_items()
        self._push(tuple(items), depth + 1)

    def _put(self, index: int) -> None:
        if not 0 <= index < MAX_STEPS:
            _refuse(f"a memo of the index {index}")
        if self._stack[-1] is _MARK:
            raise ValueError("a mark stands for a value")
        self._memo[index] = self._stack[-1], self._depths[-1]

    def _get(self, index: int) -> None:
        self._push(*self._memo[index])

    def _again(self) -> None:
        self._push(self._stack[-1], self._depths[-1])

    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is no text")
        if (module, name) not in self._names:
            raise pickle.UnpicklingError(
                f"the pickle asks for `{module[:80]}.{name[:80]}`, which is no part of an array; "
                "do not open it with Python's pickle: it may run any program"
            )
        self._push(self._names[module, name])

    def _named(self) -> None:
        self._global(self._line().decode(), self._line().decode())

    def _named_on_stack(self) -> None:
        self._global(*self._pop_items(2)[0])

    def _reduce(self) -> None:
        (function, arguments), depth = self._pop_items(2)
        if not isinstance(function, _Function) or type(arguments) is not tuple:
            raise TypeError("a call of no function")
        if function is self._names["_codecs", "encode"] and arguments:
            self._encodable -= len(arguments[0]) if isinstance(arguments[0], str) else 0
            if self._encodable < 0:
                _refuse("a text that is encoded again and again")
        self._push(function(*arguments), depth)

    def _build(self) -> None:
        state, _ = self._pop()
        if not isinstance(self._stack[-1], (_Function, _Type, PickledArray)):
            _refuse(f"a {type(self._stack[-1]).__name__} with a state")
        self._stack[-1].__setstate__(state)

    def _outside(self, pid: Any) -> NoReturn:
        _refuse(f"a reference to an outside object, {shown(pid)}")


def _pairs(items: list[Any]) -> dict[Any, Any]:
    """Make a dict; to hash and compare nested tuples may take all of the stack, or for ever."""
    for key in items[::2]:
        if type(key) not in (bytes, str, int, bool, float, type(None)):
            _refuse(f"a key of type {type(key).__name__}")
    return dict(zip(items[::2], items[1::2], strict=True))


_OPCODES: dict[str, Callable[[_Reader], Any]] = {
    "\x80": _Reader._proto,
    "\x95": _Reader._frame,
    "(": lambda reader: reader._push(_MARK),
    "0": lambda reader: (reader._stack.pop(), reader._depths.pop()),
    "1": lambda reader: reader._pop_items(),
    "2": _Reader._again,
    "I": _Reader._int,
    "L": lambda reader: reader._push(int(reader._line(MAX_NUMBER).removesuffix(b"L"))),
    "\x8a": lambda reader: reader._push(reader._integer(reader._number(1))),
    "\x8b": lambda reader: reader._push(reader._integer(reader._number(4))),
    "F": lambda reader: reader._push(float(reader._line(MAX_NUMBER))),
    "G": lambda reader: reader._push(struct.unpack(">d", reader._take(8))[0]),
    "S": _Reader._string,
    "V": lambda reader: reader._push(reader._line().decode("raw-unicode-escape")),
    "]": lambda reader: reader._push([], 1),
    "}": lambda reader: reader._push({}, 1),
    ")": lambda reader: reader._push((), 1),
    "l": _Reader._list,
    "d": _Reader._dict,
    "t": _Reader._tuple,
    "a": lambda reader: reader._extend(list, *reader._pop_items(1)),
    "e": lambda reader: reader._extend(list, *reader._pop_items()),
    "s": lambda reader: reader._extend(dict, *reader._pop_items(2)),
    "u": lambda reader: reader._extend(dict, *reader._pop_items()),
    "p": lambda reader: reader._put(int(reader._line(MAX_NUMBER))),
    "q": lambda reader: reader._put(reader._number(1)),
    "r": lambda reader: reader._put(reader._number(4)),
    "\x94": lambda reader: reader._put(len(reader._memo)),
    "g": lambda reader: reader._get(int(reader._line(MAX_NUMBER))),
    "h": lambda reader: reader._get(reader._number(1)),
    "j": lambda reader: reader._get(reader._number(4)),
    "c": _Reader._named,
    "\x93": _Reader._named_on_stack,
    "R": _Reader._reduce,
    "b": _Reader._build,
    "P": lambda reader: reader._outside(reader._line()),
    "Q": lambda reader: reader._outside(reader._pop()[0]),
}


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
        return _Reader(content).load()
    except (MemoryError, pickle.UnpicklingError):
        raise
    except Exception as error:  # of any type: the content of a damaged pickle is anything
        raise pickle.UnpicklingError(
            f"the pickle is damaged: {type(error).__name__}: {str(error)[:200]}; "
            "fetch or save the file again"
        ) from error
