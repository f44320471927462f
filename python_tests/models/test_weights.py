"""Weights from files: what fits, what is refused, accuracies of stock weights."""

from __future__ import annotations

import io
import pickle
import pickletools
import sys
import traceback
import zipfile

import numpy as np
import pytest
from helpers.data import Malicious
from helpers.models import images, torch

from splic_ext import MissingExtraError
from splic_ext.defenses import Defended, GaussianBlur
from splic_ext.models import (
    MODELS,
    Normalize,
    build_model,
    cifar_resnet20,
    digits_cnn,
    load_weights,
)


@pytest.fixture
def saved(tmp_path):
    """A trained-like digits network, and the file of its weights."""
    torch.manual_seed(5)
    network = digits_cnn()
    path = tmp_path / "digits.pt"
    torch.save(network.state_dict(), path)
    return network, path


@pytest.mark.parametrize("name", MODELS)
def test_saved_weights_come_back(name, tmp_path):
    torch.manual_seed(1)
    network = build_model(name)
    network(images(name))  # gives the batch normalisation something to save
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = build_model(name)
    assert load_weights(other, tmp_path / "weights.pt") is other
    assert other.training
    batch = images(name, seed=3)
    assert torch.equal(other.eval()(batch), network.eval()(batch))


@pytest.mark.parametrize("container", [None, "state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_containers_and_prefix(saved, tmp_path, container, prefix):
    network, _ = saved
    content = {prefix + key: value for key, value in network.state_dict().items()}
    if container:
        content = {"epoch": 3, container: content}
    torch.save(content, tmp_path / "checkpoint.pth")
    loaded = load_weights(digits_cnn(), str(tmp_path / "checkpoint.pth"))
    assert torch.equal(loaded.classifier[0].weight, network.classifier[0].weight)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "module._orig_mod.", "net.model."])
def test_prefixes_of_wrappers(saved, tmp_path, prefix):
    """The names of a ResNet end alike: conv1.weight is in each block too."""
    for network in (saved[0], cifar_resnet20()):
        state = {prefix + key: value for key, value in network.state_dict().items()}
        torch.save({"state_dict": state}, tmp_path / "wrapped.pt")
        other = digits_cnn() if network is saved[0] else cifar_resnet20()
        loaded = load_weights(other, tmp_path / "wrapped.pt")
        for key, value in network.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value)


def test_weights_of_wrappers_that_have_more(saved, tmp_path):
    """Averaged models count, and defences have tensors of their own."""
    network, path = saved
    averaged = torch.optim.swa_utils.AveragedModel(network)
    defended = Defended(network, GaussianBlur())
    defended.defense.register_buffer("kernel", torch.ones(3))
    nested = Defended(averaged, GaussianBlur()), torch.optim.swa_utils.AveragedModel(defended)
    for wrapper in (averaged, defended, *nested):
        torch.save(wrapper.state_dict(), path)
        loaded = load_weights(digits_cnn(), path)
        assert torch.equal(loaded.classifier[0].weight, network.classifier[0].weight)
    torch.save(defended.state_dict(), path)
    other = Defended(digits_cnn(), GaussianBlur())
    other.defense.register_buffer("kernel", torch.zeros(3))
    assert load_weights(other, path).defense.kernel.sum() == 3


def test_a_prefix_is_named_where_the_rest_does_not_fit(saved, tmp_path):
    state = {f"model.{key}": value for key, value in saved[0].state_dict().items()}
    del state["model.classifier.0.bias"]
    torch.save(state, tmp_path / "wrapped.pt")
    expected = r"DigitsCNN, without the prefix 'model.' of its names: missing classifier.0.bias, un"
    with pytest.raises(ValueError, match=expected):
        load_weights(digits_cnn(), tmp_path / "wrapped.pt")


def test_normalisation_comes_from_the_file_if_it_is_there(saved, tmp_path):
    network, path = saved
    network.normalize = Normalize([0.25], [0.75])
    state = network.state_dict()
    torch.save(state, path)
    assert load_weights(digits_cnn(), path).normalize.mean.item() == 0.25
    torch.save({k: v for k, v in state.items() if not k.startswith("normalize")}, path)
    assert load_weights(digits_cnn(), path).normalize.mean.item() == 0.5


