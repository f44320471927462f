"""The protocol for attackers who know the defence: gradients, draws, losses, steps, queries."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from splic_ext.attacks import APGD, EOTPGD, PGD, Attack, HopSkipJump, Square, ThreatModel, Within
from splic_ext.checks import check_integer
from splic_ext.data import Dataset
from splic_ext.defenses import SPLIC, Defense, RandomDefense, defense_from_spec
from splic_ext.evaluation import Record, evaluate, worst_case
from splic_ext.evaluation.guards import check_output
from splic_ext.evaluation.inputs import check_network
from splic_ext.experiments.results.result import ExperimentResult, Row
from splic_ext.experiments.tables.trained import gradient_modes
from splic_ext.runs.inputs import check_dataset, resolve_device

__all__ = ["SECTIONS", "SIZES", "Size", "evaluate_adaptively"]

#: Word for what the protocol tries -> its sections' title.
SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "gradients": "gradients",
        "still": "masks held still",
        "draws": "draws for each gradient",
        "losses": "losses and step rules",
        "steps": "steps",
        "radius": "radius",
        "queries": "queries",
        "transfer": "transfer from the network without the defence",
        "surrogates": "transfer from other networks",
        "parts": "without its parts",
        "broken": "known to be broken",
    }
)

#: Defences that are known to be broken: an attack that leaves them standing is none.
KNOWN = {"usvt": "ME-Net (USVT)"}
NONE = {"identity": "no defence"}
#: What is left when a part of SPLIC goes -> the options that differ; a `rank` of None is full.
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "rank and smoothed rank, no total variation": {"tv_weight": 0.0},
    "hardly any smoothed rank": {"delta_decay": 0.001},
    "no rank cut": {"rank": None},
    "mask and smoothed rank alone": {"rank": None, "tv_weight": 0.0},
}
#: What they are compared with.
PLAIN = {"tv:weight=0.1": "total variation denoising, no masks"}
_MOST = 2**31 - 1


@dataclass(frozen=True)
class Size:
    """How much of the protocol is run.

    Attributes
    ----------
    images : int
        The first ones of the data set.
    steps, eot, restarts : int
        Of the main attacks: steps of 1/255, draws for each gradient, runs.
    sweep_eot : int
        Draws for each gradient where a parameter is varied.
    draws : tuple of int
        Draws for each gradient, as a curve.
    epsilons : tuple of float
        Radii, as a curve, times 255.
    queries, query_eot : int
        Of the square attack: squares, and draws for each.
    walk : int
        Iterations of the attack by labels alone.
    """

    images: int
    steps: int
    eot: int
    restarts: int
    sweep_eot: int
    draws: tuple[int, ...]
    epsilons: tuple[float, ...]
    queries: int
    query_eot: int
    walk: int


#: "smoke" shows that all of it runs, "small" is for two cores, "full" for a GPU.
SIZES: Mapping[str, Size] = {
    "smoke": Size(2, 2, 2, 2, 1, (1,), (4,), 3, 1, 1),
    "small": Size(100, 50, 10, 2, 4, (1, 4), (2, 4, 16, 32), 500, 4, 8),
    "full": Size(1000, 200, 40, 5, 10, (1, 10, 20, 80), (1, 2, 4, 16, 32, 64), 5000, 10, 32),
}


def evaluate_adaptively(
    model: nn.Module,
    dataset: Dataset,
    *,
    defense: str = "splic",
    size: str | Size = "small",
    sections: Sequence[str] | None = None,
    surrogates: Mapping[str, nn.Module] | None = None,
    score_draws: int = 10,
    seed: int = 0,
    batch_size: int = 100,
    output: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: bool = True,
    model_name: str | None = None,
    command: str | None = None,
) -> ExperimentResult:
    """Attack a network behind a defence with all that the attacker may know but the masks.

    L-inf 8/255 but where a radius is varied. Sections: three gradients (past the solver, through
    it, and through a smooth rank cut) and the worst of them for each image; masks that are held
    still, where the attack must succeed; draws for each gradient; other losses and step rules;
    twice the steps, other step sizes, restarts; radii; queries alone; transfer from the network
    without its defence, and from other networks; what is left of SPLIC without its parts, where
    the defence has it; and defences that are known to be broken.

    Parameters
    ----------
    model : nn.Module
        In eval mode.
    dataset : Dataset
    defense : str, default "splic"
        Text of the defence, see :func:`splic_ext.defenses.defense_from_spec`.
    size : {"smoke", "small", "full"} or Size, default "small"
        How many images, steps, draws and queries.
    sections : sequence of str, optional
        Some of :data:`SECTIONS`; default: all that there is something to do for.
    surrogates : mapping, optional
        Title -> network in eval mode, of which images are transferred, such as one that was
        trained adversarially.
    score_draws : int, default 10
        Fresh draws of the masks for each finished image.
    seed, batch_size, device, progress, model_name, command
        As in :func:`splic_ext.evaluation.evaluate`.
    output : path, optional
        Folder for adaptive.json, adaptive.csv, adaptive.md, which are replaced, and for finished
        parts, which the same call takes up again, and sections share.

    Returns
    -------
    ExperimentResult

    Raises
    ------
    ValueError, TypeError
        A parameter of the wrong kind, or out of its range.
    AttackError, OSError
        As :func:`splic_ext.evaluation.evaluate`.

    References
    ----------
    .. [1] F. Tramer, N. Carlini, W. Brendel, A. Madry, "On adaptive attacks to adversarial example
       defenses", NeurIPS 2020.

    Examples
    --------
    >>> from splic_ext.data import load_dataset
    >>> from splic_ext.models import build_model
    >>> result = evaluate_adaptively(
    ...     build_model("digits_cnn").eval(),
    ...     load_dataset("digits", limit=2),
    ...     defense="splic:max_iterations=7",
    ...     size="smoke",
    ...     score_draws=2,
    ... )
    >>> [row.attack for row in result.select(section="gradients")]
    ['clean', 'identity', 'exact', 'surrogate', 'worst of them']
    """
    amount = _choose(size)
    check_dataset(dataset)
    protected = defense_from_spec(defense)
    others = _check_surrogates(surrogates, dataset, resolve_device(device, model))
    plan = _chosen(_sections(defense, protected, amount, dataset, others), sections)
    check_output(None if output is None else Path(output), "", overwrite=True)
    options = {
        "draws": check_integer("score_draws", score_draws, 1, _MOST),
        "seed": seed,
        "batch_size": batch_size,
        "limit": check_integer("images", amount.images, 1, _MOST),
        "output": None if output is None else Path(output) / "work",
        "overwrite": True,
        "device": device,
        "progress": progress,
        "model_name": model_name,
        "command": command,
    }
    rows: list[Row] = []
    last: Record | None = None
    notes = []
    if any(section.worst for section in plan):
        notes.append("the worst of several attacks is chosen by the draws that are counted")
    if sections is not None:
        done = {section.key for section in plan}
        left = ", ".join(title for key, title in SECTIONS.items() if key not in done)
        notes.append(f"not the whole protocol, left out: {left}")
    for section in plan:
        report = evaluate(
            model,
            dataset,
            defenses=section.defenses,
            attacks=section.attacks,
            scenario=section.scenario,
            surrogate=section.surrogate,
            surrogate_name=section.surrogate_name,
            **options,  # type: ignore[arg-type]
        )
        last = report.records[0]
        for method in section.defenses:
            records = list(report.select(defense=method))
            if section.worst and len(records) > 2:
                records.append(worst_case(records[1:], "worst of them"))
            rows += [
                Row.from_record(record, SECTIONS[section.key], method, record.attack or "clean")
                for record in records
            ]
        if last.surrogate is not None:
            notes.append(f"{last.surrogate.name}: weights of SHA-256 {last.surrogate.sha256}")
    assert last is not None  # there are sections
    result = ExperimentResult(
        "adaptive",
        f"Adaptive attacks on {defense}",
        tuple(rows),
        last.provenance,
        (f"seed {last.seed}", *notes),
        budget=next((name for name, known in SIZES.items() if known == amount), None),
    )
    if output is not None:
        result.save(output)
    return result


@dataclass(frozen=True)
class _Section:
    """One call of the evaluation."""

    key: str
    defenses: Mapping[str, Defense]
    attacks: Mapping[str, Attack]
    scenario: str = "white"
    worst: bool = False
    surrogate: nn.Module | None = None
    surrogate_name: str | None = None


def _sections(
    spec: str,
    defense: Defense,
    size: Size,
    dataset: Dataset,
    surrogates: Mapping[str, nn.Module],
) -> Sequence[_Section]:
    steps = ThreatModel(steps=size.steps, step_size=1 / 255)
    this = {spec: defense}
    modes = gradient_modes(defense)

    def attack(gradient: str = "identity", eot: int = size.sweep_eot, **change: Any) -> Attack:
        loss = change.pop("loss", "ce")
        threat = ThreatModel.from_dict(steps.to_dict() | change)
        return EOTPGD(threat, eot=eot, gradient=gradient, loss=loss)

    still = defense_from_spec(spec)
    for part in still.modules():
        if isinstance(part, RandomDefense):
            part.seed = 1
    curve = sorted({*size.epsilons, 8.0})
    left = _ablations(spec, min(dataset.images.shape[2:]))
    plain = _build(PLAIN) if left else {}
    radii = {"8/255": attack(), "32/255": attack(epsilon=32 / 255)}
    through = {
        "exact, 8/255": attack("exact"),
        "exact, 32/255": attack("exact", epsilon=32 / 255),
    }
    sections = (
        _Section("gradients", this, {mode: attack(mode, size.eot) for mode in modes}, worst=True),
        _Section("still", {spec: still}, {mode: attack(mode) for mode in modes}),
        _Section(
            "draws",
            this,
            {f"{n}": attack(eot=n) for n in sorted({*size.draws, size.eot})},
        ),
        _Section(
            "losses",
            this,
            {
                "PGD, cross-entropy": attack(),
                "PGD, logit ratio": attack(loss="dlr"),
                "Auto-PGD, cross-entropy": APGD(steps, eot=size.sweep_eot, gradient="identity"),
                "Auto-PGD, logit ratio": APGD(
                    steps, eot=size.sweep_eot, gradient="identity", loss="dlr"
                ),
            },
            worst=True,
        ),
        _Section(
            "steps",
            this,
            {
                f"{size.steps} of 1/255": attack(),
                f"{2 * size.steps} of 1/255": attack(steps=2 * size.steps),
                f"{size.steps} of 0.5/255": attack(step_size=0.5 / 255),
                f"{size.steps} of 2/255": attack(step_size=2 / 255),
                f"{size.restarts} restarts": attack(restarts=size.restarts),
            },
            worst=True,
        ),
        _Section("radius", this, {f"{e:g}/255": attack(epsilon=e / 255) for e in curve}),
        _Section(
            "queries",
            this,
            {
                f"square, {size.queries}": Square(
                    ThreatModel(), queries=size.queries, eot=size.query_eot
                ),
                "labels alone": Within(
                    attack=HopSkipJump(
                        ThreatModel(norm="linf"), iterations=size.walk, eot=size.query_eot
                    )
                ),
            },
        ),
        _Section(
            "transfer",
            this,
            {f"PGD, {size.steps} of 1/255": PGD(steps)},
            scenario="gray",
        ),
        *(
            _Section(
                "surrogates",
                this,
                {f"PGD on {title}": PGD(steps)},
                scenario="black",
                surrogate=network,
                surrogate_name=title,
            )
            for title, network in surrogates.items()
        ),
        _Section("parts", left, {"identity": attack()}),
        _Section("parts", plain, {"identity": attack(), "exact": attack("exact")}),
        _Section("broken", _build(KNOWN), radii | through),
        _Section("broken", _build(NONE), radii),
    )
    return [section for section in sections if section.defenses]


def _chosen(plan: Sequence[_Section], words: Sequence[str] | None) -> Sequence[_Section]:
    """Return the sections of these words; all of them must be known, and have something to do."""
    if words is None:
        return plan
    if isinstance(words, str):
        raise TypeError(f"`sections` must be a sequence of strings, got {words!r}; use a list")
    able = list(dict.fromkeys(section.key for section in plan))
    if not words:
        raise ValueError(f"`sections` must have one of {', '.join(able)}, got none; name one")
    for word in words:
        if word not in SECTIONS:
            known = ", ".join(SECTIONS)
            raise ValueError(f"`sections` must be among {known}, got {word!r}; choose another")
        if word not in able:
            need = "a defence that has SPLIC; give one"
            if word == "surrogates":
                need = "other networks; give `surrogates` (--surrogate)"
            raise ValueError(f"`sections` has {word!r}, which needs {need}, or leave it out")
    return [section for section in plan if section.key in words]


def _check_surrogates(
    given: Mapping[str, nn.Module] | None, dataset: Dataset, device: torch.device
) -> Mapping[str, nn.Module]:
    """Raise before any work, not when the protocol comes to them."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        found = type(given).__name__
        raise TypeError(f"`surrogates` must map titles to networks, got {found}; use a dict")
    few = torch.from_numpy(dataset.first(4).to_float()).to(device)
    for title, network in given.items():
        if isinstance(network, nn.Module):
            network.to(device)
        check_network(f"surrogates[{title!r}]", network, few, dataset.labels)
    return given


def _ablations(spec: str, full: int) -> dict[str, Defense]:
    """Return the defence with a part of SPLIC gone; none without SPLIC."""
    left = {}
    for title, changes in ABLATIONS.items():
        left[title] = defense_from_spec(spec)
        solvers = [part for part in left[title].modules() if isinstance(part, SPLIC)]
        if not solvers:
            return {}
        for part in solvers:
            rank = {"rank": full} if "rank" in changes else {}
            part.options = part.options.replace(**{**changes, **rank})
    return left


def _build(titles: Mapping[str, str]) -> dict[str, Defense]:
    """Return the defences by title."""
    return {title: defense_from_spec(text) for text, title in titles.items()}


def _choose(size: str | Size) -> Size:
    if isinstance(size, Size):
        return size
    if not isinstance(size, str) or size not in SIZES:
        raise ValueError(
            f"`size` must be one of {', '.join(SIZES)}, or a Size, got {size!r}; choose one"
        )
    return SIZES[size]
