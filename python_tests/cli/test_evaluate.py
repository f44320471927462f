"""``splic-ext evaluate``: reports, inputs, failures, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.cli import command, invoke, run_command

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")

from splic_ext.data import load_dataset  # noqa: E402
from splic_ext.evaluation import EvaluationReport, evaluate, load_network  # noqa: E402
from splic_ext.experiments import ExperimentResult, evaluate_adaptively  # noqa: E402
from splic_ext.models import build_model  # noqa: E402
from splic_ext.runs.fingerprints import fingerprint_weights  # noqa: E402


@pytest.fixture
def files(tmp_path, monkeypatch):
    """An archive of images, and weights of two networks; in the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 1, 8, 8), dtype=np.uint8)
    np.savez("mine.npz", x=images, y=np.arange(12) % 10, classes=np.array(list("0123456789")))
    for seed, name in enumerate(("one.pt", "two.pt")):
        torch.manual_seed(seed)
        torch.save(build_model("digits_cnn").state_dict(), name)
    return tmp_path


BASE = ("--dataset", "mine.npz", "--model", "digits_cnn", "--weights", "one.pt")


def evaluated(*arguments, code=0):
    result = invoke("evaluate", *BASE, *arguments)
    assert result.exit_code == code, result.output
    return result


def library(**changes):
    arguments = {"defenses": ["identity"], "attacks": ["fgsm"], "draws": 2, **changes}
    data = load_dataset("mine.npz")
    return evaluate(load_network("digits_cnn", "one.pt"), data, **arguments)


def counts(report):
    return [(r.attack, r.defense, r.right, r.voted) for r in report.records]


