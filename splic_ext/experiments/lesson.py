"""A lesson of a minute: train on shapes with and without SPLIC, attack, say what was learnt."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from splic_ext.attacks import EOTPGD, PGD, Attack, ThreatModel
from splic_ext.common.checks import check_integer
from splic_ext.common.optional import optional
from splic_ext.data import Dataset, load_dataset
from splic_ext.defenses import Defended, defense_from_spec, seeded_masks
from splic_ext.evaluation import (
    Accuracy,
    EvaluationReport,
    Provenance,
    Record,
    evaluate,
    paired_difference,
    worst_case,
)
from splic_ext.evaluation.weak import not_warned
from splic_ext.experiments.results.rows import Gallery, encode_picture
from splic_ext.runs.fingerprints import derive_seed
from splic_ext.runs.progress import tell
from splic_ext.training import TrainingOptions, train

__all__ = ["Lesson", "LessonRow", "LessonSize", "teach"]

DEFENSE = "splic"
NETWORK = "shapes_cnn"
#: What is done, in this order.
PHASES = (
    "drawing the images",
    "training without SPLIC",
    "training the attacker's network",
    "training with SPLIC",
    "black box",
    "gray box",
    "white box",
    "pictures",
)
#: Seed of the attacker's own network, beside that of the lesson.
SURROGATE = 1
#: Completed copies of the training images: other masks in other epochs.
COPIES = 3
#: A gradient past the solver takes that many draws in the time of one through it.
CHEAPER = 3
#: Pictures are magnified, so that pages that do not scale them show squares.
MAGNIFY = 3
#: An accuracy that is surely below this is none: chance for ten classes.
CHANCE = 0.1


@dataclass(frozen=True)
class LessonSize:
    """How much is done; the defaults take a minute or so on two cores.

    Attributes
    ----------
    images, epochs : int
        Training images of each network, the first ones, and passes over them.
    attacked : int
        Test images, the first ones.
    steps, eot : int
        Of the attacker who knows all: steps of 2/255, and draws of the masks for each
        gradient through the solver; past it there are three times as many.
    draws : int
        Fresh draws of the masks for each finished image.
    pictures : int
        Images that are shown.

    Raises
    ------
    TypeError, ValueError
        A number that is no positive integer.
    """

    images: int = 5000
    epochs: int = 6
    attacked: int = 100
    steps: int = 12
    eot: int = 3
    draws: int = 4
    pictures: int = 5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_integer(name, value, 1)


@dataclass(frozen=True)
class LessonRow:
    """What one attacker leaves of both networks, and what follows.

    Attributes
    ----------
    attacker : str
        Who attacks, and what they know.
    plain, defended : Accuracy
        Of the network without a defence, and of the other one behind SPLIC.
    learnt : str
        One sentence; it follows from the two numbers and from those of the rows above.
    """

    attacker: str
    plain: Accuracy
    defended: Accuracy
    learnt: str


@dataclass(frozen=True)
class Lesson:
    """What was learnt.

    Attributes
    ----------
    rows : tuple of LessonRow
        Without an attacker, then the black, the gray and the white box.
    galleries : tuple of Gallery
        Images: original, attacked, completed, and what the networks say.
    notes : tuple of str
        How it was made.
    seconds : mapping
        Phase -> how long it took.
    provenance : Provenance
    """

    rows: tuple[LessonRow, ...]
    galleries: tuple[Gallery, ...]
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    provenance: Provenance


@dataclass
class _Teacher:
    """The lesson at work."""

    size: LessonSize
    seed: int
    progress: bool
    command: str | None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Tell of a phase, and add up the time of its blocks."""
        if self.progress:
            tell(f"{PHASES.index(name) + 1} of {len(PHASES)}: {name}")
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def train(self, data: Dataset, *, defense: str = "identity", seed: int = 0) -> nn.Module:
        """Train a network, on completed copies if there is a defence."""
        options = TrainingOptions(
            epochs=self.size.epochs, batch_size=64, crop=1, channels_last=True, defense=defense,
            copies=0 if defense == "identity" else COPIES,
            seed=derive_seed(self.seed, "lesson", seed),
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            result = train(
                NETWORK, data, options, cache=Path(folder), progress=self.progress,
                command=self.command,
            )  # fmt: skip
        return result.network.requires_grad_(False)

    def evaluate(
        self,
        network: nn.Module,
        data: Dataset,
        attacks: Mapping[str, Attack],
        defense: str = "identity",
        scenario: str = "gray",
        surrogate: nn.Module | None = None,
    ) -> EvaluationReport:
        """Attack a network behind a defence."""
        with not_warned():
            return evaluate(
                network, data, defenses=[defense], attacks=attacks, scenario=scenario,
                surrogate=surrogate, draws=self.size.draws, seed=self.seed,
                progress=self.progress, command=self.command,
            )  # fmt: skip


def teach(
    size: LessonSize = LessonSize(),
    *,
    seed: int = 0,
    progress: bool = True,
    command: str | None = None,
) -> Lesson:
    """Train on shapes with and without SPLIC, attack both, and say what follows.

    Three small networks are trained: one without a defence, one behind SPLIC with the paper's
    constants, and one for an attacker who has only their own. All attacks stay within 8 of 255
    levels (L-inf). Who knows nothing of the defence takes PGD with the paper's constants. Who
    knows all follows the mean gradient over fresh masks [1]_, once through the solver itself and
    once past it (BPDA), and does what the others do; the worst counts for each image.

    Parameters
    ----------
    size : LessonSize, optional
    seed : int, default 0
        In [0, 2**64): of networks, attacks and masks.
    progress : bool, default True
        As for :func:`splic_ext.training.train`.
    command : str, optional
        For the record: the command line.

    Returns
    -------
    Lesson

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    MissingExtraError
        foolbox is not installed.
    AttackError
        A network has no gradient to follow.

    References
    ----------
    .. [1] A. Athalye et al., "Synthesizing Robust Adversarial Examples", ICML 2018.

    Examples
    --------
    >>> size = LessonSize(images=60, epochs=1, attacked=10, steps=1, eot=1, draws=1, pictures=1)
    >>> lesson = teach(size, progress=False)
    >>> [row.attacker.partition(":")[0] for row in lesson.rows]
    ['nobody', 'black box', 'gray box', 'white box']
    """
    if not isinstance(size, LessonSize):
        raise TypeError(
            f"`size` must be a LessonSize, got {type(size).__name__}; make one with its numbers"
        )
    seed = check_integer("seed", seed, 0, 2**64 - 1)
    with optional("`teach`", "attack", "foolbox"):  # now, and not after the trainings
        import_module("foolbox")
    with optional("`teach`", "report", "PIL"):
        import_module("PIL")
    teacher = _Teacher(size, seed, progress, command)
    with teacher.phase("drawing the images"):
        data = load_dataset("shapes", "train", limit=size.images)
        test = load_dataset("shapes", limit=size.attacked)
    with teacher.phase("training without SPLIC"):
        plain = teacher.train(data)
    with teacher.phase("training the attacker's network"):
        other = teacher.train(data, seed=SURROGATE)
    with teacher.phase("training with SPLIC"):
        defended = teacher.train(data, defense=DEFENSE)
    unaware = {"pgd": PGD()}
    threat = ThreatModel(steps=size.steps, step_size=2 / 255)
    aware = {
        "exact": EOTPGD(threat, eot=size.eot, gradient="exact"),
        "identity": EOTPGD(threat, eot=CHEAPER * size.eot, gradient="identity"),
    }
    with teacher.phase("black box"):
        black = [
            teacher.evaluate(plain, test, unaware, "identity", "black", other).records,
            teacher.evaluate(defended, test, unaware, DEFENSE, "black", other).records,
        ]
    with teacher.phase("gray box"):
        gray = [
            teacher.evaluate(plain, test, unaware).records,
            teacher.evaluate(defended, test, unaware, DEFENSE).records,
        ]
    with teacher.phase("white box"):
        white = teacher.evaluate(defended, test, aware, DEFENSE, "white").records
        # Who knows more can do what those do who know less.
        worst = worst_case([gray[1][1], *white[1:]], "worst of them")
    with teacher.phase("pictures"):
        galleries = _galleries(teacher, plain, defended, test, unaware["pgd"], aware["identity"])
    found = {
        "clean": (gray[0][0], gray[1][0]),
        "black": (black[0][1], black[1][1]),
        "gray": (gray[0][1], gray[1][1]),
        "white": (gray[0][1], worst),
    }
    return Lesson(
        _rows(found), galleries, _notes(size, seed), teacher.seconds, white[-1].provenance
    )


# Sentences


def _rows(found: Mapping[str, tuple[Record, Record]]) -> tuple[LessonRow, ...]:
    """Return the rows of the table, whose sentences follow from the records."""
    means = {key: (plain.mean, defended.mean) for key, (plain, defended) in found.items()}
    # Behind SPLIC against without it, and against the attacker who knows less.
    gained = {key: compare(defended, plain) for key, (plain, defended) in found.items()}
    helped = compare(found["white"][1], found["gray"][1])
    gray = means["gray"][1]
    return (
        LessonRow(
            "nobody: clean images", *means["clean"], _clean(*means["clean"], gained["clean"])
        ),
        LessonRow(
            "black box: knows neither network nor SPLIC",
            *means["black"],
            _black(*means["black"], gained["black"]),
        ),
        LessonRow(
            "gray box: knows the network, not SPLIC",
            *means["gray"],
            _gray(*means["gray"], gained["gray"]),
        ),
        LessonRow(
            "white box: knows network and SPLIC, not the next masks",
            *means["white"],
            _white(means["white"][1], gained["white"], gray, helped),
        ),
    )


def compare(first: Record, second: Record) -> int:
    """Return 1 or -1 if the first is surely right more, or less, often on these images, else 0.

    What counts are the votes of all draws, pair by pair, at 95 %.
    """
    difference = paired_difference(first.voted, second.voted)
    return (difference.low > 0) - (difference.high < 0)


def _clean(plain: Accuracy, defended: Accuracy, gained: int) -> str:
    if gained == 0:
        return f"Clean images are {_level(plain, defended)}."
    if gained < 0:
        return f"SPLIC costs {_points(plain, defended)} on clean images."
    return f"With SPLIC clean images are even {_points(defended, plain)} better."


def _black(plain: Accuracy, defended: Accuracy, gained: int) -> str:
    who = "An attacker with a network of their own"
    if gained == 0:
        return f"{who} leaves {_level(plain, defended)}."
    if gained < 0:
        return f"{who} does {_points(plain, defended)} more harm with SPLIC than without."
    return f"{who} does {_points(defended, plain)} less harm with SPLIC."


def _gray(plain: Accuracy, defended: Accuracy, gained: int) -> str:
    who = "An attacker who does not know of SPLIC"
    if gained == 0:
        return f"{who} leaves {_level(plain, defended)}."
    if gained < 0:
        return f"{who} does {_points(plain, defended)} more harm with it than without."
    return (
        f"{who} leaves {_percent(defended)} right instead of {_percent(plain)}: it undoes part of "
        "the attack."
    )


def _white(defended: Accuracy, gained: int, gray: Accuracy, helped: int) -> str:
    left = f"{_percent(defended)} are left"
    if defended.high < CHANCE:
        return f"An attacker who knows of SPLIC takes it all: {left}, fewer than chance has right."
    if helped == 0:
        return (
            f"To know of SPLIC did not help this attacker, {left}: try harder ones before you "
            "believe it."
        )
    lost = f"{_points(gray, defended)} of the gray box were the attacker's ignorance"
    than = "more" if gained > 0 else "no more"
    return f"From an attacker who knows of SPLIC {left}, {than} than without it; {lost}."


def _level(plain: Accuracy, defended: Accuracy) -> str:
    return (
        f"{_percent(defended)} right with SPLIC and {_percent(plain)} without it, too close to "
        f"tell apart on {plain.n} images"
    )


def _percent(accuracy: Accuracy) -> str:
    return f"{100 * accuracy.value:.0f} %"


def _points(high: Accuracy, low: Accuracy) -> str:
    points = round(100 * (high.value - low.value))
    return f"{points} point" if points == 1 else f"{points} points"


def _notes(size: LessonSize, seed: int) -> tuple[str, ...]:
    return (
        f"{NETWORK}, {size.images:,} training images of shapes, {size.epochs} "
        f"{'epoch' if size.epochs == 1 else 'epochs'}; behind SPLIC on {COPIES} completed copies "
        f"of them; seed {seed}",
        f"attacks within 8 of 255 levels on the first {size.attacked} test images; SPLIC with the "
        f"paper's constants, {size.draws} fresh {'draw' if size.draws == 1 else 'draws'} of its "
        "masks for each finished image",
        "black and gray box: PGD of 7 steps of 2/255, on the attacker's network or on the "
        "network itself; without SPLIC there is nothing more to know, so the white box is the gray",
        f"white box: {size.steps} steps of 2/255 along the mean gradient of fresh masks, of "
        f"{size.eot} through the solver (exact) and of {CHEAPER * size.eot} past it (BPDA), and "
        "the gray box's attack; the worst for each image counts, by the draws that are counted; "
        "longer attacks can only lower it",
        "whether two numbers differ is decided by the votes of the draws, image by image, at 95 %",
    )


# Pictures


def _galleries(
    teacher: _Teacher,
    plain: nn.Module,
    defended: nn.Module,
    test: Dataset,
    unaware: Attack,
    aware: Attack,
) -> tuple[Gallery, ...]:
    """Return the first images, as both networks and three attackers see them."""
    data, seed = test.first(teacher.size.pictures), teacher.seed
    images, labels = torch.from_numpy(data.to_float()), torch.from_numpy(data.labels)
    behind = Defended(defended, defense_from_spec(DEFENSE))

    def completed(given: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), seeded_masks(derive_seed(seed, "pictures")):
            found: torch.Tensor = defense_from_spec(DEFENSE)(given, index=0)
        return found

    bare = unaware.run(plain, images, labels, index=0, seed=seed)
    gray = unaware.run(defended, images, labels, index=0, seed=seed)
    white = aware.run(behind, images, labels, index=0, seed=seed)
    found = [
        _gallery(
            data,
            "Without SPLIC: the attacker knows the network",
            {"original": (images, plain(images)), "attacked": (bare, plain(bare))},
        )
    ]
    for title, attacked in (
        ("Gray box: the attacker knows the network, not SPLIC", gray),
        ("White box: the attacker knows the network and SPLIC", white),
    ):
        after, clean = completed(attacked), completed(images)
        lines = {
            "original": (images, defended(images)),
            "original, completed": (clean, defended(clean)),
            "attacked": (attacked, defended(attacked)),
            "attacked, completed": (after, defended(after)),
        }
        found.append(_gallery(data, title, lines))
    return tuple(found)


def _gallery(
    data: Dataset, title: str, lines: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
) -> Gallery:
    """Return a row of pictures for each line, with what the network takes them for."""
    pictures, captions, right = [], [], []
    for batch, logits in lines.values():
        likely, chosen = logits.detach().float().softmax(dim=1).max(dim=1)
        told = zip(chosen.tolist(), likely.tolist(), strict=True)
        pictures.append(tuple(encode_picture(x.numpy(), magnify=MAGNIFY) for x in batch))
        captions.append(tuple(f"{data.classes[k]} {share:.2f}" for k, share in told))
        right.append(tuple((chosen.numpy() == data.labels).tolist()))
    columns = tuple(data.classes[label] for label in data.labels)
    return Gallery(
        "shapes", title, tuple(lines), columns, tuple(pictures), tuple(captions), tuple(right)
    )
