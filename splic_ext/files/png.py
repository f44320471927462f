"""Small PNG files of nothing but 8-bit gray or RGB pixels, at a fraction of the time of Pillow.

The inner loops are those of zlib, NumPy and Pillow's decoder; what this leaves out is all that a
file without metadata does not need, which for 32 x 32 pixels takes longer than the pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["MOST_PIXELS", "encode_plain", "read_plain"]

#: Images of more pixels are left to Pillow: they take time for their pixels alone.
MOST_PIXELS = 2**14

#: The signature, and the beginning of the first chunk.
_START = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"

#: The whole of the last chunk.
_END = b"\0\0\0\0IEND\xaeB`\x82"

#: Width, height, bits of a sample, type of colour, compression, filter, interlacing.
_HEADER = struct.Struct(">IIBBBBB")

_NUMBER = struct.Struct(">I")

#: Number of channels -> PNG's type of colour, and Pillow's mode.
_KINDS = {1: (0, "L"), 3: (2, "RGB")}
_MODES = dict(_KINDS.values())

#: So many bytes of pixels are filtered at a time, which the nearest memory holds.
_AT_ONCE = 2**17

#: PNG's numbers of the filters that subtract the left neighbour, the upper one, and their mean.
_SUB, _UP, _AVERAGE = 1, 2, 3

Pixels = npt.NDArray[Any]


def read_plain(content: bytes, max_pixels: int) -> Pixels | None:
    """Return the pixels (H, W, C) of a small PNG file without metadata.

    None of any other file, and of one with the least damage: whoever gets it asks Pillow.

    >>> import numpy as np
    >>> image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    >>> bool((read_plain(encode_plain([image])[0], 100) == image).all())
    True
    """
    last = len(content) - len(_END)
    if not content.startswith(_START) or not content.endswith(_END) or last < 33:
        return None
    width, height, bits, colour, *others = _HEADER.unpack_from(content, 16)
    mode = _MODES.get(colour)
    if mode is None or bits != 8 or any(others):
        return None
    if not 0 < width * height <= min(max_pixels, MOST_PIXELS) or not _is_whole(content, 12, 29):
        return None
    parts, at = [], 33
    while at < last:
        end = at + 8 + _NUMBER.unpack_from(content, at)[0]
        if content[at + 4 : at + 8] != b"IDAT" or end + 4 > last:
            return None
        if not _is_whole(content, at + 4, end):
            return None
        parts.append(content[at + 8 : end])
        at = end + 4
    try:
        image = Image.frombytes(mode, (width, height), b"".join(parts), "zip", mode, 0)
    except Exception:  # of any type, from Pillow, which is asked again and says what it is
        return None
    return np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, -1)


def _is_whole(content: bytes, start: int, end: int) -> bool:
    """Say whether the check sum of a part follows it."""
    return bool(zlib.crc32(content[start:end]) == _NUMBER.unpack_from(content, end)[0])


def encode_plain(images: Sequence[Pixels]) -> list[bytes]:
    """Return images of one shape (H, W, C), uint8 of one or three channels, as PNG files.

    Each row is stored as differences from its left or upper neighbours or from their mean, whatever
    gives the smallest sum [1]_, and those as runs and Huffman codes. For small photographs that is
    as short as Pillow's usual compression but for 3 %. The bytes depend on the pixels, and on the
    version of zlib.

    .. [1] W3C, "Portable Network Graphics (PNG) Specification", section 12.8, "Filter selection".
    """
    height, width, channels = images[0].shape
    colour, _ = _KINDS[channels]
    header = b"IHDR" + _HEADER.pack(width, height, 8, colour, 0, 0, 0)
    start = b"".join((_START[:8], _NUMBER.pack(13), header, _NUMBER.pack(zlib.crc32(header))))
    files, step = [], max(1, _AT_ONCE // (height * width * channels))
    for first in range(0, len(images), step):
        rows = np.stack(images[first : first + step]).reshape(-1, height, width * channels)
        for image in _filtered(rows, channels):
            packer = zlib.compressobj(6, strategy=zlib.Z_RLE)
            body = b"".join((b"IDAT", packer.compress(image.data), packer.flush()))
            size, check = _NUMBER.pack(len(body) - 4), _NUMBER.pack(zlib.crc32(body))
            files.append(b"".join((start, size, body, check, _END)))
    return files


def _filtered(rows: Pixels, channels: int) -> Pixels:
    """Return rows (N, H, L) of images as PNG stores them, (N, H, 1 + L): a filter, differences."""
    left, above = np.zeros_like(rows), np.zeros_like(rows)
    left[:, :, channels:] = rows[:, :, :-channels]
    above[:, 1:] = rows[:, :-1]
    mean = (left & above) + ((left ^ above) >> 1)
    made = np.empty((*rows.shape[:2], 1 + rows.shape[2]), np.uint8)
    chosen, best = made[:, :, 0], made[:, :, 1:]
    chosen[:] = _SUB
    np.subtract(rows, left, out=best)
    least = _sums(best)
    for number, guess in ((_UP, above), (_AVERAGE, mean)):
        differences = rows - guess
        sums = _sums(differences)
        better = sums < least
        chosen[better] = number
        np.copyto(best, differences, where=better[:, :, None])
        least = np.minimum(least, sums)
    return made


def _sums(differences: Pixels) -> Pixels:
    """Return the sum of each row of differences, which are small both above 0 and below 256."""
    sums: Pixels = np.minimum(differences, -differences).sum(-1, dtype=np.uint32)
    return sums
