"""Attacks on compiled networks: those on the networks themselves, to rounding."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
from helpers.attacks import QUICK, conv_network, images_and_labels, labels_of  # noqa: E402

attacks = pytest.importorskip("splic_ext.attacks")
defenses = pytest.importorskip("splic_ext.defenses")
from splic_ext import SolverOptions  # noqa: E402

# torch warns of its own inner workings.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]
OPTIONS = SolverOptions(max_iterations=7)


CASES = [(name, "identity", False) for name in QUICK]
CASES += [(name, "exact", inner) for name in ("pgd", "eot-pgd") for inner in (False, True)]


@pytest.mark.parametrize(("name", "gradient", "inner"), CASES)
def test_an_attack_on_a_compiled_network(name, gradient, inner):
    torch.compiler.reset()
    network = conv_network()
    images, _ = images_and_labels()
    defended = defenses.Defended(network, defenses.SPLIC(OPTIONS, gradient=gradient)).eval()
    with defenses.seeded_masks(1), torch.no_grad():
        labels = labels_of(defended, images)

    def fast(module):
        return torch.compile(module, backend="aot_eager")

    quick = defenses.Defended(fast(network), defended.defense) if inner else fast(defended)
    expected = QUICK[name](defended, images, labels, index=5)
    found = QUICK[name](quick.eval(), images, labels, index=5)
    torch.testing.assert_close(found, expected)


def test_a_compiled_network_is_looked_through():
    images, labels = images_and_labels()
    whole = torch.compile(
        defenses.Defended(conv_network(), defenses.USVT(gradient="exact")), backend="eager"
    )
    with pytest.raises(ValueError, match="`model` must be in eval mode"):
        attacks.BPDA()(whole.train(), images, labels)
    hidden = torch.compile(torch.nn.Sequential(whole), backend="eager").eval()
    with pytest.raises(ValueError, match="holds the random defence USVT where the index"):
        attacks.BPDA()(hidden, images, labels)
