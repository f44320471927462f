"""The adaptive protocol: its sections, attacks, masks, sizes, files, refusals."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path

import pytest
from helpers.evaluation import (
    fit_digits,
    make_dataset,
    make_network,
    no_work,
    numbers,
    part_times,
)

pytest.importorskip("foolbox", reason="foolbox is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.data import load_dataset  # noqa: E402
from splic_ext.defenses import defense_from_spec  # noqa: E402
from splic_ext.evaluation import Accuracy  # noqa: E402
from splic_ext.experiments import SECTIONS as TITLES  # noqa: E402
from splic_ext.experiments import SIZES, ExperimentResult, Size, evaluate_adaptively  # noqa: E402
from splic_ext.experiments.adaptive.verdict import doubts  # noqa: E402
from splic_ext.experiments.tables.boxes import gradient_modes  # noqa: E402
from splic_ext.models import build_model  # noqa: E402

DIGITS = load_dataset("digits", limit=8)
BOTH = "splic:rank=4,max_iterations=14,anchor_fraction=0.9,alternate=false+tv:weight=0.03"
TINY = Size(4, 3, 2, 2, 1, (1, 3), (16, 64), 3, 1, 1)
SECTIONS = {
    "gradients": ["clean", "identity", "exact", "surrogate", "worst of them"],
    "masks held still": ["clean", "identity", "exact", "surrogate"],
    "draws for each gradient": ["clean", "1", "2", "3"],
    "losses and step rules": [
        "clean",
        "PGD, cross-entropy",
        "PGD, logit ratio",
        "Auto-PGD, cross-entropy",
        "Auto-PGD, logit ratio",
        "worst of them",
    ],
    "steps": [
        "clean",
        "3 of 1/255",
        "6 of 1/255",
        "3 of 0.5/255",
        "3 of 2/255",
        "2 restarts",
        "worst of them",
    ],
    "radius": ["clean", "8/255", "16/255", "64/255"],
    "queries": ["clean", "square, 3", "labels alone"],
    "transfer from the network without the defence": ["clean", "PGD, 3 of 1/255"],
    "without its parts": ["clean", "identity", "exact"],
    "known to be broken": ["clean", "8/255", "32/255", "exact, 8/255", "exact, 32/255"],
}


def attacked(network, folder=None, **changes):
    arguments = {"defense": BOTH, "size": TINY, "score_draws": 2, "progress": False, **changes}
    return evaluate_adaptively(network, DIGITS, output=folder, **arguments)


@pytest.fixture(scope="module")
def network():
    return fit_digits()


@pytest.fixture(scope="module")
def adaptive(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adaptive")
    return folder, attacked(network, folder)


def test_sections(adaptive):
    _, result = adaptive
    found = {}
    for row in result.rows:
        found.setdefault(row.section, []).append(row.attack)
    assert {section: list(dict.fromkeys(attacks)) for section, attacks in found.items()} == SECTIONS
    assert {row.mean.n for row in result.rows} == {4}
    assert {row.method for row in result.select(section="radius")} == {BOTH}
    assert result.notes[0] == "seed 0"
    assert result.title == f"Adaptive attacks on {BOTH}"


def test_what_the_attacks_are(adaptive):
    _, result = adaptive

    def parameters(section, *names):
        rows = [row for row in result.select(section=section) if row.parameters]
        return [tuple(json.loads(row.parameters).get(name) for name in names) for row in rows]

    assert parameters("gradients", "gradient", "eot")[:3] == [
        ("identity", 2), ("exact", 2), ("surrogate", 2),
    ]  # fmt: skip
    assert parameters("draws for each gradient", "eot") == [(1,), (2,), (3,)]
    assert parameters("losses and step rules", "name", "loss")[:4] == [
        ("eot-pgd", "ce"), ("eot-pgd", "dlr"), ("apgd", "ce"), ("apgd", "dlr"),
    ]  # fmt: skip
    assert parameters("steps", "steps", "step_size", "restarts")[:5] == [
        (3, 1 / 255, 1), (6, 1 / 255, 1), (3, 0.5 / 255, 1), (3, 2 / 255, 1), (3, 1 / 255, 2),
    ]  # fmt: skip
    radius = [row for (row,) in parameters("radius", "attacks")]
    assert [[(a["gradient"], a["epsilon"], a["step_size"]) for a in row] for row in radius] == [
        [(gradient, e / 255, e / 255 / 8) for gradient in ("identity", "exact", "surrogate")]
        for e in (8, 16, 64)
    ], "steps grow with the radius, and each image keeps the worst of all gradients"
    assert parameters("known to be broken", "epsilon", "step_size")[1] == (32 / 255, 4 / 255)
    square, labels = parameters("queries", "name", "queries", "attack")
    assert square == ("square", 3, None)
    assert labels[0] == "within"
    assert labels[2]["name"] == "hopskipjump"
    assert {row.scenario for row in result.rows} == {"white", "gray"}
    assert {row.section for row in result.rows if row.scenario == "gray"} == {
        "transfer from the network without the defence"
    }


def test_the_worst_is_below_all(adaptive):
    _, result = adaptive
    for section in ("gradients", "losses and step rules", "steps"):
        *attacks, worst = result.select(section=section)[1:]
        assert worst.attack == "worst of them"
        for row in attacks:
            assert worst.mean.value <= row.mean.value
            assert worst.all_draws.value <= row.all_draws.value
        listed = json.loads(worst.parameters)["attacks"]
        assert listed == [json.loads(row.parameters) for row in attacks]


def test_sections_by_a_weak_gradient_say_so(adaptive, network):
    _, result = adaptive
    (note,) = [note for note in result.notes if "upper bounds" in note]
    assert note.startswith("by the gradient identity (BPDA) or without gradients alone, so that")
    assert note.endswith(
        ": draws for each gradient, losses and step rules, steps, queries, without its parts"
    )
    assert note in result.to_markdown()
    for changes, warned in (
        ({"sections": ["draws"]}, True),
        ({"sections": ["draws", "radius"]}, False),
        ({"sections": ["transfer"]}, False),
        ({"sections": ["gradients"]}, False),
        ({"defense": "jpeg", "sections": ["gradients"]}, True),
        ({"defense": "identity", "sections": ["gradients"]}, False),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            noted = attacked(network, **changes).notes
        assert bool(caught) == warned, changes
        assert any("upper bounds" in note for note in noted) == (
            changes["sections"][0] == "draws" or warned
        )


def test_a_large_radius_tells(adaptive):
    """So the numbers are not all 0 or all 1."""
    _, result = adaptive
    clean, *_, far = (row.mean.value for row in result.select(section="radius"))
    assert 0 < far < clean
    assert clean > 0.5


def test_masks_that_are_held_still(adaptive):
    _, result = adaptive
    still = result.select(section="masks held still")
    assert {row.draws for row in still} == {1}, "there is nothing to draw"
    assert all("seed=1" in row.defense for row in still)
    drawn = result.select(section="gradients")
    assert {row.draws for row in drawn} == {2}
    assert all("seed=None" in row.defense for row in drawn)


def test_parts_that_go_are_those_of_the_defence(adaptive):
    _, result = adaptive
    rows = {row.method: row.defense for row in result.select(section="without its parts")}
    assert len(rows) == 5
    plain = rows.pop("total variation denoising, no masks")
    assert plain.startswith("TotalVariation(weight=0.1")
    for method, changes in {
        "rank and smoothed rank, no total variation": "rank=4, tv_weight=0.0, ",
        "hardly any smoothed rank": "rank=4, delta_decay=0.001, ",
        "no rank cut": "rank=8, ",
        "mask and smoothed rank alone": "rank=8, tv_weight=0.0, ",
    }.items():
        assert (
            f"SPLIC(options=SolverOptions.preset('paper', {changes}max_iterations=14, "
            in rows[method]
        )
        assert "TotalVariation(weight=0.03" in rows[method]


def test_known_attacks_fall(adaptive):
    _, result = adaptive
    rows = result.select(section="known to be broken")
    assert {row.method for row in rows} == {"ME-Net (USVT)", "no defence"}
    clean, _, far = (row for row in rows if row.method == "no defence")
    assert far.mean.value < clean.mean.value


@pytest.mark.parametrize(
    ("section", "method", "attacks"),
    [
        ("without its parts", "no rank cut", ["clean", "identity"]),
        (
            "without its parts",
            "total variation denoising, no masks",
            ["clean", "identity", "exact"],
        ),
        (
            "known to be broken",
            "ME-Net (USVT)",
            ["clean", "8/255", "32/255", "exact, 8/255", "exact, 32/255"],
        ),
        ("known to be broken", "no defence", ["clean", "8/255", "32/255"]),
    ],
)
def test_what_has_a_derivative_is_attacked_through_it(adaptive, section, method, attacks):
    _, result = adaptive
    rows = result.select(section=section, method=method)
    assert [row.attack for row in rows] == attacks
    for row in rows[1:]:
        gradient = "exact" if row.attack.startswith("exact") else "identity"
        assert json.loads(row.parameters)["gradient"] == gradient


@pytest.mark.parametrize(
    ("spec", "modes"),
    [
        ("splic:max_iterations=7", ["identity", "exact", "surrogate"]),
        ("tv+splic:max_iterations=7", ["identity", "exact", "surrogate"]),
        ("usvt", ["identity", "exact"]),
        ("tv+gaussian", ["identity", "exact"]),
        ("splic:max_iterations=7+jpeg", ["identity"]),
        ("jpeg", ["identity"]),
        ("identity", ["identity"]),
        ("tv+identity", ["identity", "exact"]),
    ],
)
def test_each_gradient_once(spec, modes):
    """The surrogate of a defence without one is its derivative."""
    assert gradient_modes(defense_from_spec(spec)) == modes


def test_files_of_the_protocol(adaptive):
    folder, result = adaptive
    assert ExperimentResult.from_json((folder / "adaptive.json").read_text()) == result
    assert (folder / "adaptive.md").read_text() == result.to_markdown()
    for section in SECTIONS:
        assert f"\n## {section}\n" in result.to_markdown()


def test_the_protocol_is_taken_up_again(adaptive, network):
    folder, result = adaptive
    assert result.budget is None, "a size of one's own has no name"
    before = part_times(folder)
    again = attacked(network, folder)
    assert numbers(again.rows) == numbers(result.rows)
    assert no_work(folder)
    assert part_times(folder) == before


def test_the_protocol_is_repeatable(network):
    """Masks included, whatever was drawn before; another seed draws others."""
    runs = [attacked(network, defense="usvt", size="smoke", seed=seed) for seed in (0, 0, 1)]
    first, again, other = (
        [dataclasses.replace(row, seconds=0.0) for row in run.rows] for run in runs
    )
    assert first == again
    assert numbers(first) != numbers(other)
    still = [numbers(run.select(section="masks held still")[:1]) for run in runs]
    assert still[0] == still[2], "they do not come from the seed"


def test_a_size_by_name(network):
    result = attacked(network, defense="jpeg", size="smoke")
    assert {row.mean.n for row in result.rows} == {SIZES["smoke"].images}
    assert [row.attack for row in result.select(section="gradients")] == ["clean", "identity"], (
        "JPEG has no other gradient, and one attack has no worst"
    )
    assert not result.select(section="without its parts")
    assert result.budget == "smoke", "by which a report knows what means nothing"
    assert {row.draws for row in result.select(method="jpeg")} == {1}


def test_the_sizes_that_are_documented():
    page = Path(__file__).resolve().parents[2] / "docs" / "experiments.md"
    if not page.is_file():
        pytest.skip("the tests run without the documentation beside them")
    section = page.read_text(encoding="utf-8").split("\n## Sizes\n")[1].split("\n- ")[0]
    _, _, *rows = (line.strip("| ").split(" | ") for line in section.splitlines() if line)
    columns = zip(*(cells[1:] for cells in rows), strict=True)
    for size, column in zip(SIZES.values(), columns, strict=True):
        draws = ", ".join(map(str, sorted({*size.draws, size.eot})))
        radii = ", ".join(map(str, sorted({*size.epsilons, 8})))
        queries = f"{size.queries:,}, {size.query_eot}"
        assert column == (
            f"{size.images:,}", f"{size.steps}", f"{size.eot}", f"{size.sweep_eot}", draws, radii,
            f"{size.restarts}", queries, f"{size.walk}",
        )  # fmt: skip


def test_the_sections_that_are_documented():
    page = Path(__file__).resolve().parents[2] / "docs" / "experiments.md"
    if not page.is_file():
        pytest.skip("the tests run without the documentation beside them")
    section = page.read_text(encoding="utf-8").split("\n## Its sections\n")[1].split("\n\n*")[0]
    _, _, *rows = (line.strip("| ").split(" | ") for line in section.splitlines() if line)
    assert [(cells[0].strip("`"), cells[1]) for cells in rows] == list(TITLES.items())


def test_sizes_grow():
    small, medium, large = (dataclasses.asdict(SIZES[name]) for name in ("smoke", "small", "full"))
    for name, value in small.items():
        if not isinstance(value, tuple):
            assert value < medium[name] or name == "restarts"
            assert medium[name] < large[name]


def test_transfer_from_other_networks(network, adaptive):
    """From a copy of the network it is what gray box attacks are; from a broken one, nothing."""
    torch.manual_seed(1)
    others = {"itself": network, "untrained": build_model("digits_cnn").eval()}
    result = attacked(network, surrogates=others, sections=["surrogates"])
    rows = result.select(section="transfer from other networks")
    assert list(result.rows) == list(rows)
    assert [row.attack for row in rows] == ["clean", "PGD on itself", "clean", "PGD on untrained"]
    assert {row.scenario for row in rows} == {"black"}
    gray = adaptive[1].select(section="transfer from the network without the defence")[1]
    assert json.loads(rows[1].parameters) == json.loads(gray.parameters)
    assert rows[1].mean == gray.mean
    titles = [note.partition(":")[0] for note in result.notes if "SHA-256" in note]
    assert titles == ["itself", "untrained"]


def test_attacks_that_leave_all_standing_are_doubted(adaptive):
    def rows(left):
        for row in adaptive[1].rows:
            mean = Accuracy(1.0 if row.attack == "clean" else left / 4, 0.0, 1.0, 4)
            yield dataclasses.replace(row, mean=mean, all_draws=mean, majority=mean)

    (note,) = doubts(list(rows(3)))
    assert note.startswith("the attacks do not work here, and no number here says that")
    assert f"75.0 % of '{BOTH}' at 64/255 in 'radius'" in note
    assert "75.0 % of 'no defence' at 32/255 in 'known to be broken'" in note
    assert doubts(list(rows(2))) == []
    near = [row for row in rows(4) if "64/255" not in row.attack and "32/255" not in row.attack]
    assert [row.attack for row in near if row.section == "radius"] == ["clean", "8/255", "16/255"]
    assert "known to be broken" not in doubts(near)[0]
    assert doubts([row for row in near if "16/255" not in row.attack]) == []


def test_chosen_sections(network, adaptive):
    result = attacked(network, sections=["radius", "still"])
    chosen = [row for row in adaptive[1].rows if row.section in ("radius", "masks held still")]
    assert numbers(result.rows) == numbers(chosen), "a section depends on others"
    assert result.notes[1:-1] == (
        "not the whole protocol, left out: gradients, draws for each gradient, losses and step "
        "rules, steps, queries, transfer from the network without the defence, transfer from other "
        "networks, attacks of others, without its parts, known to be broken",
    )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sections": []}, ValueError, "`sections` must have one of gradients, still, draws, "),
        ({"sections": ["all"]}, ValueError, "`sections` must be among gradients, still, .*'all'"),
        ({"sections": ["surrogates"]}, ValueError, "has 'surrogates', which needs other n"),
        ({"sections": ["parts"], "defense": "tv"}, ValueError, "needs a defence that has SPLIC"),
        ({"sections": "radius"}, TypeError, "`sections` must be a sequence of strings, got 'radi"),
        ({"surrogates": [1]}, TypeError, "`surrogates` must map titles to networks, got list"),
        ({"surrogates": {"x": None}}, TypeError, r"`surrogates\['x'\]` must be a torch.nn.Module"),
        ({"surrogates": {"x": make_network().train()}}, ValueError, r"`surrogates\['x'\]` .*train"),
        ({"size": "huge"}, ValueError, "`size` must be one of smoke, small, full, or a Size, got"),
        ({"size": 3}, ValueError, "`size` must be one of smoke, small, full, or a Size, got 3"),
        ({"size": None}, ValueError, "`size` must be one of smoke"),
        (
            {"size": dataclasses.replace(TINY, images=0)},
            ValueError,
            "`images` must be an integer in",
        ),
        ({"size": dataclasses.replace(TINY, eot=0)}, ValueError, "`eot` must be an integer in"),
        ({"score_draws": 0}, ValueError, "`score_draws` must be an integer in"),
        ({"score_draws": 1.5}, TypeError, "`score_draws` must be an integer, got 1.5"),
        ({"seed": -1}, ValueError, "`seed` must be an integer in"),
        ({"defense": "median"}, ValueError, "defence name must be one of splic"),
        ({"defense": 3}, TypeError, "`defense` must be a Defense, a torch.nn.Module or a text"),
        ({"sections": ["still"], "defense": "tv"}, ValueError, "needs a defence that draws masks"),
        ({"output": __file__}, ValueError, "`output` must be a folder, got the file"),
    ],
)  # fmt: skip
def test_refused_protocols(changes, error, message):
    arguments = {"size": "smoke", "progress": False, **changes}
    with pytest.raises(error, match=message):
        evaluate_adaptively(make_network(), make_dataset(2), **arguments)


def test_refused_images():
    with pytest.raises(TypeError, match="`dataset` must be a Dataset, got ndarray"):
        evaluate_adaptively(make_network(), DIGITS.images, size="smoke")
