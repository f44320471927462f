"""The run on a GPU, as far as it goes without one: what it finds, says and writes; its bundle."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
pytestmark = [
    pytest.mark.skipif(not (BENCHMARKS / "gpu_run.sh").is_file(), reason="no benchmarks here"),
    pytest.mark.skipif(os.name == "nt", reason="it is a shell script"),
]


@pytest.fixture
def modules(monkeypatch):
    """Import scripts of the folder by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def new_run(modules, tmp_path):
    """A run in folders of its own, with or without a bundle."""
    run_of = modules("gpu_run").Run

    def make(bundle=None):
        folder, work = tmp_path / "out", tmp_path / "work"
        folder.mkdir()
        work.mkdir()
        return run_of(folder, bundle or tmp_path / "none", work, quick=True, flags="")

    return make


def test_without_a_device_every_part_says_so(tmp_path):
    asked = subprocess.run([sys.executable, ROOT / "cmake" / "gpus.py"], capture_output=True)
    if asked.returncode == 0:
        pytest.skip("there is a GPU")
    words = [BENCHMARKS / "gpu_run.sh", "--bundle", tmp_path / "none", tmp_path / "out"]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
        timeout=120,
    )
    document = json.loads((tmp_path / "out" / "gpu_run.json").read_text())
    text = (tmp_path / "out" / "gpu_run.txt").read_text()
    status = {part["part"]: part["status"] for part in document["parts"]}
    assert status.pop("look") == "ok"
    assert set(status.values()) == {"no device"}
    assert {"install", "device_tests", "speed", "memcheck", "peers"} <= set(status)
    assert done.returncode == len(status)
    assert "NO DEVICE: nothing here was measured on a GPU." in text
    assert text in done.stdout
    assert "None: there is no device." in text
    assert document["benchmarks"] == document["phases"] == document["comparison"] == []
    assert not done.stderr


