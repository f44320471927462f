"""What all defences keep: checks, shapes, gradients; SPLIC; defended networks."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import splic_ext
from splic_ext import MissingExtraError, ShapeError, SolverOptions

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")
defenses = pytest.importorskip("splic_ext.defenses")

from helpers.defenses import MAKERS, QUICK, random_images  # noqa: E402


@pytest.fixture(params=MAKERS)
def maker(request):
    return MAKERS[request.param]


@pytest.fixture
def images():
    return random_images()


def test_shape_dtype_range(maker, images):
    defense = maker()
    before = images.clone()
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        result = defense(images.to(dtype))
        assert (result.shape, result.dtype) == (images.shape, dtype)
        assert result.min() >= 0
        assert result.max() <= 1
    assert torch.equal(images, before), "the input was changed"
    assert defense(images[:0]).shape == (0, 3, 9, 8)
    assert defense(images[:1, :1]).shape == (1, 1, 9, 8)


def test_sizes_and_layouts(maker, images):
    defense = maker()
    for height, width in ((1, 1), (1, 7), (9, 1), (2, 3)):
        assert defense(images[:, :, :height, :width]).shape == (3, 3, height, width)
    with defenses.frozen_masks():
        expected = defense(images)
        spaced = torch.zeros(3, 3, 18, 24)[:, :, ::2, ::3]
        spaced.copy_(images)
        for layout in (spaced, images.contiguous(memory_format=torch.channels_last)):
            assert not layout.is_contiguous()
            torch.testing.assert_close(defense(layout), expected, rtol=0, atol=1e-6)


def test_independent_of_the_batch(maker, images):
    with defenses.frozen_masks():
        defense = maker()
        whole = defense(images)
        parts = torch.cat([defense(images[i : i + 1], index=i) for i in range(3)])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)


def test_slight_excess_is_clipped(maker):
    images = torch.tensor([-5e-5, 1 + 5e-5] * 32).reshape(1, 1, 8, 8)
    with defenses.frozen_masks():
        defense = maker()
        assert torch.equal(defense(images), defense(images.clamp(0, 1)))


def test_module_protocol(maker, images):
    defense = maker()
    assert "gradient=" in repr(defense)
    assert list(defense.parameters()) == []
    assert defense.state_dict() == {}
    with defenses.frozen_masks():
        defense(images)
    twins = copy.copy(defense), copy.deepcopy(defense), pickle.loads(pickle.dumps(defense))
    results = []
    for twin in (defense, *twins):
        torch.manual_seed(0)
        results.append(twin(images))
    assert all(torch.equal(result, results[0]) for result in results)


def test_inference_mode(maker, images):
    with torch.inference_mode():
        assert maker()(images.clone()).shape == images.shape


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((1, 3, 8, 8), np.float32), TypeError, "`images` must be a torch tensor, got nd"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), TypeError, r"got torch.uint8; .*/ 255"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.complex64), TypeError, "got torch.complex64"),
        (torch.zeros(3, 8, 8), ShapeError, r"got \(3, 8, 8\); add an axis"),
        (torch.zeros(1, 0, 8, 8), ShapeError, "at least one channel"),
        (torch.full((1, 3, 8, 8), 1.01), ValueError, "minimum 1.01 and maximum 1.01"),
        (torch.full((1, 3, 8, 8), 1.0002), ValueError, "minimum 1.0002 and maximum 1.0002"),
        (torch.full((1, 3, 8, 8), -0.5), ValueError, "minimum -0.5"),
        (torch.full((1, 3, 8, 8), float("nan")), ValueError, "must be finite"),
        (torch.full((1, 3, 8, 8), float("inf")), ValueError, "must be finite"),
    ],
)
def test_refused_images(images, error, message):
    with pytest.raises(error, match=message):
        defenses.Identity()(images)


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("BitDepth", {"bits": 0}, ValueError),
        ("BitDepth", {"bits": 2.5}, TypeError),
        ("JPEG", {"quality": 101}, ValueError),
        ("GaussianBlur", {"sigma": 0.0}, ValueError),
        ("TotalVariation", {"weight": -1.0}, ValueError),
        ("TotalVariation", {"iterations": 0}, ValueError),
        ("Bilateral", {"window": 4}, ValueError),
        ("Bilateral", {"sigma_color": "wide"}, TypeError),
        ("GuidedFilter", {"guide": "red"}, ValueError),
        ("GuidedFilter", {"eps": 0.0}, ValueError),
        ("USVT", {"keep": 1.5}, ValueError),
        ("SoftImpute", {"tolerance": -1.0}, ValueError),
        ("NuclearNorm", {"anchor_fraction": 2.0}, ValueError),
        ("NuclearNorm", {"seed": -1}, ValueError),
        ("SPLIC", {"options": "best"}, ValueError),
        ("SPLIC", {"options": {}}, TypeError),
        ("SPLIC", {"backend": "gpu"}, ValueError),
        ("SPLIC", {"seed": 1.0}, TypeError),
    ],
)
def test_refused_parameters(name, arguments, error):
    (parameter,) = arguments
    named = "preset name" if arguments == {"options": "best"} else f"`{parameter}`"
    with pytest.raises(error, match=named):
        getattr(defenses, name)(**arguments)


def test_abstract_classes(images):
    with pytest.raises(NotImplementedError, match="Defense must implement the method `defend`"):
        defenses.Defense()(images)
    with pytest.raises(NotImplementedError, match="must implement the method `estimate`"):
        splic_ext.defenses.menet.MatrixEstimation()(images)


# Gradients


def test_identity_gradient(maker, images):
    inputs = images.clone().requires_grad_()
    defense = maker(gradient="identity")
    result = defense(inputs)
    weights = torch.rand_like(images)
    (weights * result).sum().backward()
    assert torch.equal(inputs.grad, weights)
    for dtype in (torch.float16, torch.float64):
        inputs = images.to(dtype).requires_grad_()
        defense(inputs).sum().backward()
        assert torch.equal(inputs.grad, torch.ones_like(inputs))


def test_gradient_does_not_change_the_images(maker, images):
    with defenses.frozen_masks():
        for gradient in type(maker()).gradients:
            defense = maker(seed=3) if isinstance(maker(), defenses.RandomDefense) else maker()
            expected = defense(images)
            defense.gradient = gradient
            assert torch.equal(defense(images.clone().requires_grad_()), expected)


@pytest.mark.parametrize("name", ["BitDepth", "JPEG"])
def test_exact_gradient_is_refused(name):
    with pytest.raises(ValueError, match=f"`gradient` must be 'identity' for {name}, got 'exact'"):
        MAKERS[name](gradient="exact")
    defense = MAKERS[name]()
    assert defense.gradient == "identity"
    with pytest.raises(ValueError, match="`gradient` must be"):
        defense.gradient = "exact"


@pytest.mark.parametrize("gradient", ["bpda", None, 1])
def test_unknown_gradient(gradient):
    with pytest.raises(ValueError, match="must be 'exact' or 'identity' for Identity"):
        defenses.Identity(gradient=gradient)


EXACT = {
    "GaussianBlur": defenses.GaussianBlur,
    "TotalVariation": lambda: defenses.TotalVariation(iterations=4),
    "Bilateral": lambda: defenses.Bilateral(sigma_color=0.3, window=3),
    "GuidedFilter": lambda: defenses.GuidedFilter(radius=1),
    "GuidedFilter-self": lambda: defenses.GuidedFilter(radius=1, guide="self"),
    "USVT": lambda: defenses.USVT(keep=0.6, seed=1, gradient="exact"),
    "SoftImpute": lambda: defenses.SoftImpute(iterations=4, seed=1, gradient="exact"),
    "NuclearNorm": lambda: defenses.NuclearNorm(0.5, 4, tolerance=0, seed=1, gradient="exact"),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 1, 6, 3)], ids=["wide", "tall"])
def test_exact_gradient(name, shape):
    """Against finite differences, in float64."""
    values = 0.3 + 0.4 * np.random.default_rng(2).random(shape)
    inputs = torch.from_numpy(values).requires_grad_()
    assert torch.autograd.gradcheck(EXACT[name](), (inputs,), atol=1e-6)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_exact_gradient_is_finite_on_flat_images(name, value):
    """Zero differences, and singular values that are equal or 0."""
    inputs = torch.full((1, 3, 6, 6), value, requires_grad=True)
    EXACT[name]()(inputs).square().sum().backward()
    assert torch.isfinite(inputs.grad).all()


def test_gradient_mode_reaches_all_parts_and_ends(images):
    blur, rounded = defenses.GaussianBlur(), defenses.BitDepth()
    composed = defenses.Compose(defenses.Compose(blur, gradient="identity"), rounded)
    defended = defenses.Defended(torch.nn.Flatten(), composed)
    with defenses.gradient_mode(defended, "identity"):
        assert [blur.gradient, composed.parts[0].gradient] == ["identity", "parts"]
        leaf = images.clone().requires_grad_()
        defended(leaf).sum().backward()
        assert torch.equal(leaf.grad, torch.ones_like(leaf))
    assert [blur.gradient, composed.parts[0].gradient] == ["exact", "identity"]
    with pytest.raises(ValueError, match="derivative 0 almost everywhere"):  # noqa: SIM117
        with defenses.gradient_mode(defended, "exact"):
            pass
    assert blur.gradient == "exact"


def test_surrogate_is_exact_where_there_is_none(images):
    splic, tv, usvt = defenses.SPLIC(QUICK), defenses.TotalVariation(), defenses.USVT()
    composed = defenses.Compose(splic, defenses.Compose(tv, usvt))
    with defenses.gradient_mode(composed, "surrogate"):
        assert [splic.gradient, tv.gradient, usvt.gradient] == ["surrogate", "exact", "exact"]
        leaf = images.clone().requires_grad_()
        with defenses.seeded_masks(0):
            composed(leaf).square().sum().backward()
    assert [splic.gradient, tv.gradient, usvt.gradient] == ["identity", "exact", "identity"]
    parts = [
        defenses.SPLIC(QUICK, gradient="surrogate"),
        defenses.TotalVariation(),
        defenses.USVT(gradient="exact"),
    ]
    expected = images.clone().requires_grad_()
    with defenses.seeded_masks(0):
        defenses.Compose(*parts)(expected).square().sum().backward()
    assert torch.equal(leaf.grad, expected.grad)


@pytest.mark.parametrize(("mode", "named"), [("surrogate", "exact"), ("bpda", "bpda")])
def test_gradient_mode_that_no_part_has(mode, named):
    """The parts before it are put back too."""
    tv, bits = defenses.TotalVariation(gradient="identity"), defenses.BitDepth()
    with pytest.raises(ValueError, match=f"`gradient` must be .*, got '{named}'"):  # noqa: SIM117
        with defenses.gradient_mode(defenses.Compose(tv, bits), mode):
            pass
    assert [tv.gradient, bits.gradient] == ["identity", "identity"]


def test_compose(images):
    blur, bits = defenses.GaussianBlur(1), defenses.BitDepth(3)
    both = defenses.Compose(blur, bits)
    torch.testing.assert_close(both(images), bits(blur(images)), rtol=0, atol=0)
    assert torch.equal(defenses.Compose()(images), images)
    inputs = images.clone().requires_grad_()
    both(inputs).sum().backward()
    exact = images.clone().requires_grad_()
    blur(exact).sum().backward()
    torch.testing.assert_close(inputs.grad, exact.grad)
    with pytest.raises(TypeError, match=r"`defenses\[1\]` must be a Defense, got function"):
        defenses.Compose(blur, torch.nn.functional.relu)
    with pytest.raises(TypeError, match=r"`defenses\[0\]` must be a Defense, got list"):
        defenses.Compose([blur, bits])


def test_compose_forwards_the_index(images):
    both = defenses.Compose(defenses.USVT(seed=1), defenses.Identity())
    assert torch.equal(both(images, index=5), defenses.USVT(seed=1)(images, index=5))


# SPLIC


@pytest.mark.parametrize("options", ["paper", QUICK, QUICK.replace(n_masks=2)])
def test_splic_is_complete(images, options):
    expected = splic_ext.complete(images, options=options, seed=3, first_index=9)
    assert torch.equal(defenses.SPLIC(options, seed=3)(images, index=9), expected)


def test_splic_of_half_precision(images):
    expected = splic_ext.complete(images.half(), options=QUICK, seed=3, backend="numpy")
    result = defenses.SPLIC(QUICK, seed=3, backend="numpy")(images.half())
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-3)


def test_srf(images):
    options = SolverOptions(max_iterations=7, tv_weight=0, channels="separate")
    expected = splic_ext.complete(images, options=options, seed=3)
    assert torch.equal(defenses.SRF(QUICK, seed=3)(images), expected)
    assert defenses.SRF("recommended").options.n_masks == 4


def test_splic_on_a_missing_back_end(monkeypatch):
    absent = [name for name, info in splic_ext.backend_info().items() if not info.available]
    if not absent:
        pytest.skip("every back end is available")
    with pytest.raises(splic_ext.BackendUnavailableError):
        defenses.SPLIC(backend=absent[0])


# Defended networks


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(216, 8), torch.nn.Dropout(), torch.nn.Linear(8, 4)
    )


def test_defended(images):
    model, defense = network(), defenses.USVT(seed=1)
    defended = defenses.Defended(model, defense).eval()
    assert not model.training
    assert torch.equal(defended(images, index=4), model(defense(images, index=4)))
    assert len(list(defended.parameters())) == 4
    inputs = images.clone().requires_grad_()
    defended(inputs).sum().backward()
    assert inputs.grad.abs().max() > 0
    assert defended.state_dict().keys() == {f"model.{name}" for name in model.state_dict()}


def test_defended_warns_in_train_mode(images):
    defended = defenses.Defended(network(), defenses.Identity())
    defended(images)
    with torch.no_grad():
        with pytest.warns(UserWarning, match=r"train mode under torch.no_grad.*call `.eval\(\)`"):
            defended(images)
        defended(images)  # once is enough


def test_defended_refuses_other_things():
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got function"):
        defenses.Defended(network, defenses.Identity())
    with pytest.raises(TypeError, match=r"`defense` must be a Defense, .*got function; .*Compose"):
        defenses.Defended(network(), torch.nn.functional.relu)


# The package

WITHOUT_TORCH = """
import sys
from importlib import import_module
sys.modules["torch"] = None
import splic_ext
try:
    import_module({!r})
except splic_ext.MissingExtraError as error:
    print(error.extra, error, sep="|")
"""


@pytest.mark.parametrize("module", ["splic_ext.autograd", "splic_ext.defenses"])
def test_without_torch(run_python, module):
    extra, _, message = run_python(WITHOUT_TORCH.format(module)).partition("|")
    assert extra == "torch"
    assert message.startswith(f"`{module}` needs the package 'torch'")


def test_jpeg_without_pillow(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match="`JPEG` needs the package 'pillow'"):
        defenses.JPEG()
