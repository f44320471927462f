"""Defences of one's own as plain modules, by their place and by name; bad ones."""

from __future__ import annotations

import random
from importlib import metadata

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

from splic_ext import defenses  # noqa: E402
from splic_ext.defenses import ModuleDefense, as_defense, defense_from_spec  # noqa: E402
from splic_ext.defenses import registry as registry_module  # noqa: E402
from splic_ext.defenses.trial import is_own, try_defense, without_derivative  # noqa: E402
from splic_ext.runs.fingerprints import fingerprint_own  # noqa: E402
from splic_ext.runs.inputs import is_random  # noqa: E402

IMAGES = torch.from_numpy(np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32))

FILE = """
import torch
from torch import nn
from splic_ext.defenses import Defense

class Dim(nn.Module):
    def __init__(self, share=0.5, *, shift=0.0):
        super().__init__()
        self.share, self.shift = share, shift

    def forward(self, images):
        return self.share * images + self.shift

class Mirror(Defense):
    def defend(self, images, index):
        return images.flip(3)

class Needs(nn.Module):
    def __init__(self, size):
        super().__init__()

def make(**anything):
    return Dim(**anything)

def none():
    return 3

def broken():
    raise RuntimeError("no such file")

ready = Dim(0.25)
number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(FILE, encoding="utf-8")
    return path


class Dots(nn.Module):
    """Noise by the generators of torch, NumPy or Python, or one of its own."""

    def __init__(self, source):
        super().__init__()
        self.source, self.own = source, np.random.default_rng(0)

    def forward(self, images):
        noise = {
            "torch": lambda: torch.rand_like(images),
            "numpy": lambda: torch.from_numpy(np.random.rand(*images.shape)).float(),  # noqa: NPY002
            "python": lambda: random.random(),
            "own": lambda: torch.from_numpy(self.own.random(images.shape)).float(),
        }[self.source]()
        return (images + 0.1 * noise).clamp(0, 1)


class Out(nn.Module):
    """Images that go wrong in some way."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, images):
        return {
            "shape": lambda: images[..., :-1],
            "count": lambda: images[:1, :1],
            "bytes": lambda: (255 * images).to(torch.uint8),
            "double": lambda: images.double(),
            "scale": lambda: 255 * images,
            "normalised": lambda: (images - 0.5) / 0.25,
            "nan": lambda: images / (images - images),
            "device": lambda: images.to("meta"),
            "tuple": lambda: (images, 1),
            "error": lambda: images @ torch.rand(7, 7),
            "mean": lambda: images - images.mean() + 0.5,
        }[self.how]()


class Raw(defenses.Defense):
    """The same as a Defense."""

    def __init__(self, how):
        super().__init__()
        self.out = Out(how)

    def defend(self, images, index):
        return self.out(images)


WRONG = [
    (
        "shape",
        ValueError,
        r"must return images of the shape that it got, \(\d, 3, 8, 8\), got \(\d,",
    ),
    ("count", ValueError, "of the shape that it got"),
    ("bytes", TypeError, r"of the dtype that it got, torch.float32 in \[0, 1\], got torch.uint8"),
    ("double", TypeError, "of the dtype that it got.*got torch.float64; convert them back"),
    ("scale", ValueError, r"must return images in \[0, 1\], got minimum .* and maximum 25"),
    ("normalised", ValueError, r"must return images in \[0, 1\], got minimum -"),
    ("nan", ValueError, "must return finite images, got NaN or infinity; look for"),
    ("device", ValueError, "on the device that they came from, cpu, got meta; end with"),
    ("tuple", TypeError, "must return a tensor, got tuple; return the images alone"),
    ("error", ValueError, "fails on images of shape .*: RuntimeError: .*; mend it"),
    ("mean", ValueError, "must defend each image by itself, got values that differ by"),
]


@pytest.mark.parametrize(("how", "error", "message"), WRONG)
@pytest.mark.parametrize("kind", [Raw, Out])
def test_wrong_results_are_told_at_once(kind, how, error, message):
    with pytest.raises(error, match=f"the defence `{kind.__name__}` .*{message}"):
        try_defense(as_defense(kind(how)), IMAGES)


def test_each_part_is_tried_by_what_it_gets():
    chain = defenses.Compose(defenses.GaussianBlur(), Raw("shape"))
    with pytest.raises(ValueError, match="the defence `Raw` must return images of the shape"):
        try_defense(chain, IMAGES)
    assert is_own(chain)
    assert not is_own(chain.parts[0])


