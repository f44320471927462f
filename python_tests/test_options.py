"""SolverOptions: validation, presets, representation, round trips."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splic_ext import SolverOptions
from splic_ext.options import MAX_SIDE, PRESETS

FIELDS = {field.name: field.default for field in dataclasses.fields(SolverOptions)}

OTHERS = {
    "rank": 5,
    "tv_weight": 0.1,
    "start": "image",
    "first_delta": 0.05,
    "delta_decay": 0.6,
    "step_size": 1.0,
    "inner_iterations": 3,
    "max_iterations": 20,
    "tolerance": 1e-3,
    "anchor_fraction": 0.64,
    "alternate": False,
    "empty_value": 0.25,
    "n_masks": 4,
    "channels": "separate",
    "gradient_step": "literal",
    "tv_gradient": "forward",
    "algorithm": "fused",
}


def test_defaults_are_the_constants_of_the_paper():
    assert FIELDS == {
        "rank": None,
        "tv_weight": 0.02,
        "start": "zero",
        "first_delta": 1.0,
        "delta_decay": 0.45,
        "step_size": 0.5,
        "inner_iterations": 7,
        "max_iterations": 70,
        "tolerance": 1e-6,
        "anchor_fraction": 0.5,
        "alternate": True,
        "empty_value": None,
        "n_masks": 1,
        "channels": "stacked",
        "gradient_step": "srf",
        "tv_gradient": "exact",
        "algorithm": "auto",
    }
    assert SolverOptions.preset("paper") == SolverOptions()


def test_every_field_has_another_value_here():
    assert OTHERS.keys() == FIELDS.keys()
    assert all(OTHERS[name] != FIELDS[name] for name in FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_repr_shows_what_differs_and_evaluates(name):
    options = SolverOptions(**{name: OTHERS[name]})
    assert repr(options) == f"SolverOptions.preset('paper', {name}={OTHERS[name]!r})"
    assert eval(repr(options)) == options


@pytest.mark.parametrize("name", PRESETS)
def test_repr_names_the_nearest_preset(name):
    assert repr(SolverOptions.preset(name)) == f"SolverOptions.preset({name!r})"
    changed = SolverOptions.preset(name, step_size=0.7)
    assert repr(changed) == f"SolverOptions.preset({name!r}, step_size=0.7)"
    assert eval(repr(changed)) == changed == SolverOptions.preset(name).replace(step_size=0.7)


def test_a_preset_with_changes_is_checked():
    with pytest.raises(TypeError, match="'ranks'"):
        SolverOptions.preset("holes", ranks=3)
    with pytest.raises(ValueError, match="`n_masks`"):
        SolverOptions.preset("holes", n_masks=0)


def test_options_are_frozen_hashable_and_keyword_only():
    options = SolverOptions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.rank = 3
    assert len({options, SolverOptions(), SolverOptions(rank=3)}) == 2
    with pytest.raises(TypeError, match="positional"):
        SolverOptions(3)


def test_replace_validates():
    options = SolverOptions(rank=4)
    assert options.replace(rank=None) == SolverOptions()
    assert options.rank == 4
    with pytest.raises(ValueError, match="`rank`"):
        options.replace(rank=0)
    with pytest.raises(TypeError, match="ranc"):
        options.replace(ranc=3)


def test_dict_and_json_round_trip():
    for options in (SolverOptions(), SolverOptions(**OTHERS), *PRESETS.values()):
        assert options.to_dict().keys() == FIELDS.keys()
        assert SolverOptions.from_dict(options.to_dict()) == options
        assert SolverOptions.from_json(options.to_json()) == options
        named = json.loads(options.to_json())
        assert named.pop("preset") in repr(options)
        assert named == options.to_dict()
        assert SolverOptions.from_json(json.dumps(named)) == options  # as older versions wrote it
    assert SolverOptions.from_dict({"rank": 3}) == SolverOptions(rank=3)


@pytest.mark.parametrize("name", PRESETS)
def test_json_names_the_preset(name):
    options = SolverOptions.preset(name, step_size=0.7)
    assert json.loads(options.to_json())["preset"] == name
    assert SolverOptions.from_json(f'{{"preset": "{name}", "step_size": 0.7}}') == options


def test_round_trip_refuses_what_it_does_not_know():
    with pytest.raises(TypeError, match=r"'ranks'.*'rank'"):
        SolverOptions.from_dict({"ranks": 3})
    with pytest.raises(TypeError, match="unknown solver option 1; known are"):
        SolverOptions.from_dict({"ranks": 3, 1: 2})
    for values in (None, [("rank", 3)]):
        with pytest.raises(TypeError, match=r"mapping of names to values, got .*; pass"):
            SolverOptions.from_dict(values)
    for name in ("fast", None, 3, ["paper"]):
        with pytest.raises(ValueError, match="preset name must be one of"):
            SolverOptions.from_dict({"preset": name})
    with pytest.raises(TypeError, match="JSON object, got list; pass"):
        SolverOptions.from_json("[]")
    with pytest.raises(ValueError, match="Expecting"):
        SolverOptions.from_json("rank=3")


def test_presets():
    recommended = SolverOptions.preset("recommended")
    assert recommended == SolverOptions(tv_weight=0.1, max_iterations=56, tolerance=1e-8, n_masks=4)
    for name in ("fast", "", None, ["paper"]):
        with pytest.raises(
            ValueError,
            match="must be one of 'paper', 'recommended', 'photo', 'holes', 'refine', 'ablation', "
            "'inpaint', got",
        ):
            SolverOptions.preset(name)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rank", 0, rf"`rank` must be an integer in \[1, {MAX_SIDE}\], got 0"),
        ("rank", MAX_SIDE + 1, "`rank`"),
        ("inner_iterations", 0, "`inner_iterations`"),
        ("max_iterations", 0, "`max_iterations`"),
        ("max_iterations", 2**31, "`max_iterations`"),
        ("n_masks", -1, "`n_masks`"),
        ("tv_weight", -0.1, "`tv_weight` must be finite and >= 0, got -0.1"),
        ("tv_weight", math.nan, "`tv_weight`"),
        ("tv_weight", math.inf, "`tv_weight`"),
        ("first_delta", 0.0, r"`first_delta` must be finite and in \(0, 1\], got 0.0"),
        ("first_delta", 1.5, "`first_delta`"),
        ("first_delta", math.nan, "`first_delta`"),
        ("start", "middle", "`start` must be one of 'zero', 'image', 'mean', got 'middle'"),
        ("start", None, "`start`"),
        ("delta_decay", 0.0, r"`delta_decay` must be finite and in \(0, 1\], got 0.0"),
        ("delta_decay", 1.5, "`delta_decay`"),
        ("step_size", -1, "`step_size`"),
        ("tolerance", -1e-9, "`tolerance`"),
        ("tolerance", math.inf, "`tolerance`"),
        ("anchor_fraction", -0.1, r"`anchor_fraction` must be finite and in \[0, 1\]"),
        ("anchor_fraction", 1.1, "`anchor_fraction`"),
        ("anchor_fraction", math.nan, "`anchor_fraction`"),
        ("empty_value", -0.1, r"`empty_value` must be finite and in \[0, 1\], got -0.1"),
        ("empty_value", 1.1, "`empty_value`"),
        ("empty_value", math.nan, "`empty_value`"),
        ("channels", "both", "`channels` must be one of 'stacked', 'separate', got 'both'"),
        ("gradient_step", "", "`gradient_step` must be one of 'srf', 'literal'"),
        ("tv_gradient", None, "`tv_gradient` must be one of 'exact', 'forward', got None"),
    ],
)
def test_value_out_of_range(name, value, message):
    with pytest.raises(ValueError, match=message):
        SolverOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", 2.0),
        ("rank", 1.0),
        ("rank", 0.0),
        ("rank", -0.5),
        ("rank", float("nan")),
        ("rank", True),
        ("rank", "2"),
        ("inner_iterations", None),
        ("max_iterations", 1e3),
        ("n_masks", False),
        ("tv_weight", "0.1"),
        ("tv_weight", True),
        ("delta_decay", None),
        ("first_delta", "1"),
        ("first_delta", True),
        ("step_size", 1j),
        ("tolerance", []),
        ("anchor_fraction", "half"),
        ("empty_value", "black"),
        ("empty_value", True),
        ("rank", np.True_),
        ("tv_weight", np.True_),
        ("tv_weight", b"1"),
        ("alternate", 1),
        ("alternate", None),
        ("alternate", "yes"),
    ],
)
def test_value_of_the_wrong_kind(name, value):
    with pytest.raises(TypeError, match=rf"`{name}` must be .*, got {value!r}".replace("[", r"\[")):
        SolverOptions(**{name: value})


@pytest.mark.parametrize("name", ["tv_weight", "rank"])
def test_arrays_are_no_numbers(name):
    """Those of one element were numbers for earlier NumPy."""
    with pytest.raises(TypeError, match=rf"`{name}` must be an? \w+, got array\(\[1\]\)"):
        SolverOptions(**{name: np.array([1])})


def test_integers_beyond_all_floats():
    with pytest.raises(ValueError, match="`tv_weight` must be finite and >= 0, got inf"):
        SolverOptions(tv_weight=10**400)


def test_complex_scalars_are_no_numbers():
    """NumPy's would lose the imaginary part with a warning."""
    with pytest.raises(TypeError, match=r"`tv_weight` must be a number, got .* of complex128"):
        SolverOptions(tv_weight=np.complex128(1))


