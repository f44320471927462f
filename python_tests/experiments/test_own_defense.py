"""The whole adaptive protocol, at its smallest size, on defences that a user brings."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest
from helpers.cli import invoke
from helpers.evaluation import fit_digits, no_work, numbers, part_times

pytest.importorskip("foolbox", reason="foolbox is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

from splic_ext.attacks import AttackError, FunctionAttack, ThreatModel  # noqa: E402
from splic_ext.data import load_dataset  # noqa: E402
from splic_ext.defenses import Defense, RandomDefense  # noqa: E402
from splic_ext.evaluation import evaluate  # noqa: E402
from splic_ext.experiments import SECTIONS, ExperimentResult, evaluate_adaptively  # noqa: E402
from splic_ext.models import build_model  # noqa: E402

DIGITS = load_dataset("digits", limit=4)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "defenses.md"


@pytest.fixture(scope="module")
def network():
    return fit_digits()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The file of the documentation."""
    if not PAGE.is_file():
        pytest.skip("the tests run without the documentation beside them")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    own = [block for block in blocks if "class Median" in block or "class ResizePad" in block]
    assert len(own) == 2
    assert all(len(block.split("    def ", 1)[1].splitlines()) <= 10 for block in own)
    path = tmp_path / "mine.py"
    path.write_text("\n".join(own), encoding="utf-8")
    return path


def attacked(network, defense, folder=None, **changes):
    arguments = {"size": "smoke", "score_draws": 2, "progress": False, **changes}
    return evaluate_adaptively(network, DIGITS, defense=defense, output=folder, **arguments)


def sections(result):
    return list(dict.fromkeys(row.section for row in result.rows))


def test_a_median_filter(network, mine):
    """Deterministic: nothing is drawn, and the derivative is there."""
    result = attacked(network, "mine.py:Median:size=3", mine.parent / "out")
    absent = {"still", "draws", "surrogates", "others", "parts"}
    assert sections(result) == [t for key, t in SECTIONS.items() if key not in absent]
    rows = result.select(section="gradients")
    assert [row.attack for row in rows] == ["clean", "identity", "exact", "worst of them"]
    assert {row.draws for row in result.select(method="mine.py:Median:size=3")} == {1}
    for row in (*result.select(section="steps"), *result.select(section="losses and step rules")):
        if row.attack not in ("clean", "worst of them"):
            assert json.loads(row.parameters)["gradient"] == "exact", "its own derivative"
    assert (
        "left out: masks held still, as the defence draws nothing, so that it"
        in result.to_markdown()
    )
    assert any(
        n.startswith("left out: without its parts, as the defence has no SPLIC")
        for n in result.notes
    )
    assert result.notes[-1].startswith("verdict: weakest gradient: ")
    assert "strongest attack: '" in result.notes[-1]


def test_a_random_resize_and_pad(network, mine):
    """By the command, and taken up again until its file changes."""
    torch.manual_seed(0)
    torch.save(build_model("digits_cnn").state_dict(), "digits.pt")
    command = (
        "attack", "--dataset", "digits", "--limit", 4, "--model", "digits_cnn", "--weights",
        "digits.pt", "--defense", "mine.py:ResizePad", "--size", "smoke", "--draws", 2, "-o", "out",
    )  # fmt: skip
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    for words in ("Adaptive attacks on mine.py:ResizePad", "masks held still", "verdict: weakest"):
        assert words in result.stdout
    found = ExperimentResult.from_json(Path("out/adaptive.json").read_text())
    absent = {"surrogates", "others", "parts"}
    assert sections(found) == [t for key, t in SECTIONS.items() if key not in absent]
    assert {row.draws for row in found.select(section="gradients")} == {2}
    assert {row.draws for row in found.select(section="masks held still")} == {1}
    before = part_times(Path("out"))
    again = invoke(*command, "--section", "gradients")
    assert no_work(Path("out"))
    assert part_times(Path("out")) == before, again.output
    text = mine.read_text()
    mine.write_text(text.replace("* 5 // 4", "* 6 // 4"))
    assert invoke(*command, "--section", "gradients").exit_code == 0
    made = part_times(Path("out"))
    assert before.items() < made.items(), "other code makes parts of its own"
    kinds = [path.name.partition("-")[0] for path in made.keys() - before.keys()]
    assert {"attack", "score"} <= set(kinds)
    mine.write_text(text)
    assert invoke(*command, "--section", "gradients").exit_code == 0
    assert numbers(ExperimentResult.from_json(Path("out/adaptive.json").read_text()).rows) == (
        numbers(found.select(section="gradients"))
    )
    assert part_times(Path("out")) == made, "the old code finds its parts again"