def test_the_report_is_that_of_the_library(files, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    result = evaluated(
        "--defense", "identity", "--defense", "usvt:keep=1/2", "--attack", "fgsm",
        "--attack", "pgd:steps=2", "-o", "out", "--draws", 2, "--seed", 3, "--batch-size", 5,
    )  # fmt: skip
    expected = library(
        defenses=["identity", "usvt:keep=1/2"], attacks=["fgsm", "pgd:steps=2"], seed=3,
        batch_size=5,
    )  # fmt: skip
    report = EvaluationReport.load("out/report.json")
    assert counts(report) == counts(expected)
    assert report.key == expected.key
    assert report.records[0].model.name == "digits_cnn"
    assert report.records[0].provenance.command.startswith("splic-ext")
    for words in ("usvt:keep=1/2", "pgd:steps=2", "gray box, 12 images of mine", "report.json"):
        assert words in result.output


def test_json(files):
    result = evaluated("--defense", "identity", "--attack", "fgsm", "--json")
    assert counts(EvaluationReport.from_json(result.stdout)) == counts(library())
    assert sorted(path.name for path in files.iterdir()) == ["mine.npz", "one.pt", "two.pt"]


def test_quiet(files):
    result = evaluated("--defense", "identity", "-q", "-o", "out")
    assert result.output == ""
    assert (files / "out" / "report.json").is_file()


@pytest.mark.parametrize("scenario", ["white", "black"])
def test_scenarios(files, scenario):
    extra = ("--surrogate", "digits_cnn", "--surrogate-weights", "two.pt")
    arguments = ("--scenario", scenario, "--defense", "usvt", "--attack", "fgsm", "--json")
    black = scenario == "black"
    result = evaluated(*arguments, "--draws", 2, *(extra if black else ()))
    report = EvaluationReport.from_json(result.stdout)
    surrogate = load_network("digits_cnn", "two.pt") if black else None
    expected = library(defenses=["usvt"], scenario=scenario, surrogate=surrogate)
    assert counts(report) == counts(expected)
    assert (report.records[0].surrogate is not None) == black


def test_data_sets_by_name_and_limit(files):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    arguments = ("--model", "digits_cnn", "--weights", "one.pt", "--defense", "identity", "--json")
    result = invoke("evaluate", "--dataset", "digits", "--split", "train", "--limit", 7, *arguments)
    (record,) = EvaluationReport.from_json(result.stdout).records
    assert (record.dataset.name, record.dataset.split) == ("digits", "train")
    assert record.dataset.images == 7


def test_again_after_damage(files):
    first = evaluated("--defense", "identity", "--attack", "fgsm", "-o", "out", "--json")
    (part,) = (files / "out" / "parts").glob("attack-*.npz")
    part.write_bytes(b"")
    again = evaluated("--defense", "identity", "--attack", "fgsm", "-o", "out", "--json")
    assert "note: the file 'out/parts/attack-" in again.stderr.replace(os.sep, "/")
    assert counts(EvaluationReport.from_json(again.stdout)) == counts(
        EvaluationReport.from_json(first.stdout)
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--defense", "median"), 2, "defence name must be one of splic,"),
        (("--defense", "tv:weight"), 2, "`preset` of the defence 'tv'"),
        (("--defense", "tv:weight=1/0"), 2, "must not have the denominator 0"),
        (("--defense", "tv", "--attack", "magic"), 2, "attack name must be one of"),
        (("--defense", "tv", "--attack", "within:attack=cw"), 2, "use create_attack() in Python"),
        (("--defense", "tv", "--attack", "pgd:norm=l2"), 2, "such as epsilon=0.5"),
        (("--defense", "tv", "--defense", "tv"), 2, "has 'tv' twice; leave one out"),
        (("--defense", "tv", "--split", "valid"), 2, "'mine.npz' is one split"),
        (("--defense", "tv", "--attack", "fgsm:steps=3"), 2, "`steps` is no parameter of"),
        (("--defense", "tv", "--scenario", "grey"), 2, "--scenario must be one of gray, black, w"),
        (("--defense", "tv", "--scenario", "black"), 2, "the black box needs a --surrogate"),
        (("--defense", "tv", "--surrogate", "digits_cnn"), 2, "belong together; give both"),
        (("--defense", "tv", "--device", "gpu"), 2, "--device must be one that torch can use"),
        (("--defense", "tv", "--dataset", "none.npz"), 1, "the data set 'none.npz' does not exist"),
        (("--defense", "tv", "--dataset", "mnist"), 2, "the data set must be one of cifar10,"),
        (
            ("--defense", "tv", "--dataset", "cifar10", "--root", "nowhere"),
            1,
            "; get it with --download, or put https",
        ),
        (("--defense", "tv", "--weights", "none.pt"), 1, "weights file 'none.pt' does not exist"),
        (("--defense", "tv", "--weights", "mine.npz"), 2, "'mine.npz' cannot be read"),
        (("--defense", "tv", "--model", "resnet20"), 2, "is of another network than ResNet"),
        (("--defense", "tv", "--model", "alexnet"), 2, "model name must be one of"),
        (("--defense", "tv", "--classes", "3"), 2, "with --classes 10\n"),
        (
            ("--defense", "tv", "--weights", "."),
            1,
            "the weights file '.' is a folder; give the fil",
        ),
        (("--defense", "tv", "-o", "mine.npz"), 2, "--out must be a folder, got the file"),
    ],
)
def test_failures_end_with_a_message_and_a_code(files, arguments, code, message):
    result = evaluated(*arguments, code=code)
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_the_report_of_another_evaluation(files):
    evaluated("--defense", "tv", "-o", "out")
    result = evaluated("--defense", "usvt", "-o", "out", code=2)
    assert "give --overwrite to replace it" in result.stderr
    evaluated("--defense", "usvt", "-o", "out", "--overwrite")
    assert EvaluationReport.load("out/report.json").records[0].defense == "usvt"


def test_an_empty_archive(files):
    np.savez("mine.npz", x=np.zeros((0, 1, 8, 8), np.uint8), y=np.zeros(0, int))
    result = evaluated("--defense", "tv", code=2)
    assert "--dataset must hold an image at least; check the file" in result.stderr