def test_batch_normalisation_in_train_mode_is_refused():
    with pytest.raises(ValueError, match=r"each image by itself.*into eval mode with `.eval\(\)`"):
        try_defense(as_defense(nn.Sequential(nn.BatchNorm2d(3), nn.Sigmoid())), IMAGES)
    try_defense(as_defense(nn.Sequential(nn.BatchNorm2d(3), nn.Sigmoid()).eval()), IMAGES)


def test_a_deterministic_module():
    defense = as_defense(nn.AvgPool2d(3, 1, 1))
    assert defense.random is None
    assert not is_random("x", defense, IMAGES)
    assert (defense.random, defense.fresh, defense.draw()) == (False, False, 0)
    inputs = IMAGES.clone().requires_grad_()
    defense(inputs).sum().backward()
    assert not torch.equal(inputs.grad, torch.ones_like(IMAGES)), "autograd's derivative"
    straight = ModuleDefense(defense.module, gradient="identity")
    inputs = IMAGES.clone().requires_grad_()
    straight(inputs).sum().backward()
    assert torch.equal(inputs.grad, torch.ones_like(IMAGES))


@pytest.mark.parametrize("source", ["torch", "numpy", "python"])
def test_randomness_is_found_and_repeated(source):
    defense = as_defense(Dots(source))
    before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    assert is_random("x", defense, IMAGES)
    with defenses.seeded_masks(3):
        first, second = defense(IMAGES), defense(IMAGES)
    with defenses.seeded_masks(3):
        assert torch.equal(defense(IMAGES), first)
    assert not torch.equal(first, second)
    with defenses.frozen_masks():
        whole = defense(IMAGES)
        assert torch.equal(defense(IMAGES), whole)
        assert torch.equal(defense(IMAGES[2:], index=2), whole[2:]), "the draw of an image is its"
        order = torch.tensor([3, 1])
        assert torch.equal(defense(IMAGES[order], index=order), whole[order])
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert before[1] == random.getstate()
    seeded = ModuleDefense(Dots(source), seed=7)
    before = torch.get_rng_state()
    assert torch.equal(seeded(IMAGES), seeded(IMAGES))
    assert torch.equal(torch.get_rng_state(), before), "generators are put back"


def test_draws_that_no_seed_repeats():
    with pytest.raises(ValueError, match="`Dots` must draw from the generators of torch, NumPy or"):
        is_random("x", as_defense(Dots("own")), IMAGES)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Threshold(2.0, 0.5), "its derivative is 0"),
        (Dots("numpy"), None),
        (Out("nan"), "its derivative is NaN or infinite"),
    ],
)
def test_why_a_derivative_is_of_no_use(module, reason):
    defense = as_defense(module)
    assert without_derivative(defense, "exact", IMAGES) == reason
    assert without_derivative(defense, "identity", IMAGES) is None


class Cut(nn.Module):
    def forward(self, images):
        return torch.from_numpy(images.numpy()[..., ::-1].copy())


def test_a_module_that_leaves_torch_has_no_derivative():
    reason = without_derivative(as_defense(Cut()), "exact", IMAGES)
    assert reason == "its result is detached from the images"


# By place and by name


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("mine.py:Dim:share=1/4,shift=0.1", 0.25 * IMAGES + 0.1),
        ("./mine.py:Dim", 0.5 * IMAGES),
        ("mine:Dim:share=1", IMAGES),
        ("mine:make:share=0", 0 * IMAGES),
        ("mine.py:ready", 0.25 * IMAGES),
        ("mine.py:Mirror", IMAGES.flip(3)),
        ("mine.py:Mirror+./mine.py:Mirror+mine.py:Dim", 0.5 * IMAGES),
    ],
)
def test_by_place(mine, spec, expected):
    assert torch.allclose(defense_from_spec(spec)(IMAGES), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("mine.py:Blur", ValueError, "'mine.py' has no defence 'Blur'; it has .*Mirror"),
        ("yours.py:Blur", ValueError, "the file 'yours.py' of a defence cannot be read"),
        ("no.such:Blur", ValueError, "there is no module 'no' for the defence in 'no.such'"),
        ("splik:recommended", ValueError, "must be one of splic, .*'splik'; choose one, or give o"),
        ("mine.py:Dim:strength=1", TypeError, "unknown parameter `strength` of the defence 'mine"),
        ("mine.py:Dim:strong", TypeError, "unknown parameter `preset`"),
        ("mine.py:Dim:share=", ValueError, "'mine.py:Dim:share=' must have items of the form"),
        ("mine.py:Needs", TypeError, "the defence 'mine.py:Needs' must be given `size`; add it, s"),
        ("mine.py:none", TypeError, "must be a Defense or a torch.nn.Module, got int; derive"),
        ("mine.py:broken", ValueError, "cannot be made: RuntimeError: no such file; give other"),
        ("mine.py:number", TypeError, "must be a class or a function that returns a .* got int"),
        ("mine.py:ready:share=1", TypeError, "got Dim with parameters; name such a one"),
    ],
)
def test_refused_places(mine, spec, error, message):
    with pytest.raises(error, match=message):
        defense_from_spec(spec)


