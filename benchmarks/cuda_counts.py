"""Counts the work of the CUDA kernels in their machine code, and predicts from it. Needs no GPU.

    python benchmarks/cuda_counts.py           # count for all architectures, write table and page
    python benchmarks/cuda_counts.py --check   # count for one, compare with the table

Each part of the kernel of one warp a matrix carries a mark. How often a part runs is counted on the
host, on images with the statistics of photographs; what it is made of is read off the machine code.
``--check`` fails where a kernel takes more than a tenth more instructions, registers or memory than
the committed table says, spills, or misses the least that is asked for. Needs nvcc, a C++ compiler,
and cuobjdump, of the toolkit or of the wheel ``nvidia-cuda-cuobjdump``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sass

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "cuda.md"
CSRC = ROOT / "csrc"
INCLUDE = [f"-I{CSRC}", f"-I{CSRC / 'include'}", f"-I{CSRC / 'cuda'}"]
ARCHITECTURES = ("80", "89", "90")
CHECKED = "90"
SLACK = 1.1  # more than that times the table fails
#: Of the places in warp_algebra.hpp: the head of an iteration, and where lanes load different rows.
ITERATION, UNLIKE = "kIteration", ("kSquareRow", "kGramRow", "kColumnRow")

#: Rows of 32 and triplets that are kept, of each kernel; channels and their arrangement.
KERNELS: dict[str, dict[str, Any]] = {
    "96 x 32, rank 8": {"q": 3, "rank": 8, "matrices": 1},
    "32 x 32, rank 8": {"q": 1, "rank": 8, "matrices": 3},
    "96 x 32, rank 12": {"q": 3, "rank": 12, "matrices": 1},
    "32 x 32, rank 12": {"q": 1, "rank": 12, "matrices": 3},
}
IMAGES, ITERATIONS, PASSES = 8, 56, 2

#: Of a multiprocessor: how many there are, cycles a second at the clock that the vendor names for
#: bursts, bytes of shared memory, warp instructions of FP32 that its four parts take in a cycle.
DEVICES: dict[str, dict[str, Any]] = {
    "A100": {"arch": "80", "count": 108, "clock": 1.41e9, "shared": 164 << 10, "single": 2},
    "L4": {"arch": "89", "count": 58, "clock": 2.04e9, "shared": 100 << 10, "single": 4},
    "H200": {"arch": "90", "count": 132, "clock": 1.98e9, "shared": 228 << 10, "single": 4},
}
REGISTERS, RESERVED, WARPS = 65536, 1024, 32  # of a multiprocessor; bytes, and blocks, of each

#: What is asked of sm_90: warp instructions a matrix and iteration, warps, and images a second.
MOST_INSTRUCTIONS = {"96 x 32, rank 8": 20_000}
LEAST_WARPS = 7
LEAST_IMAGES = {"96 x 32, rank 8": 200_000, "32 x 32, rank 8": 150_000}


def command(*words: str | Path, **more: Any) -> str:
    """Run a command; return what it prints."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    if done.returncode:
        raise SystemExit(f"{words[0]} has failed:\n{done.stderr[-3000:]}")
    return done.stdout + done.stderr


def disassembler(folder: Path) -> Path:
    """Return cuobjdump, of the toolkit or of a wheel, beside the nvdisasm that it needs."""
    packages = sorted((Path(sysconfig.get_paths()["purelib"]) / "nvidia").glob("cu*/bin"))
    for name in ("nvdisasm", "cuobjdump"):
        places = [shutil.which(name), *(place / name for place in packages)]
        there = [Path(place) for place in places if place and Path(place).is_file()]
        if not there:
            raise SystemExit(
                f"{name} was not found; install the CUDA toolkit, or: pip install nvidia-cuda-{name}"
            )
        shutil.copy(there[0], folder / name)
        (folder / name).chmod(0o755)  # wheels come without the leave to run
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return folder / "cuobjdump"


def places() -> dict[str, range]:
    """Return the marks of each place, as mark_number() of warp_algebra.hpp has them."""
    text = (CSRC / "team" / "warp_algebra.hpp").read_text(encoding="utf-8")
    names = re.search(r"enum Place : int \{(.*?)\}", text, re.DOTALL)
    assert names
    found = re.findall(r"\w+", names[1])
    return {name: range(128 * number, 128 * (number + 1)) for number, name in enumerate(found)}