def test_an_attack_that_was_none(files):
    network = build_model("digits_cnn")
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
    torch.save(network.state_dict(), "one.pt")
    arguments = ("--scenario", "white", "--attack", "eot-pgd:steps=2,eot=1", "--defense", "usvt")
    result = evaluated(*arguments, code=1)
    assert "USVT with the gradient 'identity' was 0 for all images" in result.stderr


def test_a_weak_white_box_says_so(files):
    arguments = ("--scenario", "white", "--attack", "bpda", "--defense", "usvt", "--limit", 4)
    result = evaluated(*arguments, "-o", "out")
    note = "weak white box: 'usvt' is attacked by 'bpda' (the gradient identity) alone"
    assert f"note: {note}" in result.stderr
    assert note in (files / "out" / "report.md").read_text()


# The adaptive protocol

PROTOCOL = ("--protocol", "adaptive", "--size", "smoke", "--defense", "usvt", "--draws", 2)


def test_the_protocol_is_that_of_the_library(files, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    result = evaluated(*PROTOCOL, "--seed", 3, "-o", "out")
    found = ExperimentResult.from_json((files / "out" / "adaptive.json").read_text())
    expected = evaluate_adaptively(
        load_network("digits_cnn", "one.pt"), load_dataset("mine.npz"), defense="usvt",
        size="smoke", score_draws=2, seed=3,
    )  # fmt: skip
    assert [(row.attack, row.mean) for row in found.rows] == [
        (row.attack, row.mean) for row in expected.rows
    ]
    assert {row.model.name for row in found.rows} == {"digits_cnn"}
    assert found.provenance.command.startswith("splic-ext")
    for words in ("Adaptive attacks on usvt", "masks held still", "worst of them"):
        assert words in result.stdout
    assert "result: out/adaptive.json, .csv, .md" in result.stderr.replace(os.sep, "/")
    quiet = evaluated(*PROTOCOL, "--seed", 3, "-o", "out", "-q")
    assert quiet.output == ""
    again = evaluated(*PROTOCOL, "--seed", 3, "-o", "out", "--json")
    assert ExperimentResult.from_json(again.stdout).title == found.title


def test_some_sections_of_the_protocol(files):
    more = ("--surrogate", "digits_cnn", "--surrogate-weights", "two.pt")
    result = evaluated(
        *PROTOCOL, "--section", "surrogates", "--section", "transfer", *more, "-o", "out", "--json"
    )
    found = ExperimentResult.from_json(result.stdout)
    own, other = "transfer from the network without the defence", "transfer from other networks"
    assert [(row.section, row.attack) for row in found.rows] == [
        (own, "clean"), (own, "PGD, 2 of 1/255"), (other, "clean"), (other, "PGD on digits_cnn"),
    ]  # fmt: skip
    (note,) = (note for note in found.notes if note.startswith("digits_cnn: weights of SHA-256 "))
    weights = load_network("digits_cnn", "two.pt")
    assert note.split()[-1] == fingerprint_weights(weights)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--protocol", "naive"), 2, "--protocol must be adaptive, and goes with one --defense"),
        (("--protocol", "adaptive", "--attack", "fgsm"), 2, "without --attack and --scenario"),
        (("--protocol", "adaptive", "--scenario", "white"), 2, "without --attack and --scenario"),
        (("--protocol", "adaptive", "--defense", "tv"), 2, "goes with one --defense and --out"),
        (("--protocol", "adaptive", "--section", "all"), 2, "--section must be among gradients"),
        (
            ("--protocol", "adaptive", "--section", "surrogates"),
            2,
            "which needs other networks; give",
        ),
        (("--protocol", "adaptive", "--surrogate", "digits_cnn"), 2, "belong together; give both"),
        (("--protocol", "adaptive", "--size", "huge"), 2, "--size must be one of smoke, small, fu"),
        (("--protocol", "adaptive", "--weights", "none.pt"), 1, "'none.pt' does not exist"),
        (("--protocol", "adaptive", "--dataset", "none.npz"), 1, "'none.npz' does not exist"),
        (("--size", "smoke"), 2, "--size and --section are those of --protocol adaptive; add it"),
        (("--section", "steps"), 2, "--size and --section are those of --protocol adaptive"),
    ],
)
def test_misuse_of_the_protocol(files, arguments, code, message):
    result = evaluated("--defense", "usvt", "-o", "out", *arguments, code=code)
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""
    assert not (files / "out").exists()


