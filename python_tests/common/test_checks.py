"""Checks of scalar parameters: what passes, and messages that stay short."""

from __future__ import annotations

import math

import numpy as np
import pytest

from splic_ext.common.checks import check_bool, check_integer, check_number, shortened, told_apart


@pytest.mark.parametrize("value", [True, False])
def test_truth(value):
    assert check_bool("flag", value) is value


@pytest.mark.parametrize("value", [0, 1, None, "yes", np.True_, [True]])
def test_no_truth(value):
    message = rf"`flag` must be True or False, got .* of {type(value).__name__}; convert it with b"
    with pytest.raises(TypeError, match=message):
        check_bool("flag", value)


@pytest.mark.parametrize(
    ("check", "value", "error", "message"),
    [
        (check_integer, 10**5000, ValueError, "got one of 16610 bits; choose one of these"),
        (check_integer, -(2**64), ValueError, "got -18446744073709551616; choose one"),
        (check_integer, 5000 * "1", TypeError, "got '1.*1' of str; convert it with int"),
        (check_number, 5000 * "1", TypeError, "got '1.*1' of str; convert it with float"),
        (check_number, 10**5000, ValueError, "got inf; choose one of these"),
        (check_bool, 5000 * "1", TypeError, "got '1.*1' of str; convert it with bool"),
    ],
    ids=range(6),
)
def test_long_values_are_shortened(check, value, error, message):
    bounds = () if check is check_bool else (0, 5)
    with pytest.raises(error, match=message) as caught:
        check("count", value, *bounds)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("length", [0, 79, 80, 81, 5000])
@pytest.mark.parametrize("most", [80, 81])
def test_shortened(length, most):
    text = "".join(chr(97 + i % 26) for i in range(length))
    result = shortened(text, most)
    assert len(result) == min(length, most)
    if length <= most:
        assert result == text
    else:
        begin, end = result.split("...")
        assert text.startswith(begin)
        assert text.endswith(end)


@pytest.mark.parametrize(
    ("value", "bound", "text"),
    [
        (1.5, 1.0, "1.5"),
        (1.0, 1.0, "1"),
        (1.0000001, 1.0, "1.0000001000000001"),
        (-1e-9, 0.0, "-1e-09"),
        (0.0, 0.0, "0"),
        (254.9999999, 255.0, "254.99999990000001"),
        (math.nan, 1.0, "nan"),
    ],
)
def test_numbers_are_told_apart_from_their_bound(value, bound, text):
    assert told_apart(value, bound) == text
