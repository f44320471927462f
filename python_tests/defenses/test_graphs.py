"""Defences in torch.compile, torch.export, vmap and torch.func: what eager code gets."""

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import splic_ext

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")
from helpers.defenses import MAKERS, QUICK, RANDOM, random_images  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402

from splic_ext import defenses  # noqa: E402
from splic_ext.autograd import complete_differentiable  # noqa: E402
from splic_ext.defenses import lookup  # noqa: E402

# torch warns of its own inner workings.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
CASES = [(name, gradient) for name in MAKERS for gradient in type(MAKERS[name]()).gradients]
CASES.append(("SPLIC", "surrogate"))
CASES = sorted(set(CASES))
MORE = {
    "SPLIC-masks": lambda **k: defenses.SPLIC(QUICK.replace(n_masks=3), **k),
    "Compose-all": lambda **k: defenses.Compose(
        defenses.JPEG(), defenses.USVT(gradient="exact"), defenses.GaussianBlur(), **k
    ),
}
MORE["Bilateral"] = lambda **k: defenses.Bilateral(window=3, **k)  # each pixel is an operation
MORE["TotalVariation"] = lambda **k: defenses.TotalVariation(iterations=2, **k)
MAKERS = MAKERS | MORE
CASES += [("SPLIC-masks", "exact"), ("Compose-all", "parts"), ("Compose-all", "identity")]


@pytest.fixture(autouse=True)
def no_graphs_left():
    torch.compiler.reset()


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 9 * 8, 4))


def compiled(module, **options):
    return torch.compile(module, backend="aot_eager", fullgraph=True, **options)


def gradients(module, images, seed=3):
    """The result and the gradient, with masks of a seed of torch."""
    torch.manual_seed(seed)
    inputs = images.clone().requires_grad_()
    result = module(inputs)
    return result.detach(), *torch.autograd.grad(result.square().sum(), inputs)


@pytest.mark.parametrize(("name", "gradient"), CASES)
def test_compile(name, gradient, monkeypatch):
    if name == "TotalVariation":  # native code agrees to rounding: test_compiled.py
        monkeypatch.setattr("splic_ext.defenses.compiled.native_module", lambda: None)
    defended = defenses.Defended(network(), MAKERS[name](gradient=gradient)).eval()
    quick = compiled(defended)
    for seed in (3, 4):
        found = gradients(quick, random_images(), seed)
        for part, expected in zip(found, gradients(defended, random_images(), seed), strict=True):
            torch.testing.assert_close(part, expected)
    alone, quick = defended.defense, compiled(defended.defense)
    found, expected = (gradients(m, random_images().half()) for m in (quick, alone))
    assert all(map(torch.equal, found, expected))
    with torch.no_grad():
        torch.manual_seed(5)
        expected = alone(random_images(), index=2)
        torch.manual_seed(5)
        assert torch.equal(quick(random_images(), index=2), expected)


STRICT = [("USVT", "exact"), ("GaussianBlur", "identity"), ("Compose-all", "parts")]


@pytest.mark.parametrize(
    ("name", "gradient", "strict"),
    [(*case, False) for case in CASES] + [(*case, True) for case in STRICT],
)
def test_export(name, gradient, strict):
    torch.manual_seed(1)
    defended = defenses.Defended(network(), MAKERS[name](gradient=gradient)).eval()
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(
        defended, (random_images(),), dynamic_shapes={"images": {0: batch}}, strict=strict
    )
    exported = program.module()
    for images in (random_images(), random_images()[:2], random_images().repeat(3, 1, 1, 1)):
        torch.manual_seed(2)
        expected = defended(images)
        torch.manual_seed(2)
        assert torch.equal(exported(images), expected)
    found, expected = gradients(exported, random_images()), gradients(defended, random_images())
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match=r"must be finite and lie in \[0, 1\]"):
        exported(random_images() + 1)


@pytest.mark.parametrize(("name", "gradient"), CASES)
def test_vmap_and_grad(name, gradient):
    defense = MAKERS[name](gradient=gradient)
    batches = torch.stack([random_images(), 1 - random_images()])

    def loss(images):
        return defense(images).square().sum()

    found = torch.func.grad(loss)(seeded(batches[0]))
    torch.testing.assert_close(found, gradients(defense, batches[0], 7)[1])
    expected = [defense(part) for part in seeded(batches)]
    mapped = torch.vmap(defense, randomness="different")(seeded(batches))
    torch.testing.assert_close(mapped, torch.stack(expected))
    single = torch.vmap(lambda image: defense(image[None])[0], in_dims=1, randomness="different")
    expected = [defense(part[None])[0] for part in seeded(batches[0])]
    torch.testing.assert_close(single(seeded(batches[0]).movedim(0, 1)), torch.stack(expected))
    found = torch.vmap(torch.func.grad(loss), randomness="different")(seeded(batches))
    expected = []
    for part in seeded(batches):
        inputs = part.clone().requires_grad_()
        expected.extend(torch.autograd.grad(loss(inputs), inputs))
    torch.testing.assert_close(found, torch.stack(expected))


