"""Some random problems against the reference; ``python -m fuzz.differential`` has the others."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from fuzz.differential import judge, make_case

import splic_ext

CASES = 60


@pytest.mark.parametrize("seed", range(CASES))
def test_no_result_is_wrong(native_cpu, seed):
    try:
        verdicts = judge(make_case(seed), seed)
    except (ArithmeticError, np.linalg.LinAlgError):
        pytest.skip("the iteration diverges")
    assert not [verdict for verdict in verdicts if verdict.wrong]


@pytest.mark.parametrize("wrong", [1e-3, np.nan])
def test_a_wrong_result_is_found(native_cpu, wrong):
    """One pixel that is off, or no number, in each case that is well conditioned."""
    complete, found = splic_ext.complete, 0

    def perturbed(*arguments, **more):
        result = complete(*arguments, **more)
        result[0, 0, -1, -1] += wrong
        return result

    with mock.patch.object(splic_ext, "complete", perturbed):
        for seed in range(6):
            for verdict in judge(make_case(seed), seed):
                assert verdict.wrong == verdict.counts
                found += verdict.wrong
    assert found >= 6
