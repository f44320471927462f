"""What an evaluation is asked for, checked: nothing here changes while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from splic_ext.attacks import Attack, Within, WorstCase
from splic_ext.common.checks import check_integer
from splic_ext.data import Dataset, DatasetLike
from splic_ext.defenses import Defended, Defense
from splic_ext.evaluation.guards import Asked
from splic_ext.evaluation.inputs import (
    check_network,
    check_scenario,
    named_attacks,
    named_defenses,
    one_line,
)
from splic_ext.evaluation.weak import check_derivatives, weak_notes
from splic_ext.runs.fingerprints import (
    code_fingerprint,
    derive_seed,
    fingerprint,
    fingerprint_arrays,
    fingerprint_own,
    fingerprint_source,
    fingerprint_weights,
    package_versions,
)
from splic_ext.runs.inputs import check_dataset, describe_dataset, is_random, resolve_device
from splic_ext.runs.records import DatasetInfo, NetworkInfo

__all__ = ["Batch", "Plan", "make_plan"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of consecutive positions in a data set, clean or adversarial, and their hash."""

    start: int
    images: torch.Tensor
    labels: torch.Tensor
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", fingerprint_arrays(self.images.cpu().numpy()))

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Plan:
    """An evaluation that can run. Networks and defences are on the device, and must not change."""

    model: nn.Module
    surrogate: nn.Module | None
    data: Dataset
    defenses: dict[str, Defense]
    attacks: dict[str, Attack]
    scenario: str
    draws: int
    seed: int
    batch_size: int
    device: torch.device
    command: str | None
    #: What records say of the images and the networks.
    dataset_info: DatasetInfo
    model_info: NetworkInfo
    surrogate_info: NetworkInfo | None
    #: Defence -> the seed of each of its draws.
    mask_seeds: dict[str, tuple[int, ...]]
    #: What must be said of attacks that do not differentiate a defence.
    weak: tuple[str, ...]
    #: What determines every part: code, versions, kind of device.
    environment: dict[str, Any]
    #: SHA-256 of classes, reprs and weights, and of code that is not of this library.
    model_sha256: str
    surrogate_sha256: str | None
    defense_sha256: dict[str, str]
    #: Attack -> what determines it.
    attacks_told: dict[str, dict[str, Any]]

    @property
    def key(self) -> str:
        """The hash of all that determines the records."""
        return fingerprint(
            {
                "environment": self.environment,
                "dataset": self.dataset_info.sha256,
                "model": self.model_sha256,
                "surrogate": self.surrogate_sha256,
                "scenario": self.scenario,
                "defenses": self.defense_sha256,
                "attacks": self.attacks_told,
                "draws": self.draws,
                "seed": self.seed,
                "batch_size": self.batch_size,
            }
        )

    @property
    def asked(self) -> Asked:
        """What a report tells of :attr:`key`."""
        surrogate = self.surrogate_info
        return Asked(
            scenario=self.scenario,
            seed=self.seed,
            draws=max(map(len, self.mask_seeds.values())),
            dataset=self.dataset_info.sha256,
            network=self.model_info.sha256,
            surrogate=None if surrogate is None else surrogate.sha256,
            defenses={name: one_line(defense) for name, defense in self.defenses.items()},
            attacks={name: attack.to_dict() for name, attack in self.attacks.items()},
            versions=self.environment["versions"],
            code=self.environment["code"],
            device=self.environment["device"],
        )

    def work(self) -> dict[str, int]:
        """Return kind of work -> number of images, for a progress bar."""
        count = len(self.data)
        attacked = {self.kind(a, defense): count for a in self.attacks for defense in self.defenses}
        scored = count * (1 + len(self.attacks))
        return attacked | {f"scoring {name}": scored for name in self.defenses}

    def kind(self, attack: str, defense: str) -> str:
        """Return what the progress bar calls an attack."""
        return f"{attack} on {defense}" if self.scenario == "white" else f"attack {attack}"

    def batches(self) -> Iterator[Batch]:
        """Yield the clean images."""
        for start in range(0, len(self.data), self.batch_size):
            yield _batch(self.data, start, start + self.batch_size, self.device)

    def target(self, defense: str) -> tuple[nn.Module, str | list[str]]:
        """Return what is attacked, and its hash: in the white box a network behind a defence."""
        if self.scenario == "white":
            own = [self.model_sha256, self.defense_sha256[defense]]
            return Defended(self.model, self.defenses[defense]), own
        if self.surrogate is None or self.surrogate_sha256 is None:
            return self.model, self.model_sha256
        return self.surrogate, self.surrogate_sha256


