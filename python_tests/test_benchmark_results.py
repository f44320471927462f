"""The committed benchmark results keep their schema, and the documentation shows them."""

import importlib
import json
import platform
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
FILES = sorted(
    path for path in (BENCHMARKS / "results").glob("*.json") if path.name != "schema.json"
)

pytestmark = pytest.mark.skipif(
    not (BENCHMARKS / "results" / "schema.json").exists(),
    reason="benchmarks/results is not part of this source distribution",
)


@pytest.fixture
def condense(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("condense")


@pytest.fixture
def make_tables(condense):
    pytest.importorskip("torch", reason="torch is not installed")
    return importlib.import_module("make_tables")


@pytest.fixture
def run_of(condense, make_tables):
    """What a raw file becomes once it has been condensed, written and read."""
    return lambda raw: make_tables.BenchmarkRun.from_json(condense.dumps(condense.condense(raw)))


def raw_benchmark(name="test_complete[32x32-gray-cpu]", method="cpu", **extra):
    """Return one benchmark as pytest-benchmark writes it."""
    return {
        "group": "32x32-gray, 1 thread",
        "name": name,
        "fullname": f"/home/someone/benchmarks/bench_complete.py::{name}",
        "stats": {"rounds": 5, "median": 0.123456789, "iqr": 0.0, "data": [0.1] * 5},
        "extra_info": {
            "passed": True,
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "quick": False,
            "cpu": "A processor",
            "cores": 2,
            "system": "Linux x86_64",
            "simd": "avx2",
            "splic_ext": "0.1.0",
            "numpy": "2.0.0",
            "torch": None,
            "python": "3.12.0",
            "method": method,
            "data": "smooth synthetic images",
            "size": 32,
            "channels": 1,
            "mode": "stacked",
            "threads": 1,
            "images": 512,
            "matrix_iterations": 512 * 140,
            "images_per_second": 4147.2,
            "us_per_matrix_iteration": 1.7222,
            "mean_error": 1e-6,
            "max_error": 1e-4,
            **extra,
        },
    }


@pytest.fixture
def raw():
    ratios = {"speedup_over_torch_svd": 41.234567, "speedup_over_torch_eigh": 0.5}
    memory = {"batch": 1000, "peak_extra_mb": 3.5}
    batch = {"batch": 1, "latency_ms": 2.5}
    return {
        "machine_info": {"node": "host-name"},
        "datetime": "2026-01-02T03:04:05.678901+00:00",
        "command": "pytest benchmarks --benchmark-only",
        "benchmarks": [
            raw_benchmark(),
            raw_benchmark("test_complete[32x32-gray-numpy]", "numpy"),
            raw_benchmark("test_speedup[32x32-gray]", **ratios),
            raw_benchmark("test_batch[1-1]", **batch),
            raw_benchmark("test_memory[cpu-1000-1]", **memory),
            raw_benchmark("test_two_threads_over_one", threads=2, speedup_over_one_thread=1.9),
        ],
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_committed_result_keeps_the_schema(condense, path):
    text = path.read_text()
    document = json.loads(text)
    condense.validate(document)
    assert not document["quick"], "a smoke test is no result"
    assert text == condense.dumps(document), "write result files with benchmarks/condense.py"
    assert not re.search(r"/(home|root|tmp|work|Users)/", text), "a path of one machine"


def test_documentation_is_up_to_date(make_tables):
    if not make_tables.PAGE.exists():
        pytest.skip("the tests run without the documentation beside them")
    text = make_tables.PAGE.read_text()
    path = make_tables.choose(text)
    fresh = make_tables.replace(text, make_tables.draw(make_tables.load(path), path.name))
    assert fresh == text, "run `python benchmarks/make_tables.py`"


def test_the_schema_knows_every_method(condense, monkeypatch):
    workloads = importlib.import_module("workloads")
    schema = json.loads((BENCHMARKS / "results" / "schema.json").read_text())
    result = schema["properties"]["results"]["items"]["properties"]
    assert set(result["method"]["enum"]) == set(workloads.BOUNDS)


def test_condense_keeps_numbers_and_drops_the_rest(condense, raw):
    document = condense.condense(raw)
    assert document["date"] == "2026-01-02T03:04:05Z"
    assert document["machine"]["cpu"] == "A processor"
    first, *_ = document["results"]
    assert first["median_s"] == 0.12346
    assert first["params"] == {"size": 32, "channels": 1, "mode": "stacked", "threads": 1}
    assert document["results"][2]["extra"]["speedup_over_torch_svd"] == 41.235
    text = condense.dumps(document)
    assert json.loads(text) == document
    for private in ("host-name", "/home", platform.node() or "host-name"):
        assert private not in text


def test_condense_refuses_failed_benchmarks(condense, raw):
    raw["benchmarks"][1]["extra_info"]["passed"] = False
    with pytest.raises(ValueError, match=r"missed by test_complete\[32x32-gray-numpy\]"):
        condense.condense(raw)


def test_condense_refuses_mixed_machines_and_empty_runs(condense, raw):
    raw["benchmarks"][1]["extra_info"]["cpu"] = "Another"
    with pytest.raises(ValueError, match="two environments"):
        condense.condense(raw)
    raw["benchmarks"] = []
    with pytest.raises(ValueError, match="no benchmark"):
        condense.condense(raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(host="name"), "must not have the key 'host'"),
        (lambda d: d.pop("commit"), "must have the key 'commit'"),
        (lambda d: d.update(schema_version=2), "schema_version must be 1"),
        (lambda d: d.update(date="yesterday"), "date must match"),
        (lambda d: d.update(results=[]), "items or more"),
        (lambda d: d["machine"].update(cores=0), "cores must be at least 1"),
        (lambda d: d["machine"].update(cores=True), "cores must be of type integer"),
        (lambda d: d["results"][0].update(median_s=0.0), r"results\[0\].median_s must be above 0"),
        (lambda d: d["results"][1].update(method="magic"), r"results\[1\].method must be one of"),
        (lambda d: d["results"][0]["extra"].update(note="text"), "extra.note must be of type"),
    ],
)
def test_validate_names_the_fault(condense, raw, change, message):
    document = condense.condense(raw)
    change(document)
    with pytest.raises(ValueError, match=message):
        condense.validate(document)