def photographs(count: int, seed: int = 0) -> np.ndarray:
    """Return (count, 3, 32, 32) images whose amplitudes fall as 1 / f, as those of photographs."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32)
    falling = 1 / np.maximum(np.hypot(fy, fx), 1 / 32)
    shape = (count, 3, 32, 17)
    noise = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    noise = 0.9 * noise[:, :1] + 0.45 * noise  # colours go together
    images = np.fft.irfft2(noise * falling, (32, 32))
    images -= images.mean(axis=(2, 3), keepdims=True)
    images *= 0.22 / images.std(axis=(1, 2, 3), keepdims=True)
    return np.clip(images + rng.uniform(0.35, 0.6, (count, 3, 1, 1)), 0, 1).astype(np.float32)


def executions(folder: Path) -> dict[str, dict[int, int]]:
    """Count on the host how often each mark of each kernel is met."""
    program = folder / "warp_on_host"
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    flags = ["-std=c++17", "-O2", "-Wno-unknown-pragmas", *INCLUDE]
    command(*compiler.split(), *flags, CSRC / "tests" / "warp_on_host.cpp", "-o", program)
    images = photographs(IMAGES)
    (folder / "in.bin").write_bytes(images.tobytes())
    found = {}
    for name, kernel in KERNELS.items():
        options = {
            "rank": kernel["rank"],
            "max_iterations": ITERATIONS,
            "tolerance": 0,
            "stacked": int(kernel["q"] == 3),
        }
        words = [program, "count", folder / "in.bin", folder / "out.bin", *images.shape, "f32", 1]
        printed = command(*map(str, words), *(f"{key}={value}" for key, value in options.items()))
        marks = dict(tuple(map(int, line.split())) for line in printed.splitlines())
        assert marks[places()[ITERATION][0]] == IMAGES * kernel["matrices"] * ITERATIONS * PASSES
        found[name] = marks
    return found


def occupancy(device: dict[str, Any], registers: int, shared: int) -> int:
    """Return the warps that a multiprocessor has room for: each quarter has registers of its own."""
    by_registers = 4 * (REGISTERS // 4 // (-(-registers // 8) * 8 * 32))
    return int(min(by_registers, device["shared"] // (shared + RESERVED), WARPS))


def predict(device: dict[str, Any], row: dict[str, Any], matrices: int) -> dict[str, int]:
    """Return images a second, where latency, or the busiest unit, were all that counts; and both.

    Both together count as one after the other: neither hides the other altogether.
    """
    warps = occupancy(device, row["registers"], row["shared"])
    share = device["count"] * device["clock"] / (ITERATIONS * PASSES * matrices)
    waiting = share * warps / row["cycles"]
    busy = share / max(
        row["instructions"] / 4, row["single"] / device["single"], row["wavefronts"]
    )
    both = 1 / (1 / waiting + 1 / busy)
    rounded = {"latency": waiting, "busy": busy, "images": both}
    return {"warps": warps, **{key: int(round(value, -3)) for key, value in rounded.items()}}


def resources(listing: str) -> dict[str, dict[str, int]]:
    """Return registers and bytes of stack of each kernel, from ``cuobjdump -res-usage``."""
    found = {}
    for name, rest in re.findall(r"Function (\S+):\s*\n\s*(REG:.*)", listing):
        found[name] = {key: int(n) for key, n in re.findall(r"(\w+)(?:\[0\])?:(\d+)", rest)}
    return found


def shared_bytes(q: int, rank: int) -> int:
    """Return the shared memory of a warp, as WarpSolver::kBytes has it."""
    extra = rank // 2
    early = (rank + 2 * extra + 3) // 4 * 4
    row = early if early % 8 == 4 else early + 4
    return 4 * (32 * q * 36 + 32 * 36 + 32 * row + early * row)


def count(architecture: str, met: dict[str, dict[int, int]], folder: Path) -> dict[str, Any]:
    """Compile for an architecture; return a row for each kernel."""
    cubin, marked = folder / "plain.cubin", folder / "marked.cubin"
    flags = ["nvcc", "-cubin", f"-arch=sm_{architecture}", "-std=c++17", *INCLUDE]
    source = CSRC / "cuda" / "warp.cu"
    command(*flags, source, "-o", cubin)
    command(*flags, "-DSPLIC_MARKS", source, "-o", marked)
    tool = disassembler(folder)
    unlike = frozenset(mark for name in UNLIKE for mark in places()[name])
    used = resources(command(tool, "-res-usage", cubin))
    plain = sass.functions(command(tool, "-sass", cubin))
    code = sass.functions(command(tool, "-sass", marked))
    rows = {}
    for name, kernel in KERNELS.items():
        part = f"warp_kernelILi{kernel['q']}ELi{kernel['rank']}E"
        (mangled,) = (function for function in code if part in function)
        done = sass.work(code[mangled], met[name], unlike)
        times = met[name][places()[ITERATION][0]]
        rows[name] = {
            "registers": used[mangled]["REG"],
            "stack": used[mangled]["STACK"],
            "shared": shared_bytes(kernel["q"], kernel["rank"]),
            "code": 16 * len(plain[mangled]),
            "instructions": round(done.instructions / times),
            "single": round(done.single / times),
            "wavefronts": round(done.wavefronts / times),
            "cycles": round(done.cycles / times),
        }
    return rows


def misses(rows: dict[str, Any], device: dict[str, Any]) -> list[str]:
    """Say what of the least that is asked for is not reached."""
    wrong = []
    for name, row in rows.items():
        reached = predict(device, row, KERNELS[name]["matrices"])
        if row["stack"] > 0:
            wrong.append(f"{name}: {row['stack']} bytes of registers are spilled")
        if row["instructions"] > MOST_INSTRUCTIONS.get(name, row["instructions"]):
            wrong.append(f"{name}: {row['instructions']} instructions an iteration")
        if reached["warps"] < LEAST_WARPS:
            wrong.append(f"{name}: {reached['warps']} warps a multiprocessor")
        if reached["images"] < LEAST_IMAGES.get(name, 0):
            wrong.append(f"{name}: {reached['images']} images a second predicted")
    return wrong


def grown(rows: dict[str, Any], table: dict[str, Any]) -> list[str]:
    """Say what is more than the table has, beyond the slack."""
    return [
        f"{name}: {key} {value}, and {table[name][key]} in {TABLE.name}"
        for name, row in rows.items()
        for key, value in row.items()
        if value > SLACK * table[name][key]
    ]


def draw(table: dict[str, Any]) -> str:
    """Return the tables of the page."""
    lines = [
        "| kernel | sm | registers | stack | shared, bytes | code, KB | instructions | FP32 "
        "| wavefronts | cycles |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in KERNELS:
        for architecture in ARCHITECTURES:
            row = table["kernels"][architecture][name]
            keys = ("registers", "stack", "shared")
            cells = [f"{row[key]:,}" for key in keys] + [f"{row['code'] / 1024:.0f}"]
            keys = ("instructions", "single", "wavefronts", "cycles")
            cells += [f"{row[key]:,}" for key in keys]
            lines.append(f"| {name} | {architecture} | {' | '.join(cells)} |")
    lines += [
        "",
        "| predicted, images a second | " + " | ".join(DEVICES) + " |",
        "| --- |" + " --- |" * len(DEVICES),
    ]
    for name, kernel in KERNELS.items():
        cells = []
        for device in DEVICES.values():
            row = table["kernels"][device["arch"]][name]
            found = predict(device, row, kernel["matrices"])
            cells.append(f"{found['images']:,} ({found['warps']} warps)")
        kind = "stacked" if kernel["matrices"] == 1 else "separate channels"
        lines.append(f"| {kind}, rank {kernel['rank']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def put(text: str, name: str, section: str) -> str:
    """Return a page with what lies between two markers replaced."""
    begin, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{section}\n\n{end}{after}"


def main() -> int:
    """Count; write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="compare sm_90 with the table")
    parser.add_argument("--arch", nargs="+", default=None, help="print rows, and write nothing")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        met = executions(folder)
        chosen = wanted.arch or ([CHECKED] if wanted.check else ARCHITECTURES)
        rows = {architecture: count(architecture, met, folder) for architecture in chosen}
    wrong = misses(rows[CHECKED], DEVICES["H200"]) if CHECKED in rows else []
    if wanted.check:
        table = json.loads(TABLE.read_text(encoding="utf-8"))
        wrong += grown(rows[CHECKED], table["kernels"][CHECKED])
    elif wanted.arch:
        print(json.dumps(rows, indent=1))
    else:
        table = {"iterations": ITERATIONS, "passes": PASSES, "images": IMAGES, "kernels": rows}
        TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(put(page, "counts", draw(table)), encoding="utf-8")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
