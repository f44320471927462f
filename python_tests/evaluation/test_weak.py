"""White boxes that never differentiate a defence: what an evaluation says of them."""

from __future__ import annotations

import re
import warnings

import pytest
from helpers.evaluation import make_dataset, make_network, run

from splic_ext.defenses import BitDepth, Defended, RandomDefense
from splic_ext.evaluation import EvaluationReport, to_markdown

pytest.importorskip("foolbox", reason="foolbox is not installed")


@pytest.mark.parametrize(
    ("defense", "attack", "says"),
    [
        ("usvt", "pgd", r"'usvt' is attacked by 'pgd' \(the gradient identity\) alone.*=exact$"),
        ("usvt:gradient=exact", "pgd", None),
        ("usvt:gradient=exact", "bpda", r"'bpda' \(the gradient identity\)"),
        ("tv", "fgsm", None),
        ("tv", "eot-pgd:steps=2", None),
        (
            "tv",
            "eot-pgd:steps=2,gradient=identity",
            r"'eot-pgd:steps=2,gradient=identity' \(the gradient ident",
        ),
        ("usvt", "apgd:eot=1,steps=2", r"'apgd:eot=1,steps=2' \(the gradient identity\)"),
        ("tv", "square:queries=2", r"'square:queries=2' \(no gradient\)"),
        ("bit-depth", "pgd", "it has no derivative: add attacks of other kinds"),
        ("tv+bit-depth", "pgd", "it has no derivative: add attacks of other kinds"),
        ("tv+identity", "pgd", None),
        ("identity", "square:queries=2", None),
    ],
)
def test_a_white_box_by_a_weak_gradient_says_so(defense, attack, says, tmp_path):
    """In a warning, in the report and in its table; the gray box has nothing to say."""
    changes = {"defenses": [defense], "attacks": [attack], "dataset": make_dataset(3)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = run(scenario="white", output=tmp_path, **changes)
    said = [str(warning.message) for warning in caught]
    assert tuple(said) == report.notes
    assert EvaluationReport.load(tmp_path / "report.json").notes == report.notes
    if says is None:
        assert not said
    else:
        (note,) = report.notes
        assert note.startswith("weak white box: ")
        assert re.search(says, note)
        assert note in to_markdown(report)
        both = [attack, "pgd"] if defense == "tv" else [attack]
        assert len(run(scenario="white", **{**changes, "attacks": both}).notes) == (len(both) == 1)
    assert not run(scenario="gray", **changes).notes


def test_a_defence_without_a_derivative_is_a_weak_white_box():
    class Detached(RandomDefense):
        def defend(self, images, index):
            return images.detach()

    with pytest.warns(UserWarning, match="Detached has no derivative"):
        report = run(scenario="white", defenses={"mine": Detached()}, dataset=make_dataset(3))
    assert "it has no derivative" in report.notes[0]


def test_a_defence_within_the_network_counts():
    network = Defended(make_network(), BitDepth())
    assert run(network, scenario="white", dataset=make_dataset(3), attacks=["pgd"]).notes