def make_plan(
    model: nn.Module,
    dataset: DatasetLike,
    *,
    defenses: Any,
    attacks: Any,
    scenario: str,
    surrogate: nn.Module | None,
    draws: int,
    seed: int,
    batch_size: int,
    limit: int | None,
    device: str | torch.device | None,
    model_name: str | None,
    surrogate_name: str | None,
    command: str | None,
) -> Plan:
    """Check what :func:`splic_ext.evaluation.evaluate` is given, and move it to the device."""
    data = check_dataset(dataset, limit)
    chosen, tried = named_defenses(defenses), named_attacks(attacks)
    draws = check_integer("draws", draws, 1)
    seed = check_integer("seed", seed, 0, 2**64 - 1)
    batch_size = check_integer("batch_size", batch_size, 1)
    place = resolve_device(device, model)
    check_scenario(scenario, surrogate)
    few = _batch(data, 0, 4, place).images
    for parameter, network in (("model", model), ("surrogate", surrogate)):
        if isinstance(network, nn.Module):
            network.to(place)
        if network is not None or parameter == "model":
            check_network(parameter, network, few, data.labels)
    seeds = tuple(derive_seed(seed, "draw", draw) for draw in range(draws))
    mask_seeds = {}
    for name, defense in chosen.items():
        defense.to(place)
        mask_seeds[name] = seeds if is_random(name, defense, few) else seeds[:1]
    if scenario == "white":
        check_derivatives(chosen, tried, few)
    return Plan(
        model=model,
        surrogate=surrogate,
        data=data,
        defenses=chosen,
        attacks=tried,
        scenario=scenario,
        draws=draws,
        seed=seed,
        batch_size=batch_size,
        device=place,
        command=command,
        dataset_info=describe_dataset(data),
        model_info=_network_info(model, model_name),
        surrogate_info=None if surrogate is None else _network_info(surrogate, surrogate_name),
        mask_seeds=mask_seeds,
        weak=tuple(weak_notes(model, chosen, tried, few) if scenario == "white" else ()),
        environment={
            "code": code_fingerprint(),
            "device": place.type,
            "versions": package_versions(),
        },
        model_sha256=fingerprint_own(model),
        surrogate_sha256=None if surrogate is None else fingerprint_own(surrogate),
        defense_sha256={name: fingerprint_own(defense) for name, defense in chosen.items()},
        attacks_told={name: _describe(attack) for name, attack in tried.items()},
    )


def _describe(attack: Attack) -> dict[str, Any]:
    """Return the class and all parameters of an attack, and the code of one that is not ours."""
    kind = type(attack)
    told = {"class": f"{kind.__module__}.{kind.__qualname__}", **attack.to_dict()}
    parts = [attack, *_inner(attack)]
    if any(fingerprint_source(part) is not None for part in parts):
        told["source"] = [fingerprint_own(part) for part in parts]
    return told


def _inner(attack: Attack) -> Iterator[Attack]:
    """Yield the attacks that an attack is made of."""
    if isinstance(attack, (Within, WorstCase)):
        for part in attack.attacks if isinstance(attack, WorstCase) else (attack.attack,):
            if part is not None:
                yield part
                yield from _inner(part)


def _batch(data: Dataset, start: int, stop: int, device: torch.device) -> Batch:
    part = replace(data, images=data.images[start:stop], labels=data.labels[start:stop])
    images, labels = torch.from_numpy(part.to_float()), torch.from_numpy(part.labels)
    return Batch(start, images.to(device), labels.to(device))


def _network_info(network: nn.Module, name: str | None) -> NetworkInfo:
    return NetworkInfo(name or type(network).__name__, fingerprint_weights(network))
