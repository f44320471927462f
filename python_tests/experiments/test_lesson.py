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
    ("plain", "defended", "told"),
    [
        (
            of(98),
            of(97),
            "Clean images are 97 % right with SPLIC and 98 % without it, too close to tell apart "
            "on 100 images.",
        ),
        (of(98), of(80), "SPLIC costs 18 points on clean images."),
        (of(80), of(98), "With SPLIC clean images are even 18 points better."),
    ],
)
def test_clean(plain, defended, told):
    assert module._clean(plain, defended) == told


@pytest.mark.parametrize("sentence", [module._black, module._gray])
def test_who_does_not_know_of_it(sentence):
    """Better, worse, or not to be told apart: three sentences, each of its own numbers."""
    better, worse, level = (
        sentence(of(20), of(70)), sentence(of(70), of(20)), sentence(of(50), of(52))
    )  # fmt: skip
    assert "50 points less harm" in better or "70 % right instead of 20 %" in better
    assert "50 points more" in worse
    assert "52 % right with SPLIC and 50 % without it, too close to tell apart" in level


@pytest.mark.parametrize(
    ("plain", "defended", "gray", "told"),
    [
        (of(5), of(0), of(40), "takes it all: 0 % are left, fewer than chance has right."),
        (of(5), of(12), of(40), "12 % are left, no more than without it; 28 points of the gray"),
        (of(5), of(25), of(60), "25 % are left, more than without it; 35 points of the gray box"),
        (of(5), of(38), of(40), "did not help this attacker, 38 % are left: try harder ones"),
        (of(5), of(80), of(40), "did worse than the one who knows less, 80 % are left: the att"),
    ],
)
def test_who_knows_of_it(plain, defended, gray, told):
    assert told in module._white(plain, defended, gray)


def test_sentences_and_numbers_agree(lesson):
    clean, black, gray, white = lesson.rows
    assert clean.learnt == module._clean(clean.plain, clean.defended)
    assert black.learnt == module._black(black.plain, black.defended)
    assert gray.learnt == module._gray(gray.plain, gray.defended)
    assert white.learnt == module._white(white.plain, white.defended, gray.defended)
    assert white.plain == gray.plain, "without a defence there is nothing more to know"
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


def test_it_is_repeatable(lesson):
    again = teach(TINY, seed=3, progress=False, command="splic-ext demo defend")
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
