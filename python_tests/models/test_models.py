"""Networks: shapes, normalisation, numbers of channels, known sizes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.models import CHANNELS, images, torch

from splic_ext import ShapeError
from splic_ext.models import (
    ALIASES,
    MODELS,
    Normalize,
    ResNet,
    build_model,
    cifar_resnet20,
    cifar_resnet56,
    digits_cnn,
    resnet18_32,
    shapes_cnn,
    svhn_vgg,
)

# Networks


@pytest.mark.parametrize("classes", [1, 7])
@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients(name, classes):
    torch.manual_seed(0)
    network = build_model(name, num_classes=classes)
    assert network.training
    batch = images(name).requires_grad_()
    logits = network(batch)
    assert logits.shape == (2, classes)
    assert logits.dtype == torch.float32
    logits.square().sum().backward()
    assert batch.grad.abs().max() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_an_image_does_not_depend_on_its_batch(name):
    torch.manual_seed(0)
    network = build_model(name).eval()
    batch = images(name, 3)
    with torch.no_grad():
        single = torch.cat([network(image[None]) for image in batch])
        assert torch.allclose(network(batch), single, atol=1e-4)
        strided = batch.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        assert torch.allclose(network(strided), single, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_no_image_at_all(name):
    assert build_model(name).eval()(images(name)[:0]).shape == (0, 10)


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (cifar_resnet20, 269_722), (cifar_resnet56, 853_018), (resnet18_32, 11_173_962),
        (shapes_cnn, 63_258),
    ],
)  # fmt: skip
def test_number_of_weights_is_that_of_the_literature_or_of_its_docstring(build, count):
    assert sum(p.numel() for p in build().parameters()) == count


def test_resnet18_keeps_the_size_in_its_first_stage():
    network = resnet18_32()
    sizes = []
    for k in range(1, 5):
        stage = network.get_submodule(f"layer{k}")
        stage.register_forward_hook(lambda _, __, y: sizes.append(tuple(y.shape[1:])))
    network(images("resnet18_32"))
    assert sizes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_shortcuts_of_option_a_have_no_weights():
    """Every other pixel, and zeros on both sides of the channels."""
    shortcut = cifar_resnet20().layer2[0].shortcut
    assert not list(shortcut.parameters())
    x = torch.rand(2, 16, 8, 8)
    y = shortcut(x)
    assert y.shape == (2, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert y[:, :8].abs().max() == y[:, 24:].abs().max() == 0


@pytest.mark.parametrize("size", [1, 2, 9, 48])
def test_shapes_of_any_size(size):
    assert shapes_cnn(4)(images("shapes_cnn", size=size)).shape == (2, 4)


@pytest.mark.parametrize("size", [2, 7, 8, 28])
def test_digits_of_any_size(size):
    assert digits_cnn()(images("digits_cnn", size=size)).shape == (2, 10)


def test_double_precision():
    network = svhn_vgg().double().eval()
    assert network(images("svhn_vgg").double()).dtype == torch.float64


# Normalisation


def test_normalisation_is_the_first_layer():
    torch.manual_seed(0)
    network = cifar_resnet20().eval()
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    batch = images("cifar_resnet20")
    assert torch.equal(network.normalize(batch), (batch - mean) / std)
    with torch.no_grad():
        logits = network(batch)
        network.normalize = Normalize([0, 0, 0], [1, 1, 1])
        assert torch.equal(network((batch - mean) / std), logits)


def test_normalisation_moves_and_is_saved_with_the_network():
    layer = Normalize([0.1, 0.2], [0.3, 0.4])
    assert not list(layer.parameters())
    assert set(layer.state_dict()) == {"mean", "std"}
    assert layer.double().mean.dtype == torch.float64
    assert repr(layer) == "Normalize(mean=(0.1, 0.2), std=(0.3, 0.4))"
    assert torch.autograd.gradcheck(layer, torch.rand(1, 2, 2, 2).double().requires_grad_())


@pytest.mark.parametrize(
    ("mean", "std", "error", "message"),
    [
        ([0.5], [0.0], ValueError, r"`std` must be finite and in \(0, 1e\+06\]"),
        ([0.5], [float("nan")], ValueError, "`std` must be finite"),
        (["a"], [1.0], TypeError, "`mean` must be a number"),
        ([0.5, 0.5], [1.0], ValueError, "one value for each channel, got 2 and 1"),
        ([], [], ValueError, "one value for each channel, got 0 and 0"),
    ],
)
def test_bad_constants(mean, std, error, message):
    with pytest.raises(error, match=message):
        Normalize(mean, std)


# Errors


@pytest.mark.parametrize("name", MODELS)
def test_bad_images(name):
    network = build_model(name).eval()
    batch = images(name)
    with pytest.raises(TypeError, match=r"`images` must be a floating-point tensor.*torch.uint8"):
        network((batch * 255).byte())
    with pytest.raises(ShapeError, match=r"`images` must have shape .*images\[None\]") as caught:
        network(batch[0])
    assert caught.value.actual_shape == tuple(batch.shape[1:])
    with pytest.raises(ShapeError, match="`images` must have shape"):
        network(torch.rand(2, 2, 32, 32))


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((3, 32, 32), r"add the axis of a single image with `images\[None\]`$"),
        ((4, 32, 32, 3), r"move the channels first, with `images.permute\(0, 3, 1, 2\)`"),
        ((4, 1, 8, 8), "takes 3 channels, and the images have 1: give another network or"),
        ((8, 8), "give a batch of images$"),
    ],
)
def test_advice_on_the_shape_of_images(shape, advice):
    with pytest.raises(ShapeError, match=advice):
        cifar_resnet20().eval()(torch.rand(shape))


def test_sizes_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"\(N, 3, 32, 32\), got \(2, 3, 28, 28\)"):
        svhn_vgg()(images("svhn_vgg", size=28))
    with pytest.raises(ShapeError, match=r"H and W from 2, got \(1, 1, 1, 8\)"):
        digits_cnn()(torch.rand(1, 1, 1, 8))


def test_unknown_name():
    with pytest.raises(ValueError, match=r"one of cifar_resnet20, .*svhn_vgg, got 'resnet50'"):
        build_model("resnet50")
    with pytest.raises(TypeError, match="model name must be a string, got 20"):
        build_model(20)


@pytest.mark.parametrize("short", ALIASES)
def test_short_names(short):
    assert ALIASES[short] in MODELS
    assert str(build_model(short)) == str(build_model(ALIASES[short]))


@pytest.mark.parametrize("name", MODELS)
def test_bad_number_of_classes(name):
    with pytest.raises(ValueError, match="`num_classes` must be an integer in"):
        build_model(name, num_classes=0)
    with pytest.raises(TypeError, match="`num_classes` must be an integer"):
        build_model(name, num_classes=10.0)


def test_stages_that_do_not_match():
    with pytest.raises(ValueError, match="one number for each stage, got 2 and 1"):
        ResNet([1, 1], [8], projection=True)
    with pytest.raises(ValueError, match="`widths` must be an integer"):
        ResNet([1, 1], [8, 4], projection=True)


def test_the_registry_cannot_be_changed():
    with pytest.raises(TypeError):
        MODELS["mine"] = digits_cnn


# The package


def test_without_torch(run_python):
    code = """