def test_results_have_all_benchmarks(condense, raw, tmp_path, monkeypatch, capsys):
    """Neither a smoke test nor the default form is a result; elsewhere they may be condensed."""
    file, results = tmp_path / "raw.json", tmp_path / "results"
    results.mkdir()
    monkeypatch.setattr(condense, "RESULTS", results)
    for form, place, code in (
        ("default", results, 1),
        ("default", tmp_path, 0),
        ("full", results, 0),
    ):
        file.write_text(json.dumps(raw | {"form": form}))
        monkeypatch.setattr("sys.argv", ["condense.py", str(file), str(place / "new.json")])
        if code:
            with pytest.raises(SystemExit):
                condense.main()
            assert "run them with SPLIC_BENCH=full" in capsys.readouterr().err
        else:
            condense.main()
        assert (place / "new.json").exists() == (code == 0)


def test_tables_show_every_benchmark(make_tables, run_of, raw):
    tables = make_tables.draw(run_of(raw), "run.json")
    assert "| 32 x 32, gray | 1.72 | 1.72 | 4,150 |" in tables
    assert "| images | torch SVD | torch eigh |" in tables, "no column without a number"
    assert "| 32 x 32, gray | 41.2 x | 0.5 x |" in tables
    assert "One image takes 2.5 ms. Two threads are 1.9 times as fast as one." in tables
    assert "| SPLIC, cpu, 1,000 images | 1 | 3.5 |" in tables
    assert "../benchmarks/results/run.json" in tables
    assert "torch" not in tables.splitlines()[2], "the version of what was not there"


def test_tables_of_a_gpu(make_tables, run_of, raw):
    methods = ("cuda", "cuda, arrays on the GPU", "torch block iteration on the GPU")
    raw["benchmarks"] = [raw_benchmark(f"test_cuda[{m}]", m, gpu="A GPU") for m in methods]
    tables = make_tables.draw(run_of(raw), "run.json")
    assert "A processor, 2 cores, avx2, A GPU, Python" in tables
    assert "### Time, GPU" in tables
    assert f"| images | SPLIC, cuda | {' | '.join(methods[1:])} | SPLIC, cuda: images/s |" in tables
    assert "| 32 x 32, gray | 1.72 | 1.72 | 1.72 | 4,150 |" in tables


def noted(test, method, us, **changes):
    """What a benchmark notes for the table at the end of a run."""
    row = raw_benchmark(test, method)["extra_info"] | {"enlarged": False, "test": test}
    rates = {"us_per_matrix_iteration": us, "images_per_second": 1e6 / (140 * us)}
    return row | rates | changes


@pytest.fixture
def summary(condense):
    return importlib.import_module("summary")


