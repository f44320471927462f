"""Numbers that Zhao et al. 2021 (arXiv:2103.02781) print, in %."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

__all__ = ["FIGURES", "TABLE1", "TABLE2", "TABLE3", "TABLE4", "TABLES", "Numbers"]

#: (data set, method, attack) -> accuracy; "clean" is no attack.
Numbers = Mapping[tuple[str, str, str], float]


def _numbers(
    columns: Sequence[tuple[str, str]], lines: Mapping[str, tuple[float | None, ...]]
) -> Numbers:
    """Return the numbers of a table, from a line for each method, column by column."""
    return {
        (kind, method, attack): number
        for method, numbers in lines.items()
        for (kind, attack), number in zip(columns, numbers, strict=True)
        if number is not None
    }


def _columns(kind: str, attacks: str) -> list[tuple[str, str]]:
    return [(kind, attack) for attack in attacks.split()]


#: Black box, networks trained on completed images.
TABLE1: Numbers = MappingProxyType(
    {
        **_numbers(
            _columns("cifar10", "clean fgsm pgd cw"),
            {
                "vanilla": (93.4, 24.8, 7.6, 9.3),
                "madry": (79.4, 67.0, 64.2, 78.7),
                "thermometer": (87.5, None, 77.7, None),
                "tla-rn": (81.0, None, 66.0, None),
                "tla-sa": (86.2, None, 61.7, None),
                "tla": (86.2, None, 70.6, None),
                "menet": (94.9, 92.2, 91.8, 93.6),
                "splic": (94.0, 91.0, 92.2, 93.6),
            },
        ),
        **_numbers(
            _columns("svhn", "clean fgsm pgd cw"),
            {
                "vanilla": (95.0, 31.2, 8.6, 20.4),
                "menet": (96.0, 91.8, 91.1, 95.5),
                "splic": (95.8, 92.9, 93.0, 95.7),
            },
        ),
    }
)

#: White box, BPDA.
TABLE2: Numbers = MappingProxyType(
    {
        ("cifar10", "vanilla", "bpda"): 0.0,
        ("cifar10", "tv", "bpda"): 14.7,
        ("cifar10", "tla-rn", "bpda"): 52.5,
        ("cifar10", "tla-sa", "bpda"): 53.5,
        ("cifar10", "tla", "bpda"): 53.9,
        ("cifar10", "menet", "bpda"): 59.8,
        ("cifar10", "splic", "bpda"): 68.5,
        ("svhn", "vanilla", "bpda"): 0.0,
        ("svhn", "madry", "bpda"): 52.5,
        ("svhn", "menet", "bpda"): 74.7,
        ("svhn", "splic", "bpda"): 80.8,
    }
)

#: Gray box, no training.
TABLE3: Numbers = MappingProxyType(
    _numbers(
        _columns("cifar10", "fgsm pgd") + _columns("svhn", "fgsm pgd"),
        {
            "usvt": (12.1, 12.1, 36.7, 34.2),
            "soft-impute": (30.1, 27.3, 56.1, 55.6),
            "nuclear-norm": (31.2, 31.3, 55.4, 54.5),
            "splic": (40.9, 43.6, 59.8, 63.6),
        },
    )
)

#: SVHN, gray box.
TABLE4: Numbers = MappingProxyType(
    _numbers(
        _columns("svhn", "clean fgsm pgd cw"),
        {"srf": (89.6, 57.0, 54.6, 83.5), "splic": (95.9, 59.8, 63.6, 86.0)},
    )
)

#: By the name of the experiment.
TABLES: Mapping[str, Numbers] = MappingProxyType(
    {"table1": TABLE1, "table2": TABLE2, "table3": TABLE3, "table4": TABLE4}
)

#: What the figures claim; none prints a number.
FIGURES: Mapping[str, str] = MappingProxyType(
    {
        "figure3": "SPLIC takes the noise and the detail, and leaves the structure",
        "figure4": "the relative change falls, and the iteration comes to rest",
        "figure5": "details go with the rank, the structure stays",
        "figure6": "accuracy is best at a quarter of the full rank, 8 of 32",
        "figure7": "SPLIC is above the bilateral and the guided filter, clean and under attack",
        "figure8": "attacked images are restored",
        "figure9": "accuracy under attack is best for a lambda of 0.01 to 0.05",
        "figure10": "features of different classes are better separated with SPLIC",
        "figure11": "SPLIC keeps a very good clean accuracy at different shares of anchors",
        "figure12": "total variation raises the PSNR",
    }
)