def seeded(images):
    torch.manual_seed(7)
    return images


# Masks


@pytest.mark.parametrize("name", RANDOM)
def test_masks_held_still_and_in_sequence(name):
    defense = MAKERS[name]()
    quick = compiled(torch.nn.Sequential(defense))

    def draws(module, hold):
        with defenses.seeded_masks(8), hold():
            return [module(random_images()) for _ in range(3)]

    for hold in (contextlib.nullcontext, defenses.frozen_masks):
        found, expected = draws(quick, hold), draws(defense, hold)
        assert all(map(torch.equal, found, expected))
    state = torch.random.get_rng_state()
    draws(quick, contextlib.nullcontext)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("wrap", [lambda f: f, compiled])
@pytest.mark.parametrize("over", ["images", "weights"])
def test_randomness_of_vmap(over, wrap):
    defense, fixed = defenses.USVT(), defenses.USVT(seed=1)
    images = random_images()

    def distinct(module, randomness):
        if over == "images":
            mapped = torch.vmap(module, randomness=randomness)
            found = wrap(mapped)(torch.stack([images] * 3))
        else:
            mapped = torch.vmap(lambda w: w * module(images), randomness=randomness)
            found = wrap(mapped)(torch.ones(3))
        return len({tuple(part.flatten().tolist()) for part in found})

    assert distinct(defense, "different") == 3
    assert distinct(defense, "same") == 1
    with pytest.raises(RuntimeError, match="called random operation while in randomness error"):
        distinct(defense, "error")
    assert {distinct(fixed, mode) for mode in ("different", "same", "error")} == {1}
    with defenses.frozen_masks():
        assert distinct(defense, "different") == 1


def test_two_copies_in_a_graph_have_masks_of_their_own():
    first = defenses.USVT()
    both = [first, copy.deepcopy(first), pickle.loads(pickle.dumps(first))]
    images = random_images()
    quick = compiled(lambda x: torch.stack([part(x) for part in both]))
    assert len({tuple(part.flatten().tolist()) for part in quick(images)}) == 3
    with defenses.frozen_masks():
        held = quick(images)
        assert torch.equal(quick(images), held)
        assert len({tuple(part.flatten().tolist()) for part in held}) == 3


def test_index_in_a_graph():
    defense = defenses.USVT(seed=2)
    quick = compiled(defense)
    images = random_images()
    for index in (*range(12), 2**63, 2**64 - 2, torch.tensor([4, 1, 1])):  # not a graph for each
        assert torch.equal(quick(images, index=index), defense(images, index=index))
    with pytest.raises(ValueError, match="`index` must not be negative"):
        quick(images, index=torch.tensor([0, -1, 2]))
    with pytest.raises(ValueError, match="`index` must be an integer in"):
        torch.compile(defense, backend="aot_eager")(images, index=-1)
    with pytest.raises(ValueError, match="`index` must be an integer in"):
        torch.vmap(lambda x: defense(x, index=-1))(images[None])


# Errors


@pytest.mark.parametrize("name", ["GaussianBlur", "SPLIC", "JPEG"])
def test_images_are_checked_in_a_graph(name):
    defense = MAKERS[name]()
    parts = torch.compile(defense, backend="aot_eager")
    mapped = torch.vmap(defense, randomness="same")
    for module, images in (
        (compiled(defense), random_images()),
        (parts, random_images()),
        (mapped, random_images()[None]),
    ):
        with pytest.raises(ValueError, match=r"must be finite and lie in \[0, 1\], got minimum 1"):
            module(images + 1)
    for module, images in ((parts, random_images()), (mapped, random_images()[None])):
        with pytest.raises(ValueError, match=r"`images` must have shape"):
            module(images[..., 0])
        with pytest.raises(TypeError, match="`images` must be of float16"):
            module((255 * images).byte())


