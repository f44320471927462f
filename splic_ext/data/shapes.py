"""Ten figures drawn on the fly: a data set that needs no file, where structure decides."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splic_ext.data.dataset import Dataset

__all__ = ["SHAPES", "SHAPES_SPLITS", "load_shapes"]

Floats = npt.NDArray[np.float32]

SHAPES = (
    *("disc", "ring", "square", "frame", "triangle"),
    *("cross", "star", "bar", "pair", "crescent"),
)
#: Split -> its number of images, and the key of its random words.
SHAPES_SPLITS = {"train": (10_000, 1), "test": (2_000, 2)}

SIDE = 32
#: Words of 64 bits that an image has for itself, those of the noise in them.
WORDS = 512
NOISE_WORDS = 3 * SIDE * SIDE // 8
#: Images drawn at a time, which fit in a processor's cache; nothing depends on it.
BLOCK = 250
#: Cosines and sines, written out: those of a library differ in the last bit between platforms.
THIRDS = ((0.0, -1.0), (0.8660254037844386, 0.5), (-0.8660254037844386, 0.5))
FIFTHS = (
    (0.0, 1.0),
    (0.9510565162951535, 0.30901699437494745),
    (0.5877852522924731, -0.8090169943749475),
    (-0.5877852522924731, -0.8090169943749475),
    (-0.9510565162951535, 0.30901699437494745),
)


def load_shapes(split: str = "test", limit: int | None = None) -> Dataset:
    """Draw figures of ten shapes: 32 x 32 in colour, 10,000 to train and 2,000 to test.

    The class is the outline alone: ``SHAPES[i % 10]`` for image i. All figures cover about the
    same area. Place, size, turn, both colours, which of them is the lighter one, both textures,
    shading and noise are drawn for each image, and from the same distributions for every class.
    So texture and colour tell nothing, and structure tells all.

    Image i depends on `split` and i alone: its random words are those of Philox 4x64-10 at a
    place of its own. Only additions, products, quotients and square roots of single values are
    made of them, which IEEE 754 rounds in one way on all platforms.

    Parameters
    ----------
    split : {"train", "test"}
    limit : int, optional
        Draw only this many images, the first ones.

    Returns
    -------
    Dataset

    Examples
    --------
    >>> load_shapes("train", limit=20)
    Dataset('shapes/train': 20 images of 3 x 32 x 32, 10 classes)
    """
    count, key = SHAPES_SPLITS[split]
    count = count if limit is None else min(count, limit)
    words = np.random.Philox(key=key)
    labels = np.arange(count, dtype=np.int64) % len(SHAPES)
    images = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for start in range(0, count, BLOCK):
        kinds = labels[start : start + BLOCK]
        block = words.random_raw(len(kinds) * WORDS).reshape(len(kinds), WORDS)
        images[start : start + BLOCK] = _draw(kinds, block)
    return Dataset(f"shapes/{split}", images, labels, SHAPES)


class _Draws:
    """Hands out the random numbers of a block of images, each of them once."""

    def __init__(self, words: npt.NDArray[np.uint64]) -> None:
        cut = words.shape[1] - NOISE_WORDS
        halves, noise = (
            np.ascontiguousarray(part.astype("<u8", copy=False))
            for part in (words[:, :cut], words[:, cut:])
        )
        # 24 bits are what a float32 holds.
        self._units = (halves.view("<u4") >> 8).astype(np.float32) * np.float32(2.0**-24)
        self.noise = noise.view(np.uint8).reshape(-1, 3, SIDE, SIDE).astype(np.float32)
        self._next = 0

    def between(self, low: float, high: float, *shape: int) -> Floats:
        """Return uniform numbers in [low, high) for each image, (N, *shape)."""
        size = int(np.prod(shape))
        units = self._units[:, self._next : self._next + size].reshape(-1, *shape)
        assert units.shape[1:] == shape  # no image has so many words
        self._next += size
        numbers: Floats = units * np.float32(high - low) + np.float32(low)
        return numbers


def _draw(kinds: npt.NDArray[np.int64], words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Return the images of these classes and random words, (N, 3, 32, 32)."""
    draws = _Draws(words)
    cover = _cover(kinds, draws)[:, None]
    ground, figure = _colours(draws)
    light = _shading(draws)[:, None] * draws.between(-0.12, 0.12, 3, 1, 1)
    layers = []
    for colour in (ground, figure):
        texture = _texture(draws)[:, None]
        layers.append(colour + texture * draws.between(0.0, 0.2, 1, 1, 1))
    image = layers[0] + (layers[1] - layers[0]) * cover + light
    strength = draws.between(0.02, 0.12, 1, 1, 1)
    image += (draws.noise * np.float32(2 / 255) - np.float32(1)) * strength
    image = np.minimum(np.maximum(image, np.float32(0)), np.float32(1))
    pixels: npt.NDArray[np.uint8] = np.rint(image * np.float32(255)).astype(np.uint8)
    return pixels


def _colours(draws: _Draws) -> tuple[Floats, Floats]:
    """Return the colours of ground and figure, apart in lightness, of any hue, (N, 3, 1, 1)."""
    middle = draws.between(0.35, 0.65, 1, 1, 1)
    apart = draws.between(0.14, 0.28, 1, 1, 1)
    sign = np.where(draws.between(-1.0, 1.0, 1, 1, 1) < 0, np.float32(-1), np.float32(1))
    hues = [draws.between(-0.15, 0.15, 3, 1, 1) for _ in range(2)]
    return middle - sign * apart + hues[0], middle + sign * apart + hues[1]