def test_the_protocol_needs_a_folder(files):
    result = evaluated(*PROTOCOL, code=2)
    assert "goes with one --defense and --out" in result.stderr


@pytest.mark.parametrize("missing", ["--dataset", "--model", "--weights", "--defense"])
def test_required_flags(files, missing):
    arguments = [*BASE, "--defense", "identity"]
    position = arguments.index(missing)
    del arguments[position : position + 2]
    result = invoke("evaluate", *arguments)
    assert result.exit_code == 2
    assert missing in result.output


def test_without_torch(run_python):
    code = """
import sys
sys.modules["torch"] = None
sys.argv = "splic-ext evaluate --dataset digits --model x --weights y --defense z".split()
from splic_ext.cli import main
try:
    main()
except SystemExit as end:
    print(end.code)
"""
    assert run_python(code) == "1"


def test_help_does_not_import_torch(run_python):
    code = """
import sys
sys.argv = ["splic-ext", "evaluate", "--help"]
from splic_ext.cli import main
try:
    main()
except SystemExit:
    print("torch" in sys.modules)
"""
    assert run_python(code).endswith("False")


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to others there")
def test_ctrl_c_and_again(files):
    arguments = ["evaluate", *BASE, "--defense", "usvt", "--attack", "fgsm", "-o", "out"]
    arguments += ["--draws", "500", "--batch-size", "4"]
    process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((files / "out").glob("parts/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted; finished parts are kept; the same command goes on" in errors
    assert "Traceback" not in errors
    before = {path: path.stat().st_mtime_ns for path in (files / "out" / "parts").iterdir()}
    assert not any(path.name.endswith(".tmp") for path in before)
    result = run_command(*arguments, "--quiet")
    assert result.returncode == 0, result.stderr
    assert all(path.stat().st_mtime_ns == at for path, at in before.items()), "written again"


def test_real_network_on_real_images(shared_folder):
    """The data and weights that the documentation names."""
    result = invoke(
        "evaluate", "--dataset", shared_folder / "data" / "cifar10_test_lossless.npz",
        "--model", "resnet20", "--weights", shared_folder / "weights" / "cifar10_resnet20.th",
        "--defense", "identity", "--attack", "fgsm", "--limit", 40, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    clean, attacked = EvaluationReport.from_json(result.stdout).records
    # 91.6 and 15.5 % of 1,017 images; the standard errors for 40 are 4.4 and 5.7 %
    assert clean.mean.value > 0.78
    assert attacked.mean.value < 0.33
    assert json.loads(result.stdout)["records"][0]["model"]["name"] == "resnet20"


def test_takes_up_what_the_library_has_done(files):
    report = library(output="out")
    again = evaluated("--defense", "identity", "--attack", "fgsm", "--draws", 2, "-o", "out")
    assert "report.json" in again.stderr
    assert EvaluationReport.load("out/report.json").seconds.attack == 0
    assert report.seconds.attack > 0


# A cluster


def test_a_cluster_without_ray(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = evaluated("--defense", "identity", "--engine", "ray", code=1)
    assert 'install it with `pip install "splic-ext[ray]"`' in result.stderr
    more = ("--defense", "usvt", "--out", "out", "--engine", "ray", "--size", "smoke")
    result = invoke("attack", *BASE, *more)
    assert result.exit_code == 1
    assert "needs the package 'ray'" in result.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--engine", "slurm"), "must be one of local, ray, got 'slurm'"),
        (("--workers", 2), "got 2 with 'local'"),
        (("--engine", "ray", "--workers", 0), "'--workers'"),
    ],
)
def test_flags_of_a_cluster_that_are_refused(files, flags, message):
    result = evaluated("--defense", "identity", *flags, code=2)
    assert message in " ".join(result.stderr.split())
