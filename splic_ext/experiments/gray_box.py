"""Tables 3 and 4 of the paper, and accuracy under attack at equal clean accuracy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from splic_ext.checks import check_integer
from splic_ext.data import Dataset
from splic_ext.evaluation import Record, evaluate
from splic_ext.evaluation.guards import check_output
from splic_ext.experiments import paper
from splic_ext.experiments.results import ExperimentResult, Row
from splic_ext.runs.inputs import check_dataset

__all__ = ["TABLES", "GrayBoxTable", "Subject", "reproduce"]

#: Defence -> how tables name it. Those of the paper, then those that it leaves out. SPLIC before
#: light denoising is ours, an exploratory row.
METHODS = {
    "identity": "no defence",
    "usvt": "USVT",
    "soft-impute": "Soft-Impute",
    "nuclear-norm": "ME-Net (nuclear norm)",
    "srf": "SRF (lambda 0)",
    "splic": "SPLIC, paper's constants",
    "splic:recommended": "SPLIC, recommended",
    "splic:recommended,tv_weight=0.02+tv:weight=0.03": "SPLIC, then total variation, 0.03",
    "tv:weight=0.1": "total variation, 0.1",
    "gaussian:sigma=0.7": "Gaussian blur, 0.7",
    "bilateral": "bilateral filter",
    "guided": "guided filter",
}
#: Attack -> how tables name it. All are made on the network without its defence.
ATTACKS = {"fgsm": "FGSM", "pgd": "PGD", "cw": "CW"}
#: Attacks that take so long that fewer images must do.
SLOW = ("cw",)
_MOST = 2**31 - 1
#: The paper prints one row for SPLIC; it stands beside each of ours.
SAME = {"splic:recommended": "splic"}


def _frontier() -> dict[str, str]:
    """Return denoisers and SPLIC by strength, and light denoising after another transformation."""

    def family(spec: str, name: str, strengths: tuple[float, ...]) -> dict[str, str]:
        return {spec.format(s): name.format(s) for s in strengths}

    return {
        "identity": "no defence",
        **family("tv:weight={}", "total variation, {}", (0.05, 0.07, 0.085, 0.1, 0.12, 0.15)),
        **family("gaussian:sigma={}", "Gaussian blur, {}", (0.5, 0.6, 0.7, 0.85)),
        **family(
            "gaussian:sigma=0.5+tv:weight={}",
            "Gaussian blur, 0.5, then total variation, {}",
            (0.05, 0.07, 0.085),
        ),
        **family(
            "splic:recommended,tv_weight={}", "SPLIC, lambda {}", (0.02, 0.05, 0.07, 0.1, 0.14)
        ),
        **family(
            "splic:recommended,tv_weight=0.02+tv:weight={}",
            "SPLIC, lambda 0.02, then total variation, {}",
            (0.02, 0.03, 0.04, 0.05),
        ),
    }


@dataclass(frozen=True)
class GrayBoxTable:
    """What a gray-box table shows.

    Attributes
    ----------
    title : str
    kinds : tuple of str
        Data sets that it is for: "cifar10", "svhn".
    attacks : tuple of str
        In its columns, after clean images.
    methods : mapping
        Text of a defence -> its name in the table.
    printed : mapping
        The paper's numbers.
    """

    title: str
    kinds: tuple[str, ...]
    attacks: tuple[str, ...]
    methods: Mapping[str, str] = field(default_factory=lambda: METHODS)
    printed: paper.Numbers = field(default_factory=dict)


#: The experiments of this module, by name.
TABLES: Mapping[str, GrayBoxTable] = {
    "table3": GrayBoxTable(
        "Table 3: gray box, without training",
        ("cifar10", "svhn"),
        ("fgsm", "pgd"),
        printed=paper.TABLE3,
    ),
    "table4": GrayBoxTable(
        "Table 4: SVHN, gray box, with and without total variation",
        ("svhn",),
        ("fgsm", "pgd", "cw"),
        {
            key: METHODS[key]
            for key in ("identity", "srf", "splic", "splic:recommended", "tv:weight=0.1")
        },
        paper.TABLE4,
    ),
    "frontier": GrayBoxTable(
        "SPLIC and plain denoising at equal clean accuracy, gray box",
        ("cifar10", "svhn"),
        ("fgsm", "pgd"),
        _frontier(),
    ),
}


@dataclass(frozen=True)
class Subject:
    """Images, and the network that is attacked and defended.

    Parameters
    ----------
    kind : {"cifar10", "svhn"}
        Whose column of the paper they belong to.
    dataset : Dataset
    model : nn.Module
        In eval mode.
    model_name : str, optional
        For the result; default: the name of its class.
    """

    kind: str
    dataset: Dataset
    model: nn.Module
    model_name: str | None = None


def reproduce(
    name: str,
    subjects: Sequence[Subject],
    *,
    draws: int = 10,
    seed: int = 0,
    limit: int | None = None,
    slow_limit: int | None = 500,
    attacks: Sequence[str] | None = None,
    batch_size: int = 100,
    output: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: bool = True,
    command: str | None = None,
) -> ExperimentResult:
    """Make a table of the paper anew: gray box, networks without training on completed images.

    Parameters
    ----------
    name : str
        One of :data:`TABLES`: "table3", "table4" or "frontier".
    subjects : sequence of Subject
        A section of the table for each, named after its data set.
    draws, seed, batch_size, device, progress, command
        As in :func:`splic_ext.evaluation.evaluate`.
    limit : int, optional
        Most images of each data set, the first ones.
    slow_limit : int, optional
        The same for attacks of thousands of steps (CW); None: as `limit`.
    attacks : sequence of str, optional
        Some of the table's attacks; default: all.
    output : path, optional
        Folder for NAME.json, NAME.csv, NAME.md, which are replaced, and for finished parts, which
        the same call takes up again.

    Returns
    -------
    ExperimentResult

    Raises
    ------
    ValueError
        An unknown name or attack, no subject, two of one name, or one whose data set the table
        has no place for; a parameter out of its range.
    TypeError, AttackError, OSError
        As :func:`splic_ext.evaluation.evaluate`.

    Notes
    -----
    Paper: L-inf 8/255; FGSM one step; PGD 7 steps of 2/255; CW with confidence 20, 5 binary
    search steps, learning rate 0.005, 1000 iterations, which is an L2 attack.

    Examples
    --------
    See :mod:`splic_ext.experiments`.
    """
    table = _choose(name, subjects)
    chosen = tuple(attacks) if attacks is not None else table.attacks
    for attack in chosen:
        if attack not in table.attacks:
            raise ValueError(
                f"`attacks` of {name} must be among {', '.join(table.attacks)}, got {attack!r}; "
                "leave it out"
            )
    if limit is not None:
        limit = check_integer("limit", limit, 1, _MOST)
    if slow_limit is not None:
        slow_limit = check_integer("slow_limit", slow_limit, 1, _MOST)
        slow_limit = slow_limit if limit is None else min(limit, slow_limit)
    check_output(None if output is None else Path(output), "", overwrite=True)
    rows: list[Row] = []
    records: tuple[Record, ...] = ()
    for subject in subjects:
        fast = [attack for attack in chosen if attack not in SLOW]
        slow = [attack for attack in chosen if attack in SLOW]
        for some, most in ((fast, limit), (slow, slow_limit or limit)):
            if not some and (some is slow or slow):
                continue
            report = evaluate(
                subject.model,
                subject.dataset,
                defenses=list(table.methods),
                attacks=some,
                draws=draws,
                seed=seed,
                batch_size=batch_size,
                limit=most,
                output=None if output is None else Path(output) / "work",
                overwrite=True,
                device=device,
                progress=progress,
                model_name=subject.model_name,
                command=command,
            )
            records = report.records
            # The clean images of the fast attacks are enough.
            kept = [r for r in records if r.attack is not None or some is fast or not fast]
            rows += [_row(table, subject, record) for record in kept]
    result = ExperimentResult(
        name, table.title, tuple(rows), records[-1].provenance, (f"seed {records[-1].seed}",)
    )
    if output is not None:
        result.save(output)
    return result


def _choose(name: str, subjects: Sequence[Subject]) -> GrayBoxTable:
    if not isinstance(name, str) or name not in TABLES:
        raise ValueError(f"`name` must be one of {', '.join(TABLES)}, got {name!r}; choose one")
    table = TABLES[name]
    if not isinstance(subjects, Sequence):
        raise TypeError(
            f"`subjects` must be a list, got {type(subjects).__name__}; put a single one into it"
        )
    if not subjects:
        raise ValueError(
            f"`subjects` of {name} must not be empty; give images and a network of "
            f"{' or '.join(table.kinds)}"
        )
    sections: set[str] = set()
    for subject in subjects:
        if not isinstance(subject, Subject):
            raise TypeError(
                f"`subjects` must hold Subject objects, got {type(subject).__name__}; make one "
                "with Subject(kind, dataset, model)"
            )
        if subject.kind not in table.kinds:
            raise ValueError(
                f"`subjects` of {name} must be of {' or '.join(table.kinds)}, got "
                f"{subject.kind!r}; leave it out"
            )
        check_dataset(subject.dataset)
        section = subject.dataset.name.partition("/")[0]
        if section in sections:
            raise ValueError(
                f"`subjects` must have data sets of different names, got {section!r} twice; rename "
                "one, since the sections of the table are named after them"
            )
        sections.add(section)
    return table


def _row(table: GrayBoxTable, subject: Subject, record: Record) -> Row:
    attack = record.attack or "clean"
    key = SAME.get(record.defense, record.defense)
    return Row.from_record(
        record,
        section=record.dataset.name,
        method=table.methods[record.defense],
        attack=ATTACKS.get(attack, attack),
        paper=table.printed.get((subject.kind, key, attack)),
    )