@pytest.mark.parametrize("value", [["stacked"], np.array(["stacked", "separate"]), b"stacked"])
def test_names_must_be_strings(value):
    with pytest.raises(ValueError, match="`channels` must be one of 'stacked', 'separate', got"):
        SolverOptions(channels=value)


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": 1},
        {"rank": MAX_SIDE},
        {"inner_iterations": 1, "max_iterations": 2**31 - 1},
        {"tv_weight": 0, "step_size": 0, "tolerance": 0},
        {"delta_decay": 1},
        {"first_delta": 1},
        {"first_delta": 5e-324},
        {"anchor_fraction": 0},
        {"anchor_fraction": 1},
        {"empty_value": 0},
        {"empty_value": 1},
    ],
)
def test_limits_are_allowed(changes):
    options = SolverOptions(**changes)
    assert {name: getattr(options, name) for name in changes} == changes


def test_numpy_scalars_become_plain_values():
    options = SolverOptions(
        rank=np.int64(3), tv_weight=np.float32(0.5), tolerance=0, channels=np.str_("separate")
    )
    assert type(options.channels) is str
    assert (type(options.rank), type(options.tv_weight)) == (int, float)
    assert (type(options.tolerance), options.tolerance) == (float, 0.0)
    assert SolverOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("size", "rank"),
    [((32, 32), 8), ((28, 28), 7), ((7, 100), 1), ((3, 3), 1), ((1, 1), 1), ((512, 9), 2)],
)
def test_default_rank_is_a_quarter_of_the_shorter_side(size, rank):
    assert SolverOptions().resolve_rank(*size) == rank


