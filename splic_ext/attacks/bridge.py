"""The way to foolbox: its import, networks as it wants them, its random numbers."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from splic_ext.attacks.target import Target
from splic_ext.common.optional import optional

__all__ = ["load_foolbox", "run_foolbox", "seeded_torch"]


def load_foolbox(feature: str) -> Any:
    """Return the module foolbox; `feature` needs it."""
    if sys.modules.get("foolbox"):
        return sys.modules["foolbox"]
    with optional(f"`{feature}`", "attack", "foolbox"), warnings.catch_warnings():
        # foolbox 3.3.4 imports a filter from where SciPy once had it.
        warnings.filterwarnings(
            "ignore", message=r".*`scipy\.ndimage\.filters`", category=DeprecationWarning
        )
        import foolbox
    return foolbox


class _Module(nn.Module):
    """A function as a module; the network in it is not registered, so that nothing moves it."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.forward = function
        self.eval()


def run_foolbox(
    attack: Any,
    function: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    **arguments: Any,
) -> torch.Tensor:
    """Return what an attack of foolbox makes of images in [0, 1]; `function` gives logits."""
    foolbox = load_foolbox("run_foolbox")
    model = foolbox.PyTorchModel(_Module(function), bounds=(0, 1), device=images.device)
    try:
        result: torch.Tensor = attack.run(model, images, labels, **arguments)
    except AssertionError:  # foolbox asserts that there is a gradient
        if isinstance(function, Target) and function.unreached:
            raise function.detached() from None
        raise
    return result.detach()


@contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators for a library that draws from them; set them back afterwards."""
    places = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=places):
        torch.default_generator.manual_seed(seed % 2**63)
        if places:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed % 2**63)
        yield