def test_an_unknown_part_and_no_python(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable}
    words = [BENCHMARKS / "gpu_run.sh", tmp_path, "everything"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2
    assert "no part is called 'everything'; they are correct, " in done.stderr
    done = subprocess.run(
        [words[0], "speed"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 2
    assert "speed is a part; name the folder for the results before it" in done.stderr
    environment["PYTHON"] = "no-such-python"
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2
    assert "there is no no-such-python; set PYTHON" in done.stderr


# ---- parts ----


def test_a_part_that_hangs_is_stopped_with_what_it_started(new_run):
    run = new_run()
    log = run.folder / "hangs.log"
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True)"
    code += "; p.wait()"
    assert run.execute([sys.executable, "-c", code], log, 3) is None
    child = int(log.read_text().split()[0])
    status = Path(f"/proc/{child}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_a_part_that_fails_stops_no_other(new_run, modules, capsys):
    run, gpu_run = new_run(), modules("gpu_run")

    def fails():
        raise OSError("something else")

    def lacks():
        raise gpu_run.MissingToolError("ncu is not on this machine")

    run.do("one", 10, fails, True)
    run.do("two", 10, lacks, True)
    run.do("three", 10, lambda: "well", True)
    run.do("four", 1, lambda: "never", True)
    run.why = "gone"
    run.do("five", 10, lambda: "never", True)
    found = [(part["part"], part["status"], part["said"]) for part in run.parts]
    assert found == [
        ("one", "failed", "something else"),
        ("two", "absent", "ncu is not on this machine"),
        ("three", "ok", "well"),
        ("four", "failed", "no time was left"),
        ("five", "no device", "gone"),
    ]
    assert "absent" in capsys.readouterr().out


def test_wheels_that_fit_and_are_lacking_are_unpacked(new_run, tmp_path):
    wheels = tmp_path / "bundle" / "wheels"
    wheels.mkdir(parents=True)
    mine = f"cp{sys.version_info.major}{sys.version_info.minor}"
    names = ["quite_new-1.0-py3-none-any", f"also_new-1.0-{mine}-{mine}-linux"]
    for name in [*names, "numpy-1-py3-none-any", "other-1.0-cp27-cp27m-linux"]:
        with zipfile.ZipFile(wheels / f"{name}.whl", "w") as archive:
            archive.writestr(f"{name.split('-')[0]}.py", "value = 1\n")
    run = new_run(tmp_path / "bundle")
    assert run.unpack_wheels() == ["also_new", "quite_new"]
    code, said = run.capture([sys.executable, "-c", "import quite_new; print(quite_new.value)"])
    assert (code, said) == (0, "1\n")
    assert not (run.work / "wheels" / "other.py").exists()


@pytest.mark.parametrize(
    ("made", "gpus", "serves"),
    [
        ("90-real", ["90"], True),
        ("80-real;89-real", ["90"], False),
        ("80-real", ["86", "80"], True),
        ("90-real", ["90", "120"], False),
        ("90-real;90-virtual", ["90", "120"], True),
        ("host", ["90"], False),
        ("host", [], True),
    ],
)
def test_which_gpus_a_module_serves(modules, made, gpus, serves):
    assert modules("gpu_run").covers({"architectures": made}, gpus) is serves


def test_a_module_is_not_compiled_without_a_compiler(new_run, modules):
    run = new_run()
    run.machine = {"capabilities": ["90"], "tools": {"nvcc": None, "cmake": "3", "c++": "12"}}
    run.do("install", 60, run.install, False)
    run.do("speed", 60, lambda: "never", True)
    assert [part["status"] for part in run.parts] == ["failed", "no module"]
    why = "no module: the bundle has no module, and to compile one the machine lacks nvcc"
    assert [part["said"] for part in run.parts] == [why, why]


# ---- what is written ----

HEADER = '"ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"'
NAME = "void splic::<unnamed>::warp_kernel<(int)3, (int)8>(Problem, Launch, WarpTables)"
COUNTERS = f"""==PROF== Connected to process 1
{HEADER}
"0","{NAME}","Command line profiler metrics","smsp__inst_executed.sum","inst","1,000"
"0","{NAME}","Launch Statistics","Registers Per Thread","register/thread","160"
"1","{NAME}","Command line profiler metrics","smsp__inst_executed.sum","inst","1,000"
"2","complete_kernel<float, 128, 2>","Launch Statistics","Registers Per Thread","","215"
"3","mean_kernel","Launch Statistics","Registers Per Thread","","20"
"""


def test_counters_are_read(modules, tmp_path):
    (tmp_path / "counters.csv").write_text(COUNTERS)
    found = modules("gpu_report").read_counters(tmp_path / "counters.csv")
    assert found == {
        "96 x 32, rank 8": {
            "smsp__inst_executed.sum [inst]": 2000,
            "Registers Per Thread [register/thread]": 160,
        },
        "general": {"Registers Per Thread": 215},
    }
    assert modules("gpu_report").read_counters(tmp_path / "none.csv") == {}


def test_prediction_and_measurement(modules, tmp_path):
    """A device that does exactly what is predicted, by its own clock and multiprocessors."""
    report, counts = modules("gpu_report"), modules("cuda_counts")
    row = json.loads(report.TABLE.read_text())["kernels"]["90"]["96 x 32, rank 8"]
    device = {**counts.DEVICES["H200"], "count": 100, "clock": 1.5e9}
    rate = counts.predict(device, row, 1)["images"]
    phase = {"phase": "completion", "kernel": "96 x 32, rank 8", "arrays": "GPU", "us_besides": 9.0}
    many = phase | {"images": 16384, "matrices": 16384, "us_per_matrix_iteration": 1e6 / rate / 112}
    alone = phase | {"images": 1, "matrices": 1}
    alone["us_per_matrix_iteration"] = 2 * row["cycles"] / 1.5e9 * 1e6
    for name, rows in (("phases.log", [many, alone]), ("counters.log", [{"96 x 32, rank 8": 10}])):
        lines = ["a warning", *map(json.dumps, rows)]
        (tmp_path / name).write_text("\n".join(lines) + '\n{"cut off')
    (tmp_path / "counters.csv").write_text(COUNTERS)
    (tmp_path / "clocks.log").write_text("345, 80.1, 30\n1980, 612.5, 55\n[N/A], 1, 2\n")
    found = {"index": 0, "name": "A GPU", "compute_capability": "9.0", "multiprocessors": 100}
    document = {
        "command": "gpu_run.sh",
        "date": "2026-01-01T00:00:00+00:00",
        "quick": False,
        "commit": "0" * 40,
        "seconds": 300.0,
        "machine": {"nvidia_smi": {"clocks.max.sm": "1500", "driver_version": "1.2"}},
        "module": {"devices": [found], "runtime": 13000, "how": "from the bundle"},
        "parts": [{"part": "phases", "status": "ok", "said": "times", "seconds": 1.0}],
    }
    text = report.write(tmp_path, document)
    written = json.loads((tmp_path / "gpu_run.json").read_text())
    ratios = {line["what"]: line["measured"] / line["predicted"] for line in written["comparison"]}
    assert ratios["96 x 32, rank 8: images/s, 112 iterations each"] == pytest.approx(1)
    assert ratios["96 x 32, rank 8: cycles of an iteration, alone"] == pytest.approx(2)
    assert ratios["96 x 32, rank 8: instructions"] == pytest.approx(200 / row["instructions"])
    assert ratios["96 x 32, rank 8: registers"] == pytest.approx(160 / row["registers"])
    assert written["clocks"] == {"MHz": 1980, "watts": 612.5, "degrees": 55}
    assert "driver: 1.2; CUDA runtime 13000" in text
    assert "NO DEVICE" not in text


def test_goals_compare_iterations(modules):
    goals = modules("gpu_report").goals
    row = {"test": "test_cuda", "size": 32, "channels": 3, "mode": "stacked", "passed": True}
    ours = {"method": "cuda, arrays on the GPU", "us_per_matrix_iteration": 0.5}
    peer = {"method": "cuda, cuSOLVER", "us_per_matrix_iteration": 6.0}
    rows = [row | ours | {"images_per_second": 1000.0}, row | peer]
    found = [(measured, least) for _, measured, least in goals(rows)]
    assert found == [(1000.0, 150_000), (12.0, 10), (None, 20), (None, 5)]
    rows[1]["passed"] = False
    assert goals(rows)[1][1] is None


def test_table_of_a_gpu_has_every_kernel(modules):
    row = {"test": "test_cuda", "size": 32, "channels": 3, "mode": "separate", "threads": 1}
    row |= {"enlarged": False, "passed": True, "mean_error": 1e-6, "max_error": 1e-4}
    row |= {"images_per_second": 2000.0, "us_per_matrix_iteration": 1.0}
    row |= {"preset": "paper", "dtype": "float32"}
    names = ("cuda, arrays on the GPU", "cuda, general kernel", "cuda, cuSOLVER")
    rows = [row | {"method": name} for name in names]
    other = {"test": "test_cuda_options", "method": names[0], "dtype": "float16"}
    failed = {"method": "cupy.linalg.svd", "passed": False, "failure": "out of memory"}
    lines = modules("gpu_report").speeds([*rows, row | other, row | failed])
    assert lines[0].split("  ")[0] == "images per second"
    for name in ("SPLIC cuda", "general, rank 9", "cuSOLVER", "CuPy SVD"):
        assert name in lines[0]
    assert lines[1].startswith("32x32 RGB sep. ")
    assert lines[1].count("2,000 (1.0x)") == 2
    assert lines[2].startswith("32x32 RGB sep. float16")
    assert lines[-1] == "NO RESULT: test_cuda, cupy.linalg.svd, 32 x 32: out of memory"


# ---- the bundle ----


@pytest.fixture
def bundle(modules, monkeypatch, tmp_path):
    """Make a bundle whose modules are only pretended; return the exit code."""
    gpu_bundle = modules("gpu_bundle")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvcc").write_text("#!/bin/sh\necho Build cuda_13.0\n")
    (tools / "nvcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SPLIC_SHARED", str(tmp_path))
    monkeypatch.setattr(gpu_bundle, "find_spec", lambda name: None if name == "skimage" else name)

    def build(site, folder, python, architectures, pybind11, jobs):
        for name in gpu_bundle.MODULES:
            (site / "splic_ext" / f"{name}{gpu_bundle.suffix_of(python)}").write_bytes(b"0" * 1000)

    monkeypatch.setattr(gpu_bundle, "build", build)
    return lambda *words: gpu_bundle.main(["--no-wheels", *map(str, words)])


def test_a_bundle_and_its_limit(bundle, tmp_path, capsys):
    pytest.importorskip("pybind11", reason="pybind11 is not installed")
    place = tmp_path / "made"
    assert bundle(place, "--arch", 80, 90) == 0
    assert f"{place}: " in capsys.readouterr().out
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["architectures"] == ["80", "90"]
    assert manifest["compiler"] == "Build cuda_13.0"
    assert len(manifest["modules"]) == 2
    assert (place / "site" / "splic_ext" / "completion" / "__init__.py").is_file()
    assert bundle(place, "--limit", 0.1) == 1
    said = capsys.readouterr().err
    assert "more than the limit of 0.1 MiB; name fewer --python or --arch (largest: " in said


def test_a_bundle_overwrites_nothing_else(bundle, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        bundle(tmp_path / "mine")
    assert "is no bundle, and not empty; name another folder" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        bundle(tmp_path / "made", "--arch", "sm_90")
    assert "--arch: expected numbers such as 90, got 'sm_90'" in capsys.readouterr().err
    assert (tmp_path / "mine" / "file").exists()


def test_a_bundle_needs_its_compiler(bundle, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pybind11", reason="pybind11 is not installed")
    monkeypatch.setenv("PATH", str(Path(shutil.which("git") or "/usr/bin/git").parent))
    (tmp_path / "tools" / "nvcc").write_text("#!/bin/sh\nexit 3\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}{os.pathsep}{os.environ['PATH']}")
    assert bundle(tmp_path / "made") == 1
    assert "`nvcc --version` has failed" in capsys.readouterr().err