def _direction(draws: _Draws) -> tuple[Floats, Floats]:
    """Return cosine and sine of a random angle, (N, 1, 1) each, by the half tangent."""
    half = draws.between(-1.0, 1.0, 1, 1)
    square = half * half
    cosine = (np.float32(1) - square) / (np.float32(1) + square)
    sine = (half + half) / (np.float32(1) + square)
    quarter = draws.between(-1.0, 1.0, 1, 1) < 0  # t in (-1, 1) is the right half of the circle
    return np.where(quarter, -cosine, cosine), sine


def _places() -> tuple[Floats, Floats]:
    """Return x and y of the pixels' middles, from the middle of the image, in pixels."""
    steps = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    return steps[None, None, :], steps[None, :, None]


def _shading(draws: _Draws) -> Floats:
    """Return a ramp from -1 to 1 or so in a random direction, (N, H, W)."""
    cosine, sine = _direction(draws)
    x, y = _places()
    ramp: Floats = (x * cosine + y * sine) * np.float32(1 / 16)
    return ramp


def _texture(draws: _Draws) -> Floats:
    """Return stripes or a chequered pattern, mixed with smooth noise, in [-1, 1], (N, H, W)."""
    cosine, sine = _direction(draws)
    x, y = _places()
    pitch = draws.between(0.12, 0.45, 1, 1)
    first = _wave((x * cosine + y * sine) * pitch + draws.between(0.0, 1.0, 1, 1))
    second = _wave((y * cosine - x * sine) * pitch + draws.between(0.0, 1.0, 1, 1))
    chequered = draws.between(-1.0, 1.0, 1, 1) < 0
    pattern = np.where(chequered, first * second, first)
    share = draws.between(0.0, 1.0, 1, 1)
    texture: Floats = pattern * share + _noise(draws) * (np.float32(1) - share)
    return texture


def _wave(phase: Floats) -> Floats:
    """Return a triangle wave of period 1 in [-1, 1]."""
    phase = phase - np.floor(phase)
    wave: Floats = np.abs(phase - np.float32(0.5)) * np.float32(4) - np.float32(1)
    return wave


def _noise(draws: _Draws) -> Floats:
    """Return values of a lattice of 5 pixels, interpolated linearly, in [-1, 1], (N, H, W)."""
    values = draws.between(-1.0, 1.0, 7, 7)
    at = np.arange(SIDE, dtype=np.int64)
    cell, weight = at // 5, ((at % 5).astype(np.float32) / np.float32(5))
    lower, upper = values[:, cell], values[:, np.minimum(cell + 1, 6)]
    rows = lower + (upper - lower) * weight[:, None]
    left, right = rows[:, :, cell], rows[:, :, np.minimum(cell + 1, 6)]
    noise: Floats = left + (right - left) * weight
    return noise


def _cover(kinds: npt.NDArray[np.int64], draws: _Draws) -> Floats:
    """Return how much of each pixel the figure covers, in [0, 1], (N, H, W)."""
    size, blur = draws.between(7.0, 10.0, 1, 1), draws.between(1.0, 2.5, 1, 1)
    x, y = _places()
    x, y = x - draws.between(-3.0, 3.0, 1, 1), y - draws.between(-3.0, 3.0, 1, 1)
    cosine, sine = _direction(draws)
    u, v = (x * cosine + y * sine) / size, (y * cosine - x * sine) / size
    distance = np.empty_like(u)
    for kind in range(len(SHAPES)):
        chosen = kinds == kind
        distance[chosen] = _distance(SHAPES[kind], u[chosen], v[chosen])
    # Edges are one pixel wide, as an exact cover would have them, or out of focus.
    cover = np.float32(0.5) - distance * (size / blur)
    share: Floats = np.minimum(np.maximum(cover, np.float32(0)), np.float32(1))
    return share


def _distance(shape: str, u: Floats, v: Floats) -> Floats:
    """Return the distance to the edge of a figure of area 2 or so, negative within."""
    f = np.float32
    wide, high = np.abs(u), np.abs(v)
    found: Floats
    if shape == "disc":
        found = _length(u, v) - f(0.8)
    elif shape == "ring":
        found = np.abs(_length(u, v) - f(0.85)) - f(0.19)
    elif shape == "square":
        found = np.maximum(wide, high) - f(0.71)
    elif shape == "frame":
        found = np.abs(np.maximum(wide, high) - f(0.8)) - f(0.16)
    elif shape == "triangle":
        found = _sides(u, v, THIRDS)[-1] - f(0.62)
    elif shape == "cross":
        found = np.minimum(
            np.maximum(wide - f(1.0), high - f(0.29)), np.maximum(high - f(1.0), wide - f(0.29))
        )
    elif shape == "star":  # within four of the five lines
        found = _sides(u, v, FIFTHS)[-2] - f(0.412)
    elif shape == "bar":
        found = np.maximum(wide - f(1.3), high - f(0.385))
    elif shape == "pair":
        found = _length(wide - f(0.75), v) - f(0.564)
    else:
        assert shape == "crescent"
        found = np.maximum(_length(u, v) - f(1.1), f(0.9) - _length(u - f(0.6), v))
    return found


def _length(u: Floats, v: Floats) -> Floats:
    length: Floats = np.sqrt(u * u + v * v)
    return length


def _sides(u: Floats, v: Floats, normals: tuple[tuple[float, float], ...]) -> Floats:
    """Return how far a point is along each normal, in ascending order."""
    found = [u * np.float32(a) + v * np.float32(b) for a, b in normals]
    ordered: Floats = np.sort(np.stack(found), axis=0)
    return ordered
