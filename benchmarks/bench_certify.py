"""Certificates by masks: a vote on one image, and where the time of a certificate goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from workloads import (
    QUICK,
    check_options,
    describe,
    find_case,
    load_images,
    record,
    require_backend,
)

pytestmark = pytest.mark.full

CASE = find_case(32, 3)
GROUP = "certificates, one thread"
#: Patches of 5 x 5 pixels, against which there are 36 masks and 666 pairs.
PATCH, MASKS, PAIRS = 5, 6, 666
#: A vote may take that long; of a certificate, fill and network take at least that share.
MOST_MS, LEAST_SHARE = 60.0, 0.85


@pytest.fixture
def network() -> Iterator[Any]:
    """Return a ResNet-20 on one thread: its weights change no time, so they are random."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from splic_ext.models import build_model

    require_backend("cpu")
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield build_model("resnet20").eval()
    torch.set_num_threads(threads)


def _note(benchmark: Any, fill: Any, completions: int) -> list[float]:
    """Note what was done, and that the fill's solver is right; return the seconds of all calls."""
    errors, iterations = check_options(CASE, "cpu", fill.options)
    benchmark.extra_info.update(describe(CASE, "cpu", 1), **errors)
    return record(benchmark, 1, round(completions * iterations))


def test_vote(benchmark, network: Any) -> None:
    """What an answer takes where round one agrees: one image under all masks."""
    import torch

    from splic_ext.certify import MaskedVote

    benchmark.group = GROUP
    vote = MaskedVote(network, PATCH, MASKS, "splic")
    image = torch.from_numpy(load_images(CASE, 1))
    with torch.inference_mode():
        benchmark.pedantic(vote, (image,), rounds=1 if QUICK else 41, warmup_rounds=1)
    if seconds := _note(benchmark, vote.fill, MASKS**2):
        latency = benchmark.extra_info["latency_ms"] = 1e3 * float(np.median(seconds))
        assert QUICK or latency < MOST_MS, f"a vote takes {latency:.0f} ms"


def test_certificate(benchmark, network: Any) -> None:
    """One image under all pairs of masks, with its record."""
    import torch

    from splic_ext.certify import evaluate_patches
    from splic_ext.data import Dataset
    from splic_ext.fills import fill_from_spec

    benchmark.group = GROUP
    images = load_images(CASE, 1)
    with torch.inference_mode():
        label = network(torch.from_numpy(images)).argmax(1).numpy()
    data = Dataset("images", np.rint(255 * images).astype(np.uint8), label, tuple("0123456789"))
    fill = fill_from_spec("splic")
    shares = []

    def certify() -> None:
        spent = evaluate_patches(
            network, data, patch=PATCH, masks=MASKS, fills=[fill], progress=False
        ).seconds
        shares.append((spent.fill + spent.network) / spent.total)

    benchmark.pedantic(certify, rounds=1 if QUICK else 7, warmup_rounds=int(not QUICK))
    if _note(benchmark, fill, PAIRS):
        share = benchmark.extra_info["fill_and_network_share"] = float(np.median(shares))
        assert QUICK or share > LEAST_SHARE, f"fill and network take {share:.0%} of a certificate"
