"""The committed benchmark results keep their schema, and the README shows them."""

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
    return importlib.import_module("make_tables")


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


def test_readme_is_up_to_date(make_tables):
    readme = ROOT / "README.md"
    if not readme.exists() or make_tables.START not in readme.read_text():
        pytest.skip("README.md has no benchmark markers")
    if not FILES:
        pytest.skip("no result file yet")
    text = readme.read_text()
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


def test_tables_show_every_benchmark(condense, make_tables, raw):
    tables = make_tables.draw(condense.condense(raw), "run.json")
    assert "| 32 x 32, gray | 1.72 | 1.72 | 4,150 |" in tables
    assert "| 32 x 32, gray | 41.2 x | 0.5 x |" in tables
    assert "One image takes 2.5 ms. Two threads are 1.9 times as fast as one." in tables
    assert "| `cpu`, 1,000 images | 1 | 3.5 |" in tables
    assert "benchmarks/results/run.json" in tables


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
