"""The counts of the machine code: how a listing is read, and that table and page agree."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(
    not (BENCHMARKS / "cuda_counts.py").is_file(), reason="no benchmarks beside the tests"
)


@pytest.fixture
def sass(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("sass")


@pytest.fixture
def counts(sass):
    return importlib.import_module("cuda_counts")


def line(address, text, stall=1):
    control = (stall | 7 << 5 | 7 << 8) << 41
    return (
        f"        /*{address:04x}*/  {text} ;  /* 0x0000000000007801 */\n"
        f"                               /* 0x{control:016x} */"
    )


LOOP = (
    "PMTRIG 0x0", "FADD R0, R0, R1", "PMTRIG 0x1", "LDS.128 R4, [R8]", "FFMA R0, R0, R1, R2",
    "@P0 BRA 0x20", "PMTRIG 0x2", "STS [R8], R0", "EXIT", "PMTRIG 0x1", "FADD R0, R0, R1",
)  # fmt: skip


def test_a_listing_is_cut_and_weighed(sass):
    listing = "\t\tFunction : kernel\n"
    listing += "\n".join(line(16 * n, text, stall=2) for n, text in enumerate(LOOP))
    listing = listing.replace("BRA 0x20 ", f"BRA 0x{2 * 16:x} ")
    (code,) = sass.functions(listing).values()
    assert [one.name for one in code[:3]] == ["PMTRIG", "FADD", "PMTRIG"]
    assert [block.mark for block in sass.blocks(code)] == [0, 1, 2, None]
    done = sass.work(code, {0: 1, 1: 10, 2: 1}, frozenset())
    # What stands behind the end is a copy for lanes that have parted.
    assert done.parts == {0: 1, 1: 30, 2: 2}
    assert done.instructions == 33
    assert done.single == 11
    assert done.wavefronts == 10 * 2 + 1
    assert sass.work(code, {0: 1, 1: 10, 2: 1}, frozenset({1})).wavefronts == 10 * 4 + 1
    with pytest.raises(ValueError, match=r"no mark of these parts, which run: \[5\]"):
        sass.work(code, {5: 1}, frozenset())


def test_waiting_for_memory_takes_time(sass):
    load = sass.Instruction(0, "LDS R0, [R1]", 1 | 0 << 5 | 7 << 8)
    use = sass.Instruction(16, "FADD R0, R0, R0", 1 | 7 << 5 | 7 << 8 | 1 << 11)
    assert sass.Block([load, use]).cycles() > sass.LATENCY["LDS"]
    free = sass.Instruction(16, "FADD R2, R2, R2", 1 | 7 << 5 | 7 << 8)
    assert sass.Block([load, free]).cycles() == 2


def test_more_registers_or_memory_leave_fewer_warps(counts):
    device = counts.DEVICES["H200"]
    assert counts.occupancy(device, 255, 20 << 10) == 8
    assert counts.occupancy(device, 168, 31 << 10) == 7
    assert counts.occupancy(device, 176, 1 << 10) == 8
    assert counts.occupancy(device, 32, 1 << 10) == 32


def test_what_has_grown_is_told(counts):
    table = {"a": {"registers": 100, "instructions": 1000}}
    assert not counts.grown({"a": {"registers": 110, "instructions": 1100}}, table)
    (told,) = counts.grown({"a": {"registers": 100, "instructions": 1101}}, table)
    assert "instructions 1101, and 1000" in told
    assert not counts.grown({"b": {"stack": 900}}, {"b": {"stack": 0}})
    (told,) = counts.grown({"c": {}}, table)
    assert "c is not in cuda_counts.json" in told


def test_steps_have_the_names_of_the_sources(counts):
    kernels = {
        "_ZN5splic12_GLOBAL__N_112alone_kernelIfLNS0_5AloneE4EEEvNS0_5BatchENS_10SearchStepEii": (
            "alone_kernel<float, diagonalise>"
        ),
        "_ZN5splic15complete_kernelIdNS_6MiddleEEEvNS_7ProblemENS_6LaunchEm": (
            "complete_kernel<double, Middle>"
        ),
    }
    assert counts.names(list(kernels)) == kernels


def test_steps_share_a_line_of_the_table(counts):
    row = {"registers": 64, "stack": 0, "local": 0, "code": 1024}
    rows = {
        "alone_kernel<float, load>": row,
        "alone_kernel<float, store>": row | {"registers": 99},
        "mean_kernel<float>": row,
    }
    text = counts.draw_resources(rows)
    assert "| `alone_kernel<float, ...>` | 2 | 99 | 0 | 0 | 2 |" in text
    assert "| `mean_kernel<float>` | 1 | 64 | 0 | 0 | 1 |" in text


def test_page_and_table_agree_and_reach_what_is_asked(counts):
    table = json.loads(counts.TABLE.read_text(encoding="utf-8"))
    page = counts.PAGE.read_text(encoding="utf-8")
    hint = "draw it anew: python benchmarks/cuda_counts.py"
    assert counts.put(page, "counts", counts.draw(table)) == page, hint
    assert counts.put(page, "waits", counts.draw_waits(table["waits"])) == page, hint
    assert counts.put(page, "resources", counts.draw_resources(table["others"])) == page, hint
    assert counts.misses(table["kernels"]["90"], counts.DEVICES["H200"]) == []
