"""A network under attack: by transfer from a surrogate, and by all gradients of its defence."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from splic_ext.attacks import BPDA, EOTPGD, PGD, Attack, ThreatModel
from splic_ext.defenses import Defense, Identity, as_defense, gradient_mode
from splic_ext.defenses.trial import without_derivative
from splic_ext.evaluation import Record, worst_case
from splic_ext.experiments.bench import Bench
from splic_ext.experiments.networks import Network
from splic_ext.experiments.results.keys import GRADIENTS, PGD_BLACK, WORST
from splic_ext.experiments.subjects import Subject
from splic_ext.runs.inputs import resolve_device

__all__ = ["WORST_NOTE", "black_box_records", "gradient_modes", "white_box_records"]

#: Of results that have the worst of several attacks.
WORST_NOTE = "the worst of several attacks is chosen by the draws that are counted"


def gradient_modes(defense: Defense) -> list[str]:
    """Return the gradients that a defence has, each of them once."""
    # To the identity, which lets every gradient pass, all of them are the same.
    parts = [
        part
        for part in defense.modules()
        if isinstance(part, Defense) and not isinstance(part, Identity)
    ]
    found: dict[tuple[str, ...], str] = {}
    for mode in GRADIENTS:
        try:
            with gradient_mode(defense, mode):
                found.setdefault(tuple(part.gradient for part in parts), mode)
        except ValueError:
            continue
    return list(found.values())


def white_box_records(
    bench: Bench, subject: Subject, network: Network, spec: str, *, adaptive: bool = True
) -> list[Record]:
    """Return the records of clean images, BPDA, the worst of all attacks, adaptive ones.

    The defence is one that was given under the name `spec`, or that of the text.
    """
    defense, budget = as_defense(bench.defense(spec)), bench.settings.budget
    threat = ThreatModel(steps=budget.steps, step_size=1 / 255)
    attacks: dict[str, Attack] = {"bpda": BPDA()}
    if adaptive:
        for mode in _leading_modes(bench, subject, network, spec, defense):
            attacks[GRADIENTS[mode]] = EOTPGD(threat, eot=budget.eot, gradient=mode)
    limit = bench.settings.attacked
    report = bench.evaluate(
        subject, network, {spec: defense}, attacks, scenario="white", limit=limit
    )
    records = list(report.records)
    if adaptive:
        records.insert(2, worst_case(records[1:], WORST))
    return records


def _leading_modes(
    bench: Bench, subject: Subject, network: Network, spec: str, defense: Defense
) -> Iterator[str]:
    """Yield the gradients of a defence that lead anywhere, and note the others."""
    place = resolve_device(bench.settings.device, network.model)
    few = torch.from_numpy(subject.dataset.first(4).to_float()).to(place)
    defense.to(place)
    for mode in gradient_modes(defense):
        reason = without_derivative(defense, mode, few)
        if reason is None:
            yield mode
        else:
            bench.note(f"{spec}: the gradient {mode} is left out: {reason}")


def black_box_records(
    bench: Bench, subject: Subject, network: Network, spec: str, surrogate: Network
) -> list[Record]:
    """Return the records of clean images, and of PGD on the surrogate."""
    attacks, limit = {PGD_BLACK: PGD()}, bench.settings.images
    report = bench.evaluate(
        subject, network, [spec], attacks, scenario="black", surrogate=surrogate, limit=limit
    )
    return list(report.records)
