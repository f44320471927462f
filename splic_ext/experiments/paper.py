"""Numbers that Zhao et al. 2021 (arXiv:2103.02781) print, in %."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["TABLE3", "TABLE4"]

#: (data set, method, attack) -> accuracy; "clean" is no attack.
Numbers = Mapping[tuple[str, str, str], float]

#: Gray box, no training.
TABLE3: Numbers = MappingProxyType(
    {
        ("cifar10", "usvt", "fgsm"): 12.1,
        ("cifar10", "usvt", "pgd"): 12.1,
        ("svhn", "usvt", "fgsm"): 36.7,
        ("svhn", "usvt", "pgd"): 34.2,
        ("cifar10", "soft-impute", "fgsm"): 30.1,
        ("cifar10", "soft-impute", "pgd"): 27.3,
        ("svhn", "soft-impute", "fgsm"): 56.1,
        ("svhn", "soft-impute", "pgd"): 55.6,
        ("cifar10", "nuclear-norm", "fgsm"): 31.2,
        ("cifar10", "nuclear-norm", "pgd"): 31.3,
        ("svhn", "nuclear-norm", "fgsm"): 55.4,
        ("svhn", "nuclear-norm", "pgd"): 54.5,
        ("cifar10", "splic", "fgsm"): 40.9,
        ("cifar10", "splic", "pgd"): 43.6,
        ("svhn", "splic", "fgsm"): 59.8,
        ("svhn", "splic", "pgd"): 63.6,
    }
)

#: SVHN, gray box.
TABLE4: Numbers = MappingProxyType(
    {
        ("svhn", "srf", "clean"): 89.6,
        ("svhn", "srf", "fgsm"): 57.0,
        ("svhn", "srf", "pgd"): 54.6,
        ("svhn", "srf", "cw"): 83.5,
        ("svhn", "splic", "clean"): 95.9,
        ("svhn", "splic", "fgsm"): 59.8,
        ("svhn", "splic", "pgd"): 63.6,
        ("svhn", "splic", "cw"): 86.0,
    }
)
