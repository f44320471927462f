"""What the tests of randomised ablation share: digits, and a network fitted on ablated ones.

Importing this skips the test module where torch or SciPy is absent.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from splic_ext.certify import ablation_masks, certify_pixels  # noqa: E402
from splic_ext.data import load_dataset  # noqa: E402
from splic_ext.fills import create_fill  # noqa: E402

#: Draws of a fit, far from those of certificates.
FIT = 2**31


def some_digits(split, classes=3, limit=None):
    """Images (N, 1, 8, 8) and labels of the first classes."""
    digits = load_dataset("digits", split)
    chosen = np.flatnonzero(digits.labels < classes)[:limit]
    return digits.to_float()[chosen], digits.labels[chosen]


def fit_ablated(kept=8, encoding="null", classes=3, times=10):
    """The linear network that fits ablated digits best, in the least squares."""
    images, labels = some_digits("train", classes)
    fill, seen = create_fill(encoding), []
    for draw in range(times):
        masks = ablation_masks((8, 8), kept, index=range(len(images)), draw=FIT + draw)
        seen.append(fill(torch.from_numpy(images), torch.from_numpy(masks)).flatten(1).numpy())
    inputs = np.pad(np.concatenate(seen), ((0, 0), (0, 1)), constant_values=1)
    wanted = np.concatenate([np.eye(classes)[labels]] * times)
    fitted = np.linalg.lstsq(inputs, wanted, rcond=1e-3)[0]
    return linear(fitted[:-1].T, fitted[-1])


def linear(weights, bias):
    """The network of a matrix (K, inputs)."""
    layer = torch.nn.Linear(weights.shape[1], weights.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights)))
        layer.bias.copy_(torch.from_numpy(np.asarray(bias)))
    return torch.nn.Sequential(torch.nn.Flatten(), layer).eval()


def brightness(size=64, level=0.5):
    """A network of two classes, which asks whether an image is brighter than a level."""
    return linear(np.array([[1.0], [-1.0]]) @ np.full((1, size), 1 / size), [-level, level])


def certify(model=None, images=None, labels=None, **changes):
    """Certify a few gray images."""
    model = brightness() if model is None else model
    images = torch.linspace(0.1, 0.9, 5 * 64).reshape(5, 1, 8, 8) if images is None else images
    labels = [0] * len(images) if labels is None else labels
    return certify_pixels(
        model, images, labels, **{"kept": 6, "encoding": "mean", "draws": 100, **changes}
    )
