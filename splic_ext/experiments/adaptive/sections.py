"""What the protocol tries: each section is one evaluation, with its attacks and defences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import nn

from splic_ext.attacks import (
    APGD,
    EOTPGD,
    PGD,
    Attack,
    HopSkipJump,
    Square,
    ThreatModel,
    Within,
    WorstCase,
)
from splic_ext.data import Dataset
from splic_ext.defenses import Defense, defense_from_spec
from splic_ext.experiments.adaptive.protected import Protected
from splic_ext.experiments.adaptive.sizes import Size
from splic_ext.experiments.results.keys import SECTIONS

__all__ = ["REASONS", "Section", "choose_sections", "make_sections"]

#: Title -> defence that is known to be broken: an attack that leaves it standing is none.
KNOWN = {"ME-Net (USVT)": "usvt"}
NONE = {"no defence": "identity"}
#: What is left when a part of SPLIC goes -> the options that differ; a `rank` of None is full.
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "rank and smoothed rank, no total variation": {"tv_weight": 0.0},
    "hardly any smoothed rank": {"delta_decay": 0.001},
    "no rank cut": {"rank": None},
    "mask and smoothed rank alone": {"rank": None, "tv_weight": 0.0},
}
#: What they are compared with.
PLAIN = {"total variation denoising, no masks": "tv:weight=0.1"}


#: Section that may have nothing to do -> what it needs.
NEEDS: Mapping[str, str] = {
    "still": "a defence that draws masks; give one",
    "draws": "a defence that draws masks; give one",
    "surrogates": "other networks; give `surrogates`",
    "others": "attacks of others; give `attacks`",
    "parts": "a defence that has SPLIC; give one",
}
#: And why it is left out.
REASONS: Mapping[str, str] = {
    "still": "the defence draws nothing, so that it would be 'gradients' again",
    "draws": "the defence draws nothing",
    "surrogates": "no other networks were given",
    "others": "none were given",
    "parts": "the defence has no SPLIC",
}


@dataclass(frozen=True)
class Section:
    """One call of the evaluation; `worst` asks for the worst of the attacks as well."""

    key: str
    defenses: Mapping[str, Defense]
    attacks: Mapping[str, Attack]
    scenario: str = "white"
    worst: bool = False
    surrogate: nn.Module | None = None
    surrogate_name: str | None = None


def make_sections(
    protected: Protected,
    size: Size,
    dataset: Dataset,
    surrogates: Mapping[str, nn.Module],
    others: Mapping[str, Attack],
) -> list[Section]:
    """Return all sections in which there is something to do."""
    full_rank = min(dataset.images.shape[2:])
    sections = chain(
        _white_box(protected, size),
        _transfer({protected.name: protected.defense}, size, surrogates),
        [Section("others", {protected.name: protected.defense}, others)] if others else [],
        _controls(protected, size, full_rank),
    )
    return [section for section in sections if section.defenses]


def _white_box(protected: Protected, size: Size) -> Iterator[Section]:
    """Yield attacks on the defence: by each gradient, then by its usual one."""
    this, modes, usual = {protected.name: protected.defense}, protected.modes, protected.usual
    averaged = {mode: _attack(size, mode, size.eot) for mode in modes}
    yield Section("gradients", this, averaged, worst=True)
    if protected.random:
        still = {protected.name: protected.held_still()}
        yield Section("still", still, {mode: _attack(size, mode) for mode in modes})
        draws = sorted({*size.draws, size.eot})
        yield Section("draws", this, {f"{n}": _attack(size, usual, eot=n) for n in draws})
    yield Section("losses", this, _losses(size, usual), worst=True)
    yield Section("steps", this, _steps(size, usual), worst=True)
    radii = sorted({*size.epsilons, 8.0})
    yield Section("radius", this, {f"{e:g}/255": _worst(size, modes, e / 255) for e in radii})
    yield Section("queries", this, _queries(size))


def _transfer(
    this: Mapping[str, Defense], size: Size, surrogates: Mapping[str, nn.Module]
) -> Iterator[Section]:
    """Yield attacks on networks without the defence."""
    plain = PGD(_threat(size))
    yield Section("transfer", this, {f"PGD, {size.steps} of 1/255": plain}, scenario="gray")
    for title, network in surrogates.items():
        attacks = {f"PGD on {title}": plain}
        yield Section("surrogates", this, attacks, "black", False, network, title)


def _controls(protected: Protected, size: Size, full_rank: int) -> Iterator[Section]:
    """Yield attacks on what is left of SPLIC without a part, and on what must fall."""
    left, plain = {}, {}
    if protected.has_splic:
        left = {title: protected.changed(full_rank, part) for title, part in ABLATIONS.items()}
        plain = _build(PLAIN)
    identity, exact = _attack(size), _attack(size, "exact")
    yield Section("parts", left, {"identity": identity})
    yield Section("parts", plain, {"identity": identity, "exact": exact})
    far = 32 / 255
    radii = {"8/255": identity, "32/255": _attack(size, epsilon=far)}
    by_exact = {"exact, 8/255": exact, "exact, 32/255": _attack(size, "exact", epsilon=far)}
    yield Section("broken", _build(KNOWN), radii | by_exact)
    yield Section("broken", _build(NONE), radii)


def _threat(size: Size, **change: Any) -> ThreatModel:
    """Return a threat model whose steps grow with its radius: 1/255 in the ball of 8/255."""
    epsilon = change.get("epsilon", 8 / 255)
    return ThreatModel(**{"steps": size.steps, "step_size": epsilon / 8, **change})


def _attack(
    size: Size, gradient: str = "identity", eot: int | None = None, loss: str = "ce", **change: Any
) -> Attack:
    eot = size.sweep_eot if eot is None else eot
    return EOTPGD(_threat(size, **change), eot=eot, gradient=gradient, loss=loss)


def _worst(size: Size, modes: Sequence[str], epsilon: float) -> Attack:
    """Return the worst of all gradients for each image, by other draws than are scored."""
    attacks = tuple(_attack(size, mode, size.eot, epsilon=epsilon) for mode in modes)
    return attacks[0] if len(attacks) == 1 else WorstCase(attacks=attacks)


def _losses(size: Size, usual: str) -> dict[str, Attack]:
    threat, eot = _threat(size), size.sweep_eot
    return {
        "PGD, cross-entropy": _attack(size, usual),
        "PGD, logit ratio": _attack(size, usual, loss="dlr"),
        "Auto-PGD, cross-entropy": APGD(threat, eot=eot, gradient=usual),
        "Auto-PGD, logit ratio": APGD(threat, eot=eot, gradient=usual, loss="dlr"),
    }


def _steps(size: Size, usual: str) -> dict[str, Attack]:
    return {
        f"{size.steps} of 1/255": _attack(size, usual),
        f"{2 * size.steps} of 1/255": _attack(size, usual, steps=2 * size.steps),
        f"{size.steps} of 0.5/255": _attack(size, usual, step_size=0.5 / 255),
        f"{size.steps} of 2/255": _attack(size, usual, step_size=2 / 255),
        f"{size.restarts} restarts": _attack(size, usual, restarts=size.restarts),
    }


def _queries(size: Size) -> dict[str, Attack]:
    eot = size.query_eot
    walk = HopSkipJump(ThreatModel(norm="linf"), iterations=size.walk, eot=eot)
    return {
        f"square, {size.queries}": Square(ThreatModel(), queries=size.queries, eot=eot),
        "labels alone": Within(attack=walk),
    }


def _build(specs: Mapping[str, str]) -> dict[str, Defense]:
    return {title: defense_from_spec(spec) for title, spec in specs.items()}


def choose_sections(plan: Sequence[Section], words: Sequence[str] | None) -> Sequence[Section]:
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
            raise ValueError(f"`sections` has {word!r}, which needs {NEEDS[word]}, or leave it out")
    return [section for section in plan if section.key in words]