def test_a_known_name_wins_over_a_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tv.py").write_text(FILE.replace("Dim", "weight"))
    assert isinstance(defense_from_spec("tv:weight=0.2"), defenses.TotalVariation)
    with pytest.raises(TypeError, match="unknown parameter `preset` of the defence 'tv'"):
        defense_from_spec("tv:weight")
    assert defense_from_spec("tv.py:weight").title == "weight"


@pytest.fixture
def names(monkeypatch):
    monkeypatch.setattr(registry_module, "_REGISTERED", {})


def test_registered_names(names):
    defenses.register_defense("dots", Dots)
    defenses.register_defense("dots", Dots)
    assert defense_from_spec("tv+dots:source=torch").parts[1].title == "Dots"
    with pytest.raises(ValueError, match=r"must be one of splic, .*, dots, got 'median'"):
        defense_from_spec("median")
    for name, kind, error, message in (
        ("tv", Dots, ValueError, "must not be taken, got 'tv', which is splic_ext.defenses.filte"),
        ("dots", Out, ValueError, "must not be taken, got 'dots'"),
        ("My_filter", Dots, ValueError, "letters, digits and hyphens, in lower case, got 'My_f"),
        (3, Dots, ValueError, "letters, digits and hyphens"),
        ("x", Dots("torch"), TypeError, "`kind` must be a class or a function .* got Dots; pass"),
        ("x", 3, TypeError, "`kind` must be a class or a function"),
    ):
        with pytest.raises(error, match=message):
            defenses.register_defense(name, kind)


def test_entry_points(names, monkeypatch, mine, tmp_path):
    """Of an installed package: a folder with metadata on the path is one."""
    info = tmp_path / "site" / "others-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{registry_module.ENTRY_POINTS}]\n"
        "dim = others_code:Dim\nlost = no_such_module:Dim\nodd = others_code:number\ntv = x:y\n"
    )
    (tmp_path / "site" / "others_code.py").write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert "dim" in metadata.entry_points(group=registry_module.ENTRY_POINTS).names
    assert torch.allclose(defense_from_spec("dim:share=1")(IMAGES), IMAGES)
    assert isinstance(defense_from_spec("tv"), defenses.TotalVariation)
    with pytest.raises(
        ValueError, match=r"'lost' of the entry point 'no_such_module:Dim' cannot b"
    ):
        defense_from_spec("lost")
    with pytest.raises(
        TypeError, match=r"'odd' of the entry .* must be a class or a function, got"
    ):
        defense_from_spec("odd")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Dots, "`defense` must be .*, got the class Dots; call it"),
        (3, "got int; wrap a function in a module"),
        (lambda images: images, "got function; wrap a function in a module"),
    ],
)
def test_what_is_no_defence(given, message):
    with pytest.raises(TypeError, match=message):
        as_defense(given)
    with pytest.raises(TypeError, match="`module` must be a plain torch"):
        ModuleDefense(given)


# What tells results apart


def test_code_and_attributes_are_part_of_the_fingerprint(mine):
    def found(spec):
        return fingerprint_own(defense_from_spec(spec))

    plain = found("mine.py:Dim")
    assert found("mine.py:Dim") == plain
    assert found("mine.py:Dim:share=1") != plain, "though no repr shows it"
    used = defense_from_spec("mine.py:Dim")
    used(IMAGES)
    assert fingerprint_own(used) == plain, "what a forward notes changes nothing"
    mine.write_text(FILE.replace("+ self.shift", "- self.shift"))
    assert found("mine.py:Dim") != plain
    assert found("tv") == found("tv")
