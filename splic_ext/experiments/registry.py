"""All experiments by name: what each of them takes and needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.figures.features import figure10
from splic_ext.experiments.figures.filters import FILTERS, figure7
from splic_ext.experiments.figures.pictures import figure3, figure8
from splic_ext.experiments.figures.solver import figure4, figure5, figure12
from splic_ext.experiments.figures.sweeps import figure6, figure9, figure11
from splic_ext.experiments.results.keys import PAPER_ATTACKS
from splic_ext.experiments.subjects import KINDS
from splic_ext.experiments.tables.gray_box import TABLES, make_table
from splic_ext.experiments.tables.hypotheses import hypotheses
from splic_ext.experiments.tables.ranking import RANKED, ranking
from splic_ext.experiments.tables.trained import (
    BLACK_BOX,
    SURROGATE,
    WHITE_BOX,
    Method,
    table1,
    table2,
)

__all__ = ["EXPERIMENTS", "Experiment"]


@dataclass(frozen=True)
class Experiment:
    """A table or figure.

    Attributes
    ----------
    title : str
    run : callable
        Takes a :class:`~splic_ext.experiments.bench.Bench`, returns an
        :class:`~splic_ext.experiments.bench.Outcome`.
    kinds : tuple of str
        Data that it takes.
    attacks : tuple of str
        Those that may be left out; none: `attacks` is not for it.
    trains : bool
        Whether it trains networks, even where one is given.
    draws : bool
        Whether it has curves or pictures.
    budgeted : bool
        Whether it has a budget in any case; the others take all images without one.
    sklearn : bool
        Whether it needs scikit-learn.
    own : collection of str, optional
        It takes defences that are given, beside those of these names; None: it takes none.
    white : bool
        Whether it attacks them by BPDA.
    tried : mapping, optional
        Scale of a budget -> the data that :func:`~splic_ext.experiments.reproduce_all` runs it
        on; default: all that it takes.
    """

    title: str
    run: Callable[[Bench], Outcome]
    kinds: tuple[str, ...] = KINDS
    attacks: tuple[str, ...] = ()
    trains: bool = False
    draws: bool = False
    budgeted: bool = True
    sklearn: bool = False
    own: Collection[str] | None = None
    white: bool = False
    tried: Mapping[str, tuple[str, ...]] | None = None


#: Of experiments that train dozens of networks.
_SOME = MappingProxyType(
    {"smoke": ("digits", "shapes"), "cpu": ("svhn", "digits", "shapes"), "gpu": KINDS}
)


def _names(*parts: Iterable[str]) -> frozenset[str]:
    return frozenset(name for part in parts for name in part if name)


def _names_of(methods: Iterable[Method]) -> frozenset[str]:
    return _names(*((method.key, method.title, method.defense) for method in methods))


def _gray_box(name: str) -> Experiment:
    table = TABLES[name]
    return Experiment(
        table.title, make_table, table.kinds, table.attacks, budgeted=False,
        own=_names(table.methods, table.methods.values()),
    )  # fmt: skip


def _figure(title: str, run: Callable[[Bench], Outcome], **more: Any) -> Experiment:
    return Experiment(title, run, draws=True, **more)


_ATTACKS = tuple(PAPER_ATTACKS)

#: Name -> experiment, in the order of the paper, then those that it lacks.
EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        "table1": Experiment(
            "Table 1: black box, trained on completed images", table1, KINDS, _ATTACKS,
            trains=True, own=_names_of((*BLACK_BOX, SURROGATE)),
        ),
        "table2": Experiment(
            "Table 2: white box, BPDA and adaptive attacks", table2, trains=True,
            own=_names_of(WHITE_BOX), white=True,
        ),
        "table3": _gray_box("table3"),
        "table4": _gray_box("table4"),
        "figure3": _figure("Figure 3: attacked images and SPLIC", figure3),
        "figure4": _figure("Figure 4: convergence", figure4),
        "figure5": _figure("Figure 5: pictures of different ranks", figure5),
        "figure6": _figure("Figure 6: accuracy against rank", figure6, trains=True),
        "figure7": _figure(
            "Figure 7: SPLIC and edge-preserving filters, trained on each", figure7,
            attacks=_ATTACKS, trains=True, own=_names_of(FILTERS), white=True,
        ),
        "figure8": _figure("Figure 8: original, attacked, restored", figure8, trains=True),
        "figure9": _figure("Figure 9: accuracy against lambda", figure9, trains=True),
        "figure10": _figure(
            "Figure 10: features with and without SPLIC", figure10, trains=True, sklearn=True
        ),
        "figure11": _figure("Figure 11: clean accuracy against the share of anchors", figure11),
        "figure12": _figure("Figure 12: PSNR with and without total variation", figure12),
        "frontier": _gray_box("frontier"),
        "hypotheses": Experiment(
            "Hypotheses: one change at a time, clean, black box, white box", hypotheses,
            trains=True, tried=_SOME,
        ),
        "ranking": Experiment(
            "Ranking: SPLIC chosen on training images, total variation, ME-Net, trained alike",
            ranking, trains=True, tried=_SOME, own=RANKED, white=True,
        ),
    }
)  # fmt: skip
