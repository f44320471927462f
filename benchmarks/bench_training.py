"""Training on completed images, or with completed boxes: how much of it the solver takes."""

from __future__ import annotations

import time
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
SPLIC, FEWER = {"defense": "splic"}, {"defense": "splic:max_iterations=35"}
BOXES = {"cutout": "2x9", "fill": "splic"}
#: Device, network, images, epochs, copies, what is completed, and how much of it the solver may
#: take: on a CPU less than half, on a GPU no more than 30 % of what the rest takes. The VGG, whose
#: pass takes no longer than a completion, has no bound with fresh masks and all iterations: there
#: it is more. Filling boxes, which two of three images have, may take a third.
RUNS = {
    "small VGG": ("cpu", "svhn_vgg", 2048, 1, 0, SPLIC, 1.0),
    "small VGG, 2 copies for 8 epochs": ("cpu", "svhn_vgg", 1024, 8, 2, SPLIC, 0.5),
    "small VGG, 35 iterations": ("cpu", "svhn_vgg", 2048, 1, 0, FEWER, 0.5),
    "ResNet-20": ("cpu", "cifar_resnet20", 512, 1, 0, SPLIC, 0.5),
    "ResNet-20, two boxes": ("cpu", "cifar_resnet20", 512, 1, 0, BOXES, 1 / 3),
    "ResNet-18": ("cuda", "resnet18_32", 50_000, 1, 0, SPLIC, 0.3 / 1.3),
}


@pytest.mark.parametrize("run", RUNS)
def test_training(benchmark, tmp_path_factory, run: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("foolbox", reason="foolbox is not installed")
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from splic_ext.data import Dataset
    from splic_ext.defenses import defense_from_spec
    from splic_ext.fills import fill_from_spec
    from splic_ext.training import TrainingOptions, train

    device, network, count, epochs, copies, completed, most = RUNS[run]
    require_backend(device)
    threads = 2
    images = load_images(CASE, 64 if QUICK else count)
    data = Dataset(
        "images",
        np.rint(255 * images).astype(np.uint8),
        np.arange(len(images)) % 10,
        tuple("0123456789"),
    )
    options = TrainingOptions(
        epochs=1 if QUICK else epochs,
        copies=copies,
        channels_last=True,
        precision="bfloat16" if device == "cuda" else "float32",
        **completed,
    )
    found = []

    def fit() -> None:
        cache = tmp_path_factory.mktemp("copies") if copies else None
        began = time.perf_counter()
        result = train(
            network, data, options, cache=cache, device=device, threads=threads, progress=False
        )
        elapsed, seconds = time.perf_counter() - began, result.seconds
        # Copies are made before the epochs, and are no part of their seconds.
        before = elapsed - seconds.total if copies else 0.0
        found.append(((seconds.defense + before) / elapsed, result.history[-1].loss))

    benchmark.group = f"training behind SPLIC, {threads} threads"
    benchmark.extra_info.update(describe(CASE, device, threads))
    rounds = 1 if QUICK else 3
    benchmark.pedantic(fit, rounds=rounds, warmup_rounds=int(not QUICK))
    assert all(np.isfinite(loss) for _, loss in found)
    maker: Any = defense_from_spec(completed.get("defense", "identity"))
    if "fill" in completed:
        maker = fill_from_spec(completed["fill"])
    errors, per_image = check_options(CASE, device, maker.options)
    benchmark.extra_info.update(errors)
    learnt = len(images) * options.epochs
    share = 2 / 3 if "fill" in completed else 1.0  # of the images, that are completed
    iterations = round(share * per_image * len(images) * (copies or 1))
    if record(benchmark, learnt, iterations):
        taken = float(np.median([part for part, _ in found[-rounds:]]))
        benchmark.extra_info["solver_share"] = taken
        assert QUICK or taken < most, f"the solver takes {taken:.0%} of the training"
