"""The lesson: sentences that follow from the numbers, and all of it at its smallest size."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")

from splic_ext.evaluation import wilson_interval
from splic_ext.evaluation.statistics import Accuracy
from splic_ext.experiments import LessonSize, teach
from splic_ext.experiments import lesson as module

TINY = LessonSize(images=40, epochs=1, attacked=6, steps=1, eot=1, draws=2, pictures=2)


@pytest.fixture(scope="module")
def lesson():
    return teach(TINY, seed=3, progress=False, command="splic-ext demo defend")


def of(percent, n=100):
    return Accuracy(percent / 100, *wilson_interval(round(percent * n / 100), n), n)


@pytest.mark.parametrize(
    ("plain", "defended", "gained", "told"),
    [
        (
            of(98), of(97), 0,
            "Clean images are 97 % right with SPLIC and 98 % without it, too close to tell apart "
            "on 100 images.",
        ),
        (of(98), of(80), -1, "SPLIC costs 18 points on clean images."),
        (of(80), of(81), 1, "With SPLIC clean images are even 1 point better."),
    ],
)  # fmt: skip
def test_clean(plain, defended, gained, told):
    assert module._clean(plain, defended, gained) == told


@pytest.mark.parametrize("sentence", [module._black, module._gray])
def test_who_does_not_know_of_it(sentence):
    """Better, worse, or not to be told apart: three sentences, each of its own numbers."""
    better = sentence(of(20), of(70), 1)
    assert "50 points less harm" in better or "70 % right instead of 20 %" in better
    assert "50 points more harm" in sentence(of(70), of(20), -1)
    level = sentence(of(50), of(52), 0)
    assert "52 % right with SPLIC and 50 % without it, too close to tell apart" in level


@pytest.mark.parametrize(
    ("defended", "gained", "helped", "told"),
    [
        (of(0), -1, -1, "takes it all: 0 % are left, fewer than chance has right."),
        (of(12), 0, -1, "12 % are left, no more than without it; 28 points of the gray box"),
        (of(25), 1, -1, "25 % are left, more than without it; 15 points of the gray box were"),
        (of(38), 1, 0, "did not help this attacker, 38 % are left: try harder ones before"),
    ],
)
def test_who_knows_of_it(defended, gained, helped, told):
    assert told in module._white(defended, gained, of(40), helped)


def test_pairs_are_compared(lesson):
    """The vote of each image counts: what two shares alone would leave open."""
    plain, defended = (Votes([k < right for k in range(100)]) for right in (40, 48))
    assert module.compare(defended, plain) == 1
    assert module.compare(plain, defended) == -1
    assert module.compare(plain, plain) == 0
    crossed = Votes([k >= 52 for k in range(100)])
    assert module.compare(crossed, plain) == 0, "as many, but others"


@dataclasses.dataclass
class Votes:
    """All of a record that is compared."""

    voted: list


def test_rows(lesson):
    clean, black, gray, white = lesson.rows
    assert clean.attacker.startswith("nobody")
    assert clean.learnt in {module._clean(clean.plain, clean.defended, k) for k in (-1, 0, 1)}
    assert black.learnt in {module._black(black.plain, black.defended, k) for k in (-1, 0, 1)}
    assert gray.learnt in {module._gray(gray.plain, gray.defended, k) for k in (-1, 0, 1)}
    assert white.plain == gray.plain, "without a defence there is nothing more to know"
    assert white.defended.value <= gray.defended.value, "who knows more does no less"
    assert {row.plain.n for row in lesson.rows} == {6}
    assert all(row.learnt.count(".") == 1 for row in lesson.rows), "one sentence a row"


def test_pictures(lesson):
    plain, gray, white = lesson.galleries
    assert plain.rows == ("original", "attacked")
    assert gray.rows == white.rows
    assert gray.rows == ("original", "original, completed", "attacked", "attacked, completed")
    assert gray.columns == ("disc", "ring")
    assert gray.images[:2] == white.images[:2], "what is not attacked is the same"
    assert gray.images[2] != white.images[2]
    assert gray.images[2] != gray.images[3]


def test_how_it_was_made(lesson):
    assert "seed 3" in lesson.notes[0]
    assert lesson.provenance.command == "splic-ext demo defend"
    assert {"training with SPLIC", "black box", "white box"} < set(lesson.seconds)
    assert all(spent >= 0 for spent in lesson.seconds.values())


def test_it_is_repeatable(lesson, capsys):
    again = teach(TINY, seed=3, progress=True, command="splic-ext demo defend")
    told = [line for line in capsys.readouterr().err.splitlines() if " of 8: " in line]
    assert told == [f"{i + 1} of 8: {name}" for i, name in enumerate(lesson.seconds)]
    assert (again.rows, again.galleries) == (lesson.rows, lesson.galleries)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(LessonSize)])
def test_sizes_are_checked(name):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer in"):
        LessonSize(**{name: 0})


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"size": "small"}, TypeError, "`size` must be a LessonSize, got str; make one"),
        ({"seed": -1}, ValueError, "`seed` must be an integer in"),
    ],
)
def test_bad_input(given, error, message):
    with pytest.raises(error, match=message):
        teach(**given)
