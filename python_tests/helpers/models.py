"""What the tests of networks share: images of the size that each takes.

Importing this skips the test module where torch is absent.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

CHANNELS = {"digits_cnn": 1}


def images(name, n=2, size=None, seed=0):
    size = size or (8 if name == "digits_cnn" else 32)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, CHANNELS.get(name, 3), size, size), generator=generator)