class Rounded(Defense):
    def defend(self, images, index):
        return (4 * images).round() / 4


class Detached(RandomDefense):
    def defend(self, images, index):
        noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(self.draw() % 99))
        return images.detach() + 0.1 * noise


class Stubborn(Rounded):
    gradients = ("exact",)


@pytest.mark.parametrize(
    ("defense", "reason"),
    [
        (Rounded(), "its derivative is 0"),
        (Detached(), "its result is detached from the images"),
        (nn.Threshold(2.0, 0.5), "its derivative is 0"),
    ],
)
def test_without_a_derivative_the_protocol_goes_on_by_bpda(network, defense, reason):
    name = type(defense).__name__
    with pytest.warns(UserWarning, match=f"'exact' of `{name}` is left out: {reason}, so .*BPDA"):
        result = attacked(network, defense, sections=["gradients", "steps"])
    rows = result.select(section="gradients")
    assert [row.attack for row in rows] == ["clean", "identity"]
    assert any(
        note.startswith(f"the gradient exact is left out: {reason};") for note in result.notes
    )


def test_a_defence_without_any_gradient(network):
    with pytest.raises(
        ValueError, match="`Stubborn` must have a gradient to attack by, got none: "
    ):
        attacked(network, Stubborn())


def test_an_attack_by_a_missing_derivative_is_refused_at_the_start(network, tmp_path):
    with pytest.raises(
        AttackError, match="'eot-pgd' finds no gradient through 'x': its derivative"
    ):
        evaluate(
            network, DIGITS, defenses={"x": Rounded()}, attacks=["eot-pgd"], scenario="white",
            output=tmp_path, progress=False,
        )  # fmt: skip
    assert not list(tmp_path.iterdir()), "nothing was computed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluate(
            network, DIGITS, defenses={"x": Rounded()}, attacks=["bpda"], scenario="white",
            progress=False,
        )  # fmt: skip


class Shrunk(nn.Module):
    def forward(self, images):
        return images[..., 1:]


class Wild(nn.Module):
    """Cannot be copied."""

    def forward(self, images):
        return (images + 0.1 * torch.rand_like(images)).clamp(0, 1)

    def __deepcopy__(self, memo):
        raise RuntimeError("it holds a session")


@pytest.mark.parametrize(
    ("defense", "message"),
    [
        (Shrunk(), "the defence `Shrunk` must return images of the shape that it got"),
        (Wild(), "the defence `Wild` must be one that can be copied, got RuntimeError: it holds a"),
        ("nothing.py:Median", "the file 'nothing.py' of a defence cannot be read"),
    ],
)
def test_refused_at_the_start(network, defense, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        attacked(network, defense, tmp_path)
    assert not list(tmp_path.iterdir())


def invert(model, images, labels):
    return 1 - images


def test_attacks_of_others_count_if_they_keep_to_the_ball(network):
    near = FunctionAttack(function=lambda m, x, y: x, radius=ThreatModel(epsilon=8 / 255))
    chosen = {"sections": ["gradients", "others"], "defense": nn.Identity()}
    result = attacked(network, attacks={"near": near, "far": invert}, **chosen)
    rows = result.select(section="attacks of others")
    assert [row.attack for row in rows] == ["clean", "near", "far"]
    far = next(row for row in rows if row.attack == "far")
    assert far.mean.value < rows[0].mean.value
    assert "'far'" not in result.notes[-1], "it leaves the ball"
    assert "weakest gradient: " in result.notes[-1]
    with pytest.raises(ValueError, match="has 'others', which needs attacks of others; give"):
        attacked(network, **chosen)