def test_safetensors(saved, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    network, _ = saved
    path = tmp_path / "digits.safetensors"
    safetensors.save_file(network.state_dict(), path)
    loaded = load_weights(digits_cnn(), path)
    assert torch.equal(loaded.classifier[2].bias, network.classifier[2].bias)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"digits.safetensors' cannot be read: .*header"):
        load_weights(digits_cnn(), path)


def test_safetensors_that_is_not_installed(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    path = tmp_path / "digits.safetensors"
    path.write_bytes(b"")
    with pytest.raises(MissingExtraError, match="safetensors") as caught:
        load_weights(digits_cnn(), path)
    assert caught.value.extra == "torch"


def test_weights_of_another_network(saved):
    _, path = saved
    network = cifar_resnet20()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"another network than ResNet: missing conv1.weight, .*"):
        load_weights(network, path)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_message_names_what_is_missing_and_unexpected(saved):
    network, path = saved
    state = network.state_dict()
    state["head.weight"] = state.pop("classifier.2.weight")
    torch.save(state, path)
    expected = "missing classifier.2.weight, unexpected head.weight; build the network"
    with pytest.raises(ValueError, match=expected):
        load_weights(digits_cnn(), path)
    torch.save({f"a{k}": torch.zeros(1) for k in range(7)}, path)
    with pytest.raises(ValueError, match="a4 and 2 more; build"):
        load_weights(digits_cnn(), path)
    torch.save({**network.state_dict(), "extra": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="missing none, unexpected extra"):
        load_weights(digits_cnn(), path)


def test_weights_of_another_shape(saved):
    _, path = saved
    network = digits_cnn(num_classes=7)
    before = network.features[0].weight.clone()
    expected = r"`classifier.2.weight` of shape \(10, 64\), .*\(7, 64\);"
    with pytest.raises(ValueError, match=expected) as caught:
        load_weights(network, path)
    assert str(caught.value).endswith("with `num_classes=10`")
    assert torch.equal(network.features[0].weight, before)


def test_weights_of_other_widths(saved):
    network, path = saved
    state = network.state_dict()
    state["features.0.weight"] = torch.zeros(7, 1, 3, 3)
    state["features.0.bias"] = torch.zeros(7)
    state["features.2.weight"] = torch.zeros(*state["features.2.weight"].shape[:1], 7, 3, 3)
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"the `num_classes` and the widths of the file$"):
        load_weights(digits_cnn(), path)


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}, {"state_dict": {}}, torch.zeros(3)])
def test_files_without_weights(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt' must hold a dict of names to tensors"):
        load_weights(digits_cnn(), tmp_path / "other.pt")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", pickle.dumps([1])[:-3]])
def test_damaged_files(tmp_path, content):
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.pt' cannot be read: .*torch.save"):
        load_weights(digits_cnn(), path)


HOSTILE = {
    "deep keys": b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
    "shared keys": b"\x80\x02})" + b"2\x86" * 40 + b"K\x01s.",
    "shared keys by memo": b"\x80\x02})q\x01" + b"h\x01\x86q\x01" * 40 + b"K\x01s.",
    "a long name": b"\x80\x02c" + b"a" * 2**20 + b"\nb\n.",
    "a long text": b"\x80\x02X\x00\x00\x10\x00" + b"a" * 2**20 + b")R.",
    "no value": b"\x80\x02}K\x01s.",
    "a text without end": b"\x80\x02X\xff\xff\xff\xffabc.",
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(tmp_path, name, old):
    """They take the stack of Python's own hashes, the time or the memory."""
    saved = io.BytesIO()
    torch.save({}, saved, _use_new_zipfile_serialization=not old)
    path = tmp_path / "hostile.pt"
    if old:  # the fourth of five pickles
        saved.seek(0)
        for _ in range(3):
            list(pickletools.genops(saved))
        path.write_bytes(saved.getvalue()[: saved.tell()] + HOSTILE[name] + pickle.dumps([], 2))
    else:
        with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(path, "w") as result:
            for member in archive.namelist():
                content = HOSTILE[name] if member.endswith("data.pkl") else archive.read(member)
                result.writestr(member, content)
    with pytest.raises(ValueError, match=r"hostile.pt' cannot be read: .*torch.save"):
        load_weights(digits_cnn(), path)


def test_packed_weights(tmp_path):
    """torch unpacks them into the memory, whatever they unpack to."""
    saved = io.BytesIO()
    torch.save({"x": torch.zeros(2**18)}, saved)
    with (
        zipfile.ZipFile(saved) as archive,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as result,
    ):
        for member in archive.namelist():
            result.writestr(member, archive.read(member))
    with pytest.raises(ValueError, match=r"packed.pt' .*its part '.*' is compressed"):
        load_weights(digits_cnn(), tmp_path / "packed.pt")


def test_truncated_file(saved):
    _, path = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"digits.pt' cannot be read"):
        load_weights(digits_cnn(), path)


def test_a_malicious_file_is_refused(tmp_path):
    torch.save({"state_dict": Malicious(tmp_path / "run")}, tmp_path / "bad.pt")
    expected = r"bad.pt' cannot be read: it holds more than tensors, or is no weights file; give a"
    with pytest.raises(ValueError, match=expected) as caught:
        load_weights(digits_cnn(), tmp_path / "bad.pt")
    printed = "".join(traceback.format_exception(caught.value))
    assert "weights_only" not in printed, "torch advises to run the file"
    assert not (tmp_path / "run").exists()


def test_a_whole_saved_model_is_refused(tmp_path):
    torch.save(digits_cnn(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model.pt' cannot be read"):
        load_weights(digits_cnn(), tmp_path / "model.pt")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.pt' does not exist; check its path"):
        load_weights(digits_cnn(), tmp_path / "none.pt")


def test_a_folder_for_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is a folder; give the file in it$"):
        load_weights(digits_cnn(), tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"is a folder; give '.*weights.safetensors'$"):
        load_weights(digits_cnn(), tmp_path)


# Stock weights

#: Network, weights, data, accuracy in % and how many images that is from: of the same sources,
#: but of the first two not the same images.
STOCK = [
    ("cifar_resnet20", "cifar10_resnet20.th", "cifar10_test_lossless.npz", 91.6, 1017),
    ("cifar_resnet56", "cifar10_resnet56.th", "cifar10_test_lossless.npz", 92.7, 1017),
    ("svhn_vgg", "svhn_small_vgg.pth", "svhn_subset_test.npz", 94.7, 10_000),
]


@pytest.mark.parametrize(("name", "weights", "data", "accuracy", "count"), STOCK)
def test_accuracy_of_stock_weights(shared_folder, name, weights, data, accuracy, count):
    """Within two and a half standard errors of the two samples together."""
    if not (shared_folder / "weights" / weights).is_file():
        pytest.skip(f"no network: {shared_folder / 'weights' / weights} does not exist")
    network = load_weights(build_model(name), shared_folder / "weights" / weights).eval()
    with np.load(shared_folder / "data" / data) as archive:
        x, y = archive["x"][:1000], archive["y"][:1000]
    with torch.no_grad():
        logits = [network(torch.from_numpy(part).float() / 255) for part in np.split(x, 4)]
    measured = 100 * np.mean(torch.cat(logits).argmax(dim=1).numpy() == y)
    variance = accuracy * (100 - accuracy) * (1 / len(y) + 1 / count)
    assert abs(measured - accuracy) <= 2.5 * np.sqrt(variance), measured


@pytest.mark.parametrize("name", MODELS)
def test_weights_of_other_channels_say_how_many(tmp_path, name):
    torch.manual_seed(1)
    network = build_model(name, channels=2)
    torch.save(network.state_dict(), tmp_path / "two.pt")
    with pytest.raises(ValueError, match="build the network with `channels=2`"):
        load_weights(build_model(name), tmp_path / "two.pt")
    found = load_weights(build_model(name, channels=2), tmp_path / "two.pt").state_dict()
    assert all(torch.equal(value, found[key]) for key, value in network.state_dict().items())
    torch.save(build_model(name, num_classes=3, channels=2).state_dict(), tmp_path / "both.pt")
    with pytest.raises(ValueError, match="build the network with the `num_classes` and the widths"):
        load_weights(build_model(name), tmp_path / "both.pt")