@pytest.mark.parametrize("name", RANDOM)
def test_derivatives_that_there_are_not(name):
    exact, identity = (MAKERS[name](seed=1, gradient=mode) for mode in ("exact", "identity"))
    images = random_images()[:1, :, :3, :3]

    def loss(module):
        return lambda x: module(x).square().sum()

    with pytest.raises(RuntimeError, match=f"gradient of `{name}` cannot be differentiated again"):
        torch.func.grad(lambda x: torch.func.grad(loss(exact))(x).square().sum())(images)
    with pytest.raises(RuntimeError, match=f"`{name}` has no derivative forwards"):
        torch.func.jvp(exact, (images,), (images,))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(images, images)
        with pytest.raises(RuntimeError, match=f"`{name}` has no derivative forwards"):
            exact(dual)
        passed = torch.autograd.forward_ad.unpack_dual(identity(dual)).tangent
        assert torch.equal(passed, images)
    assert torch.equal(torch.func.jvp(identity, (images,), (images,))[1], images)
    hessian = torch.func.hessian(loss(identity))(images).reshape(27, 27)
    assert torch.equal(hessian, 2 * torch.eye(27))


# Other processes, other classes, other ways in

LOAD = """
import sys, torch, splic_ext.defenses
from splic_ext.defenses import frozen_masks
program = torch.export.load(sys.argv[1]).module()
images = torch.load(sys.argv[2])
torch.manual_seed(6)
results = [program(images), program(images)]
with frozen_masks():
    results += [program(images), program(images)]
torch.save(results, sys.argv[2])
"""


def test_an_exported_defence_in_another_process(tmp_path):
    defense = defenses.Compose(MAKERS["SPLIC"](), defenses.USVT(), defenses.JPEG(quality=60))
    program = torch.export.export(defense, (random_images(),))
    torch.export.save(program, tmp_path / "program.pt2")
    torch.save(random_images(), tmp_path / "images.pt")
    arguments = [str(tmp_path / "program.pt2"), str(tmp_path / "images.pt")]
    subprocess.run([sys.executable, "-W", "ignore", "-c", LOAD, *arguments], check=True)
    torch.manual_seed(6)
    expected = [defense(random_images()), defense(random_images())]
    with defenses.frozen_masks():
        expected += [defense(random_images())] * 2
    found = torch.load(tmp_path / "images.pt")
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("kind", [k for k in defenses.DEFENSES.values() if k.leaves_torch])
def test_what_is_shown_makes_the_defence_again(kind):
    """As the operators do from a text, in another process too."""
    assert {*kind.shown, "gradient"} == set(inspect.signature(kind).parameters)
    made = kind(gradient=kind.gradients[-1])
    if "options" in kind.shown:
        made.options = made.options.replace(tv_weight=0.1 + 0.2, rank=3, channels="separate")
    assert repr(lookup.find(made._text)) == repr(made)


class Own(defenses.RandomDefense):
    """Two masks in each forward, and a parameter that the library does not know."""

    def __init__(self, share, **keywords):
        super().__init__(gradient="exact", **keywords)
        self.share = share

    def defend(self, images, index):
        first, second = (
            torch.from_numpy(np.random.default_rng(self.draw()).random(images.shape[1:])).float()
            for _ in range(2)
        )
        return images**2 * self.share * first * (first != second)


def test_a_class_of_ones_own():
    parts = [Own(0.5), Own(0.25)]
    quick = compiled(torch.nn.Sequential(*parts))
    found, gradient = gradients(quick, random_images())
    with defenses.seeded_masks(4):
        held = quick(random_images())
    with defenses.seeded_masks(4):
        assert torch.equal(quick(random_images()), held)
    assert found.max() < 0.5**2 * 0.25
    assert (gradient != 0).float().mean() > 0.9
    seeded = Own(0.5, seed=3)
    expected = gradients(seeded, random_images())
    assert all(map(torch.equal, gradients(compiled(seeded), random_images()), expected))
    program = torch.export.export(seeded, (random_images(),))
    assert torch.equal(program.module()(random_images()), expected[0])
    del seeded
    gc.collect()
    with pytest.raises(RuntimeError, match="holds the defence `Own`, which is not of this library"):
        program.module()(random_images())


class Dimmed(defenses.RandomDefense):
    """Computed in torch but for its seed, an integer that a graph would keep."""

    leaves_torch = False

    def defend(self, images, index):
        return images * (0.5 + self.draw() % 1000 / 2000)


def test_a_random_class_of_ones_own_in_torch():
    defense, images = Dimmed(), random_images()
    expected = gradients(defense, images)
    program = torch.export.export(defense, (images,)).module()
    for module in (compiled(defense), program, make_fx(defense)(images)):
        assert not torch.equal(module(images), module(images))
        assert all(map(torch.equal, gradients(module, images), expected))
    with pytest.raises(RuntimeError, match="`Dimmed` cannot be traced"):
        torch.jit.trace(defense, (images,))


