"""An epoch of training on completed images, fresh masks: how much of it the solver takes."""

from __future__ import annotations

import numpy as np
import pytest
from workloads import QUICK, check_answer, describe, find_case, load_images, rates, require_backend

import splic_ext
from splic_ext.masks import bernoulli_masks

CASE = find_case(32, 3)
#: Network -> device, images of an epoch, and how much of it the solver may take: on a CPU less than
#: half, on a GPU no more than 30 % of what the rest takes.
NETWORKS = {
    "svhn_vgg": ("cpu", 2048, 0.5),
    "cifar_resnet20": ("cpu", 512, 0.5),
    "resnet18_32": ("cuda", 50_000, 0.3 / 1.3),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_training_epoch(benchmark, network: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("foolbox", reason="foolbox is not installed")
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from splic_ext.data import Dataset
    from splic_ext.training import TrainingOptions, train

    device, count, most = NETWORKS[network]
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
        epochs=1,
        channels_last=True,
        precision="bfloat16" if device == "cuda" else "float32",
        defense="splic",
    )
    found = []

    def epoch() -> None:
        found.append(train(network, data, options, device=device, threads=threads, progress=False))

    benchmark.group = f"an epoch of training behind SPLIC, {threads} threads"
    benchmark.extra_info.update(describe(CASE, device, threads))
    benchmark.pedantic(epoch, rounds=1 if QUICK else 3, warmup_rounds=1)
    assert all(np.isfinite(result.history[-1].loss) for result in found)
    few = images[: CASE.checked_images]
    masks = bernoulli_masks(few.shape, channels=CASE.mode)
    completed, info = splic_ext.complete(
        few, masks, options=CASE.options, backend=device, return_info=True
    )
    benchmark.extra_info.update(check_answer(CASE, device, completed))
    if benchmark.stats is not None:
        share = float(np.median([r.seconds.defense / r.seconds.total for r in found[1:] or found]))
        iterations = round(info.iterations.sum() / len(few) * len(images))
        benchmark.extra_info.update(
            rates(benchmark.stats.stats.median, len(images), iterations),
            images=len(images),
            matrix_iterations=iterations,
            solver_share=share,
        )
        assert QUICK or share < most, f"the solver takes {share:.0%} of an epoch"
