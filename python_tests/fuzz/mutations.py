"""Changes to the bytes of a valid file, as damage and malice make them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["mutate"]

BYTES = (0, 1, 127, 128, 255)
NUMBERS = (0, 1, 2**15, 2**16 - 1, 2**24, 2**29, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**64 - 1)
TEXTS = (
    *(b"-1", b"1e999", b"NaN", b"9" * 5000, b"2305843009213693952", b"null", b"\0", b"\xff\xfe"),
    *(b"[" * 3000, b'{"a":' * 3000, b"(" * 3000, b"(2,) * 9", b"\\ud800", b"../x", b"\n", b"O8"),
)


def flip(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def replace(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(len(content))] = rng.choice((*BYTES, rng.randrange(256)))


def number(content: bytearray, rng: random.Random) -> None:
    """Put a number where another may have been, or between two bytes."""
    size = rng.choice((2, 4, 8))
    value = rng.choice(NUMBERS) % 2 ** (8 * size)
    at = rng.randrange(len(content))
    end = at + size * rng.randrange(2)
    content[at:end] = value.to_bytes(size, rng.choice(("little", "big")))


def text(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content))
    content[at : at + rng.choice((0, 1, 4))] = rng.choice(TEXTS)


def digits(content: bytearray, rng: random.Random) -> None:
    """Change a number that is written out."""
    places = [i for i, byte in enumerate(content) if 48 <= byte < 58]
    if places:
        at = rng.choice(places)
        content[at : at + 1] = str(rng.choice(NUMBERS)).encode()


def truncate(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def remove(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content))
    del content[at : at + rng.randint(1, 64)]


def repeat(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content))
    content[at:at] = content[at : at + rng.randint(1, 64)] * rng.choice((1, 2, 50))


def noise(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content))
    content[at : at + 16] = rng.randbytes(rng.randint(1, 32))


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(flip, replace, number, text, digits, truncate, remove, repeat, noise),
)


def mutate(files: Sequence[bytes], index: int, rng: random.Random) -> bytes:
    """Return a file with one to four changes; one of them may be a part of another file."""
    content = bytearray(files[index])
    if len(files) > 1 and rng.random() < 0.05:  # splice
        other = rng.choice(files)
        content[rng.randrange(len(content)) :] = other[rng.randrange(len(other)) :]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if content:
            rng.choice(CHANGES)(content, rng)
    return bytes(content)
