"""Small data sets of every kind, and what a conversion makes of them."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the extra 'cli' is not installed")

from PIL import Image

import splic_ext

FAST = splic_ext.SolverOptions(max_iterations=2)


def pixels(count, shape=(8, 8, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def write_tar(path, samples):
    """Write an archive of (name, content) pairs, or of headers with content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in samples:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


def samples(images, first=0):
    for number, image in enumerate(images, first):
        yield f"{number:04}.png", png(image)
        yield f"{number:04}.cls", str(number % 3).encode()
        yield f"{number:04}.json", json.dumps({"n": number}).encode()


def read_tar(path):
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive.getmembers()}


def decoded(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def expected(images, first=0, **options):
    """Return what the images become, (N, H, W, C)."""
    options = {"options": FAST, **options}
    return splic_ext.complete(images, first_index=first, channel_axis=-1, **options)


def convert(source, dest, **options):
    return splic_ext.convert(source, dest, **{"options": FAST, "workers": 0, **options})


def contents(folder):
    """Return all files of a destination but the manifest, whose input may have other times."""
    below = {path.relative_to(folder): path for path in sorted(folder.rglob("*"))}
    return {
        name.as_posix(): path.read_bytes()
        for name, path in below.items()
        if path.is_file()
        and not any(part.startswith(".") for part in name.parts)
        and path.name != "manifest.json"
    }