class Holder(defenses.Defense):
    leaves_torch = True

    def __init__(self, part):
        super().__init__()
        self.part = part

    def defend(self, images, index):
        return self.part(images, index) * 0.5


def test_a_random_part_of_a_class_of_ones_own():
    seeded = Holder(defenses.USVT(seed=1, gradient="exact"))
    expected = gradients(seeded, random_images())
    assert all(map(torch.equal, gradients(compiled(seeded), random_images()), expected))
    with pytest.raises(RuntimeError, match="`Holder` leaves torch and holds the random defence `U"):
        torch.vmap(Holder(defenses.USVT()), randomness="same")(random_images()[None])


@pytest.mark.parametrize("name", ["USVT", "SPLIC", "JPEG", "Bilateral"])
def test_autocast_in_a_graph(name):
    defense = MAKERS[name]()
    expected = gradients(defense, random_images())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(compiled(defense), random_images())
    assert all(map(torch.equal, found, expected))


def test_a_graph_follows_the_gradient_mode():
    defense = defenses.USVT(seed=1)
    quick = compiled(defense)
    for mode in ("identity", "exact", "identity"):
        with defenses.gradient_mode(quick, mode):
            expected = gradients(defense, random_images())
            assert all(map(torch.equal, gradients(quick, random_images()), expected))


def test_train_mode_is_warned_of_in_a_graph():
    defended = defenses.Defended(network(), defenses.USVT(seed=1))
    quick = compiled(defended)
    with torch.no_grad(), pytest.warns(UserWarning, match="the network is in train mode under"):
        found = quick(random_images())
    assert torch.equal(found, defended.eval()(random_images()))


@pytest.mark.parametrize("name", ["USVT", "GaussianBlur", "BitDepth"])
def test_a_vmap_of_nothing(name):
    defense = MAKERS[name]()
    mapped = torch.vmap(defense, randomness="different", in_dims=1)
    assert mapped(torch.rand(3, 0, 3, 9, 8)).shape == (0, 3, 3, 9, 8)


@pytest.mark.parametrize("shape", [(2, 8, 9, 3), (0, 3, 9, 8)])
def test_what_is_odd_in_a_graph(shape):
    defense = defenses.USVT(seed=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert torch.equal(compiled(defense)(torch.ones(shape)), defense(torch.ones(shape)))
    told = [str(part.message) for part in caught if "looks channel last" in str(part.message)]
    assert len(told) == (2 if shape[0] else 0)


def test_make_fx_keeps_no_result():
    defended = defenses.Defended(torch.nn.Flatten(), MAKERS["SPLIC"](seed=2))
    traced = make_fx(defended)(random_images())
    assert torch.equal(traced(1 - random_images()), defended(1 - random_images()))


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_the_completion_in_graphs(gradient, backend):
    def complete(images):
        return complete_differentiable(
            images, options=QUICK, seed=2**64 - 1, gradient=gradient, backend=backend
        )

    def loss(images):
        return complete(images).square().sum()

    expected = gradients(complete, random_images())
    assert all(map(torch.equal, gradients(compiled(complete), random_images()), expected))
    batches = torch.stack([random_images(), 1 - random_images()])
    mapped = torch.vmap(complete)(batches)
    assert all(map(torch.equal, mapped, map(complete, batches)))
    found = torch.vmap(torch.func.grad(loss))(batches)
    assert torch.equal(found[0], expected[1])
    assert torch.equal(make_fx(complete)(random_images())(batches[1]), mapped[1])
    with pytest.raises(RuntimeError, match="gradient of `SPLIC` cannot be differentiated again"):
        torch.func.grad(lambda x: torch.func.grad(loss)(x).sum())(random_images())
    with pytest.raises(ValueError, match="`seed` must be an integer in"):
        torch.vmap(lambda x: complete_differentiable(x, seed=-1))(batches)


@pytest.mark.parametrize(
    "call",
    [
        lambda f, x: torch.vmap(f)(x[None]),
        lambda f, x: torch.func.grad(lambda y: f(y).sum())(x),
        lambda f, x: make_fx(f)(x),
        lambda f, x: make_fx(f, tracing_mode="fake")(x),
        lambda f, x: torch.jit.trace(f, (x,)),
    ],
)
def test_complete_is_refused_in_a_graph(call):
    def complete(images):
        return splic_ext.complete(images, options=QUICK)

    with pytest.raises(RuntimeError, match=r"`batch` is in a trace or transform of torch, as by"):
        call(complete, random_images())
    quick = torch.compile(complete, backend="aot_eager")  # which leaves it out of its graphs
    assert torch.equal(quick(random_images()), complete(random_images()))
