"""What a computation runs on."""

from __future__ import annotations

import os
import platform

import torch

from splic_ext.completion import default_threads
from splic_ext.diagnostics import cpu_name
from splic_ext.runs.records import Machine

__all__ = ["describe_machine"]


def describe_machine(device: torch.device) -> Machine:
    """Return what this machine is, for a record; networks are on `device`."""
    name = device.type
    if device.type == "cuda":
        name = f"cuda: {torch.cuda.get_device_name(device)}"
    return Machine(
        cpu=cpu_name(),
        cores=os.cpu_count(),
        system=f"{platform.system()} {platform.machine()}",
        network_threads=torch.get_num_threads(),
        solver_threads=default_threads(),
        device=name,
    )