def test_summary_has_a_line_for_each_size(summary):
    rows = [
        *(noted("test_complete", m, us) for m, us in (("torch.linalg.svd", 100.0), ("cpu", 2.5))),
        noted("test_complete", "torch block iteration", 20.0, max_error=0.02),
        noted("test_complete", "cpu", 2000.0, size=224, channels=3),
        noted("test_complete", "torch block iteration", 1800.0, size=224, channels=3),
        noted("test_complete_two_threads", "cpu", 1.25, channels=3, mode="separate", threads=2),
        noted("test_memory", "cpu", 1.0),
    ]
    lines = summary.summary(rows, raw_benchmark()["extra_info"] | {"gpu": None})
    words = [re.split(r" {2,}", line) for line in lines]
    assert words[0] == ["images per second", "SPLIC cpu", "torch block", "torch SVD"]
    assert words[1] == ["32x32 gray", "2,857", "357 (8.0x)", "71.4 (40x)"]
    assert words[2] == ["224x224 RGB", "3.57", "3.97 (0.9x)", "-"]
    assert words[3] == ["32x32 RGB sep. 2 threads", "5,714", "-", "-"]
    assert words[5] == ["largest error", "1.0e-04", "2.0e-02", "1.0e-04"]
    assert "A processor, 2 cores, avx2, python 3.12.0, numpy 2.0.0, splic_ext 0.1.0 at" in lines[-1]


def test_benchmarks_close_with_the_summary(run_python):
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
    arguments = [
        *(str(BENCHMARKS), "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"),
        *("-q", "--benchmark-only", "-k", "test_complete and 28x28-gray and numpy"),
    ]
    code = f"import sys, pytest; sys.exit(pytest.main({arguments}))"
    # Whatever runs this test: its own options and its workers are not those of the benchmarks.
    text = run_python(code, SPLIC_BENCH="quick", PYTEST_ADDOPTS="", PYTEST_XDIST_WORKER="")
    table = text.partition("SPLIC beside its peers")[2]
    assert "these numbers mean nothing" in table
    assert re.search(r"^28x28 gray .*\d", table, re.MULTILINE)
    assert "Legend" not in text, "the long table of pytest-benchmark"


def test_summary_fits_the_window(summary, condense):
    workloads = importlib.import_module("workloads")
    sizes = [{"size": 32, "channels": 3}, {"size": 32, "mode": "separate", "threads": 2}]
    rows = [
        noted(test, method, 3 * slower, **size)
        for test, columns in summary.TESTS.items()
        for size in (*sizes, {"size": 224, "channels": 3, "enlarged": True})
        for method, slower in zip(columns, (1, 1.5, 9.9, 12, 99.9, 130), strict=False)
    ]
    gpu = [row | {"images_per_second": 95 * row["images_per_second"]} for row in rows]
    gpu = [row for row in gpu if row["test"] == "test_cuda"]
    for some in (rows, gpu):
        lines = summary.summary(some, raw_benchmark()["extra_info"] | {"gpu": "A GPU " * 12})
        assert max(map(len, lines)) <= summary.WIDTH
    assert set(summary.CPU) == {"cpu", "numpy", *workloads.PEERS}
    assert set(summary.GPU) < set(workloads.BOUNDS)


def test_summary_of_what_failed_or_was_not_timed(summary):
    rows = [
        noted("test_complete", "cpu", 2.5, passed=False),
        noted("test_complete", "torch.linalg.svd", 100.0),
        {k: v for k, v in noted("test_complete", "numpy", 1.0).items() if "per_" not in k},
    ]
    environment = raw_benchmark()["extra_info"] | {"gpu": None}
    line = re.split(r" {2,}", summary.summary(rows, environment)[1])
    assert line == ["32x32 gray", "failed", "71.4", "checked"]
    assert summary.summary([], environment) == []


def test_tables_replace_only_what_is_between_the_markers(make_tables):
    text = f"before {make_tables.START} old {make_tables.END} after"
    fresh = make_tables.replace(text, "new")
    assert fresh == f"before {make_tables.START}\n\nnew\n{make_tables.END} after"
    assert make_tables.replace(fresh, "new") == fresh
    with pytest.raises(ValueError, match="once each"):
        make_tables.replace("no markers", "new")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (2.5, "2.5"), (99.96, "100"), (999.6, "1,000"), (1234567, "1,230,000")],
)
def test_numbers_have_three_significant_digits(make_tables, value, text):
    assert make_tables.number(value) == text
