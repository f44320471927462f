"""What a computation runs on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import torch

from splic_ext.completion import default_threads
from splic_ext.diagnostics import cpu_name
from splic_ext.runs.records import Machine, Provenance

__all__ = ["describe_machine", "made_now"]


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


def made_now(
    environment: Mapping[str, Any], device: torch.device, command: str | None
) -> Provenance:
    """Return how a result that is finished now came about, by versions and code of a plan."""
    return Provenance(
        versions=environment["versions"],
        code=environment["code"],
        machine=describe_machine(device),
        command=command,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
