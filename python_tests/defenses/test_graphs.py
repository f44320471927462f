"""Defences in torch.compile, torch.export, vmap and torch.func: what eager code gets."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")
from helpers.defenses import MAKERS, QUICK, random_images  # noqa: E402

from splic_ext import defenses  # noqa: E402

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
def test_compile(name, gradient):
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


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("name", "gradient"), CASES)
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