@pytest.mark.parametrize(
    ("size", "rank", "expected"),
    [((32, 32), 0.375, 12), ((8, 48), 0.375, 3), ((2, 9), 0.375, 1), ((32, 7), 0.999, 6)],
)
def test_rank_as_a_share_of_the_shorter_side(size, rank, expected):
    options = SolverOptions(rank=rank)
    assert options.resolve_rank(*size) == expected
    assert SolverOptions.from_json(options.to_json()) == options
    assert SolverOptions(rank=np.float64(rank)) == options


def test_rank_up_to_the_shorter_side():
    assert SolverOptions(rank=5).resolve_rank(9, 5) == 5
    with pytest.raises(
        ValueError, match=r"`rank` must be at most min\(H, W\) = 5 .* 9 x 5, got 6; .*`rank=None`"
    ):
        SolverOptions(rank=6).resolve_rank(9, 5)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "rank": st.none() | st.integers(1, MAX_SIDE),
            "tv_weight": st.floats(0, 1e6),
            "start": st.sampled_from(["zero", "image", "mean"]),
            "first_delta": st.floats(0, 1, exclude_min=True),
            "delta_decay": st.floats(0, 1, exclude_min=True),
            "step_size": st.floats(0, 1e6),
            "tolerance": st.floats(0, 1),
            "anchor_fraction": st.floats(0, 1),
            "alternate": st.booleans(),
            "empty_value": st.none() | st.floats(0, 1),
            "n_masks": st.integers(1, 100),
            "channels": st.sampled_from(["stacked", "separate"]),
        },
    )
)
def test_round_trips_hold_for_all_options(changes):
    options = SolverOptions(**changes)
    assert SolverOptions.from_json(options.to_json()) == options
    assert eval(repr(options)) == options


@pytest.mark.parametrize("text", ["[" * 100_000, '{"rank":' * 100_000])
def test_json_that_is_nested_too_deeply(text):
    with pytest.raises(ValueError, match=r"must be a JSON object|Expecting value"):
        SolverOptions.from_json(text)


def test_long_names_and_values_are_shortened():
    for values in ({"a" * 5000: 1}, {"channels": "a" * 5000}):
        with pytest.raises((TypeError, ValueError)) as caught:
            SolverOptions.from_dict(values)
        assert len(str(caught.value)) < 500