import sys
sys.modules["torch"] = None
import splic_ext
try:
    import splic_ext.models
except splic_ext.MissingExtraError as error:
    print(error.extra, error)
"""
    assert run_python(code).startswith("torch `splic_ext.models` needs the package 'torch'")


# Other numbers of channels


@pytest.mark.parametrize("name", MODELS)
def test_other_channels_are_not_normalised(name):
    own = CHANNELS.get(name, 3)
    torch.manual_seed(0)
    network = build_model(name, num_classes=4, channels=2 * own).eval()
    batch = images(name)
    assert network(torch.cat([batch, 1 - batch], dim=1)).shape == (2, 4)
    empty = torch.zeros(1, 2 * own, *batch.shape[2:])
    assert torch.equal(network.normalize(empty), empty), "what is hidden stays 0"
    with pytest.raises(ShapeError, match=f"the network takes {2 * own} channels"):
        network(batch)


@pytest.mark.parametrize("name", MODELS)
def test_its_own_channels_are_the_default(name):
    networks = []
    for channels in (None, np.int64(CHANNELS.get(name, 3))):
        torch.manual_seed(3)
        networks.append(build_model(name, channels=channels).state_dict())
    assert all(torch.equal(value, networks[1][key]) for key, value in networks[0].items())


@pytest.mark.parametrize(
    ("channels", "kind", "message"),
    [
        (0, ValueError, "`channels` must be an integer in \\[1, 1024\\], got 0"),
        (2.5, TypeError, "`channels` must be an integer, got 2.5"),
    ],
)
def test_channels_that_are_refused(channels, kind, message):
    with pytest.raises(kind, match=message):
        build_model("svhn_vgg", channels=channels)
