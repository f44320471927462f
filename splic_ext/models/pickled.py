"""A look at a file of `torch.save` before torch reads it: a few bytes can take stack or memory."""

from __future__ import annotations

import io
import zipfile
from pickletools import genops, markobject

__all__ = ["UnsafeError", "check_saved"]

#: Most values of tuples inside each other. Python hashes them without a bound of its own, on the
#: stack: deep ones end the process, and shared ones take for ever.
MAX_NESTED = 2**13

#: Longest word. torch searches a message that holds it for as long as its square says.
MAX_WORD = 2**13

#: How many pickles a file of the old format begins with.
OLD_PICKLES = 5

CHANGED = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}


class UnsafeError(ValueError):
    """A file that torch must not see; the message says why, without the name."""


def check_saved(content: bytes) -> None:
    """Raise an UnsafeError on what no `torch.save` writes, any error on a damaged file."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        stream = io.BytesIO(content)
        for _ in range(OLD_PICKLES):
            _check_pickle(stream)
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(content):
                raise UnsafeError(
                    f"its part {member.filename!r} is compressed, as torch.save does not do"
                )
            if member.filename.endswith(".pkl"):
                _check_pickle(io.BytesIO(archive.read(member)))


def _check_pickle(stream: io.BytesIO) -> None:
    """Follow how large the tuples on the stack are; all else counts as one value."""
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[object, int] = {}
    for opcode, argument, _ in genops(stream):
        name = opcode.name
        if isinstance(argument, str) and max(map(len, argument.split()), default=0) > MAX_WORD:
            raise UnsafeError(f"it holds a word of more than {MAX_WORD:,} characters")
        if "PUT" in name or name == "MEMOIZE":
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            begin = len(stack) - len(opcode.stack_before)
            if markobject in opcode.stack_before:
                begin = marks.pop()
                if name in CHANGED:
                    begin -= 1
            if begin < 0:
                raise UnsafeError("its pickle lacks a value")
            items = stack[begin:]
            del stack[begin:]
            size = 1 + sum(items) if "TUPLE" in name else 1
            if size > MAX_NESTED and max(items) > 1:
                raise UnsafeError(f"it holds tuples inside each other, of {size:,} values")
            stack += [size] * len(opcode.stack_after)
