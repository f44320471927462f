"""Defences on a GPU: images stay there, and masks are drawn there."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.cuda import wavy as images

from splic_ext import SolverOptions


def forbid_copies(monkeypatch, torch):
    """Make every copy of images to the CPU an error."""
    for name in ("cpu", "numpy"):
        real = getattr(torch.Tensor, name)

        def guarded(self, *arguments, real=real, name=name, **others):
            if self.is_cuda and self.ndim == 4:
                raise AssertionError(f"Tensor.{name}() on images of a GPU")
            return real(self, *arguments, **others)

        monkeypatch.setattr(torch.Tensor, name, guarded)
    to = torch.Tensor.to

    def guarded_to(self, *arguments, **others):
        result = to(self, *arguments, **others)
        if self.is_cuda and self.ndim == 4 and not result.is_cuda:
            raise AssertionError("Tensor.to() of images of a GPU")
        return result

    monkeypatch.setattr(torch.Tensor, "to", guarded_to)


@pytest.mark.parametrize("gradient", ["identity", "exact", "surrogate"])
@pytest.mark.parametrize("n_masks", [1, 2])
def test_a_defence_leaves_images_on_the_device(gpu, monkeypatch, gradient, n_masks):
    from splic_ext.defenses import SPLIC

    options = SolverOptions(max_iterations=7, n_masks=n_masks)
    defense = SPLIC(options, seed=3, gradient=gradient)
    batch = gpu.from_numpy(images((4, 3, 16, 16))).cuda().requires_grad_()
    index = gpu.tensor([7, 2, 3, 9])
    on_cpu = [defense(batch.detach().cpu(), index=which) for which in (None, index)]
    forbid_copies(monkeypatch, gpu)
    results = [defense(batch, index=which) for which in (None, index)]
    results[0].square().sum().backward()
    monkeypatch.undo()
    assert batch.grad.is_cuda
    assert batch.grad.isfinite().all()
    for result, want in zip(results, on_cpu, strict=True):
        assert (result.detach().cpu() - want).abs().mean() < 1e-4


def test_an_attack_leaves_images_on_the_device(gpu, monkeypatch):
    from splic_ext.defenses import SPLIC, Defended

    network = gpu.nn.Sequential(gpu.nn.Flatten(), gpu.nn.Linear(3 * 256, 5)).cuda().eval()
    defended = Defended(network, SPLIC(SolverOptions(max_iterations=7), seed=1))
    batch = gpu.from_numpy(images((4, 3, 16, 16))).cuda()
    labels = gpu.zeros(4, dtype=gpu.int64, device="cuda")
    defended(batch)
    forbid_copies(monkeypatch, gpu)
    adversarial = batch
    for _ in range(3):
        adversarial = adversarial.detach().requires_grad_()
        gpu.nn.functional.cross_entropy(defended(adversarial), labels).backward()
        step = adversarial.grad.sign() / 100
        adversarial = (adversarial.detach() + step).clamp(0, 1)
    monkeypatch.undo()
    assert not gpu.equal(adversarial, batch)


def test_masks_drawn_on_the_device(gpu):
    from splic_ext.autograd.masks import masks_on

    indices = np.array([5, 2**64 - 1, 0, 2**33], np.uint64)
    for channels in ("stacked", "separate"):
        arguments = {"anchor_fraction": 0.3, "seed": 2**63 + 5, "stream": 2, "channels": channels}
        drawn = [
            masks_on(gpu.empty(4, 3, 9, 7, device=place), indices, **arguments)
            for place in ("cpu", "cuda")
        ]
        assert gpu.equal(drawn[0], drawn[1].cpu())
