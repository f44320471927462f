"""Texts that name a thing and its parameters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splic_ext.specs import parse_spec, parse_value, split_spec


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("fgsm", "fgsm", {}),
        (" FGSM ", "fgsm", {}),
        ("soft_impute", "soft-impute", {}),
        ("pgd:steps=40", "pgd", {"steps": 40}),
        ("pgd:epsilon=8/255,steps=40", "pgd", {"epsilon": 8 / 255, "steps": 40}),
        ("pgd: random-start = no , norm=l2", "pgd", {"random_start": "no", "norm": "l2"}),
        ("splic:recommended", "splic", {"preset": "recommended"}),
        ("splic:options='a,b'", "splic", {"options": "a,b"}),
        ('x:a = "b=c, d+e" , f=1', "x", {"a": "b=c, d+e", "f": 1}),
        ("splic:'a=b,c',d='7'", "splic", {"preset": "a=b,c", "d": "7"}),
        ("x:a=it's,b=that's", "x", {"a": "it's", "b": "that's"}),
        ("x:a='b,c=d", "x", {"a": "'b", "c": "d"}),
        ("splic:recommended,n_masks=2", "splic", {"preset": "recommended", "n_masks": 2}),
    ],
)
def test_specifications(text, name, parameters):
    assert parse_spec(text) == (name, parameters)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7), ("-7", -7), ("+7", 7), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e-3", 1e-3),
        ("-1E+2", -100.0), ("8/255", 8 / 255), ("-8 / 255", -8 / 255), ("0.5/2", 0.25),
        ("4/2", 2.0), ("true", True), ("False", False), ("NONE", None), ("exact", "exact"),
        ("1_000", "1_000"),
        ("'8/255'", "8/255"), ('"true"', "true"), ("'", "'"), ("a/b", "a/b"), ("nan", "nan"),
        ("1e999", float("inf")), ("٣", "٣"), ("1/2/3", "1/2/3"),
    ],
)  # fmt: skip
def test_values(text, value):
    result = parse_value(text)
    assert (result, type(result)) == (value, type(value))


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_values_that_were_printed_come_back(value):
    name, parameters = parse_spec(f"a:b={value!r}")
    assert (name, parameters) == ("a", {"b": value})
    assert type(parameters["b"]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with a name, got ''"),
        (":steps=3", "must begin with a name, got ''"),
        ("8/255", "must begin with a name, got '8/255'"),
        ("pgd steps=3", "must begin with a name, got 'pgd steps=3'"),
        ("pgd:", "items of the form key=value, got ''; write it like 'pgd:key=value"),
        ("pgd:steps=", "got 'steps='"),
        ("pgd:=3", "got '=3'"),
        ("pgd:steps=3,", "got ''"),
        ("pgd:steps=3,,epsilon=1", "got ''"),
        ("pgd:steps=3,recommended", "got 'recommended'"),
        ("pgd:1st=3", "got '1st=3'"),
        ("pgd:steps=3,steps=4", "gives `steps` twice; give it once"),
        ("pgd:random-start=true,random_start=false", "gives `random_start` twice"),
        ("splic:recommended,preset=paper", "gives `preset` twice"),
        (
            "pgd:epsilon=8/0",
            "`epsilon` of the specification 'pgd:epsilon=8/0': a fraction",
        ),
    ],
)
def test_what_is_no_specification(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_spec(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "pgd:steps=" + 5000 * "1",
            "`steps` of the specification 'pgd:steps=1.*1': "
            "an integer must have at most 1000 digits, got 5000",
        ),
        ("pgd:steps=1/" + 5000 * "0", "denominator 0, got '1/0.*0'; mend it"),
        (5000 * "1", "must begin with a name, got '1"),
        ("pgd:a=1," + 5000 * "b", "items of the form key=value, got 'b"),
        ("pgd:a=1,a=" + 5000 * "b", "gives `a` twice"),
    ],
)
def test_messages_on_long_texts_are_short(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_spec(text)
    assert len(str(caught.value)) < 350


@pytest.mark.parametrize("call", [parse_spec, split_spec])
def test_no_string(call):
    with pytest.raises(TypeError, match="a specification must be a string, got 7 of int"):
        call(7)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        ("a + b:x=1,y=2+c", ["a", "b:x=1,y=2", "c"]),
        ("a:x=1e+3+b", ["a:x=1e+3", "b"]),
        ("a:x=+3,y=+.5", ["a:x=+3,y=+.5"]),
        ("a++b", ["a", "", "b"]),
        ("a:x='b+c'+d:'e+f'", ["a:x='b+c'", "d:'e+f'"]),
        ("a:x='b+c", ["a:x='b", "c"]),
    ],
)
def test_several_in_one(text, parts):
    assert split_spec(text) == parts
