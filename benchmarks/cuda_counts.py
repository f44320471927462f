"""Counts the work of the CUDA kernels in their machine code, and predicts from it. Needs no GPU.

    python benchmarks/cuda_counts.py             # count for all architectures, write table and page
    python benchmarks/cuda_counts.py --arch 90   # those alone; the others stay as they are
    python benchmarks/cuda_counts.py --check     # count for sm_90, compare with the table
    python benchmarks/cuda_counts.py --check --module FILE   # with _cuda*.so, built for sm_90 alone

Each part of the kernel of one warp a matrix carries a mark. How often a part runs is counted on the
host, on images with the statistics of photographs; what it is made of is read off the machine code.
Of the kernel of a block a matrix the host counts products, and how often threads wait for each
other. Registers, memory and code are read off all kernels: those of a block take minutes to compile
where --module names no module with them. ``--check`` fails where a kernel takes more than a tenth
more instructions, registers or memory than the committed table says, or misses the least that is
asked for. Needs nvcc, a C++ compiler, and cuobjdump, of the toolkit or of the wheel
``nvidia-cuda-cuobjdump``.
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
from datetime import date
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
#: And more than that beyond it: small numbers jump, and what runs of the stack is in "spills".
SLACKS = {"stack": 1024, "local": 100}
#: Of the places in warp_algebra.hpp: the head of an iteration, and where lanes load different rows.
ITERATION, UNLIKE = "kIteration", ("kSquareRow", "kGramRow", "kColumnRow")
SHARED = -1  # what the program of the host calls the bytes of shared memory

#: Rows of 32 and triplets that are kept, of each kernel; channels and their arrangement.
KERNELS: dict[str, dict[str, Any]] = {
    "96 x 32, rank 8": {"q": 3, "rank": 8, "matrices": 1},
    "32 x 32, rank 8": {"q": 1, "rank": 8, "matrices": 3},
    "96 x 32, rank 12": {"q": 3, "rank": 12, "matrices": 1},
    "32 x 32, rank 12": {"q": 1, "rank": 12, "matrices": 3},
}
IMAGES, ITERATIONS, PASSES = 4, 56, 2

#: Of csrc/cuda: the kernels that are not of one warp.
SOURCES = ("fused", "fused_double", "tiled", "cusolver")
Rows = dict[str, dict[str, int]]

#: Matrices of the kernel of a block a matrix: channels that are stacked, side, rank.
BLOCKS: dict[str, tuple[int, int, int]] = {
    "28 x 28": (1, 28, 7),
    "96 x 32": (3, 32, 9),
    "64 x 64": (1, 64, 16),
    "192 x 64": (3, 64, 16),
    "112 x 112": (1, 112, 28),
    "336 x 112": (3, 112, 28),
    "224 x 224": (1, 224, 56),
    "672 x 224": (3, 224, 56),
}

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
MOST_SPILLS = 0.02  # share of the instructions that may move registers to memory and back
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
                f"{name} was not found; install the CUDA toolkit or the wheel nvidia-cuda-{name}"
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


def photographs(count: int, channels: int = 3, side: int = 32, seed: int = 0) -> np.ndarray:
    """Return square images whose amplitudes fall as 1 / f, as those of photographs."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    falling = 1 / np.maximum(np.hypot(fy, fx), 1 / side)
    shape = (count, channels, side, side // 2 + 1)
    noise = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    noise = 0.9 * noise[:, :1] + 0.45 * noise  # colours go together
    images = np.fft.irfft2(noise * falling, (side, side))
    images -= images.mean(axis=(2, 3), keepdims=True)
    images *= 0.22 / images.std(axis=(1, 2, 3), keepdims=True)
    means = rng.uniform(0.35, 0.6, (count, channels, 1, 1))
    return np.clip(images + means, 0, 1).astype(np.float32)


def built(name: str, folder: Path) -> Path:
    """Compile a program of csrc/tests that runs the kernels on the host, and counts."""
    program = folder / name
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    flags = ["-std=c++17", "-O2", "-pthread", "-Wno-unknown-pragmas", "-DSPLIC_COUNT", *INCLUDE]
    command(*compiler.split(), *flags, CSRC / "tests" / f"{name}.cpp", "-o", program)
    return program


def counted(program: Path, images: np.ndarray, rank: int, stacked: bool) -> list[list[int]]:
    """Complete images on the host; return what the program prints of its counts."""
    given, made = program.parent / "in.bin", program.parent / "out.bin"
    given.write_bytes(images.tobytes())
    options = {"rank": rank, "max_iterations": ITERATIONS, "tolerance": 0, "stacked": int(stacked)}
    words = [program, "count", given, made, *images.shape, "f32", 1]
    printed = command(*map(str, words), *(f"{key}={value}" for key, value in options.items()))
    return [[int(number) for number in line.split()] for line in printed.splitlines()]


def executions(folder: Path) -> dict[str, dict[int, int]]:
    """Count on the host how often each mark of each kernel is met."""
    program, images = built("warp_on_host", folder), photographs(IMAGES)
    found = {}
    for name, kernel in KERNELS.items():
        rows = counted(program, images, kernel["rank"], kernel["q"] == 3)
        marks: dict[int, int] = dict(rows)  # type: ignore[arg-type]  # pairs
        assert marks[places()[ITERATION][0]] == IMAGES * kernel["matrices"] * ITERATIONS * PASSES
        found[name] = marks
    return found


def waits(folder: Path) -> dict[str, dict[str, int]]:
    """Count on the host a block's products and waits, and those of its first warp."""
    program = built("on_host", folder)
    found = {}
    for name, (channels, side, rank) in BLOCKS.items():
        ((*done, state),) = counted(program, photographs(1, channels, side), rank, True)
        block, warp, products = (round(one / (ITERATIONS * PASSES)) for one in done)
        found[name] = {"rank": rank, "products": products, "block": block, "warp": warp}
        found[name]["state"] = state
    return found


def occupancy(device: dict[str, Any], registers: int, shared: int) -> int:
    """Return the warps that a multiprocessor has room for; each quarter has its own registers."""
    by_registers = 4 * (REGISTERS // 4 // (-(-registers // 8) * 8 * 32))
    return int(min(by_registers, device["shared"] // (shared + RESERVED), WARPS))


def predict(device: dict[str, Any], row: dict[str, Any], matrices: int) -> dict[str, int]:
    """Return images a second: what latency and the busiest unit allow, and what is to be expected.

    That is what a closed network of queues does (mean value analysis; Reiser, Lavenberg 1980): the
    warps of a multiprocessor wait for their scheduler, of four, and for the one pipe of shared
    memory, and else for themselves.
    """
    warps = occupancy(device, row["registers"], row["shared"])
    issue = max(row["instructions"], 4 * row["single"] / device["single"])
    pipe = row["wavefronts"]
    alone = max(row["cycles"], issue + pipe)
    at_scheduler = at_pipe = rate = 0.0
    for present in range(1, warps + 1):
        issued, moved = issue * (1 + at_scheduler / 4), pipe * (1 + at_pipe)
        rate = present / (alone - issue - pipe + issued + moved)
        at_scheduler, at_pipe = rate * issued, rate * moved
    share = device["count"] * device["clock"] / (ITERATIONS * PASSES * matrices)
    found = {
        "latency": share * warps / alone,
        "busy": share / max(issue / 4, pipe),
        "images": share * rate,
    }
    return {"warps": warps, **{key: int(round(value, -3)) for key, value in found.items()}}


def resources(listing: str) -> dict[str, dict[str, int]]:
    """Return registers and bytes of stack of each kernel, from ``cuobjdump -res-usage``."""
    found = {}
    for name, rest in re.findall(r"Function (\S+):\s*\n\s*(REG:.*)", listing):
        found[name] = {key: int(n) for key, n in re.findall(r"(\w+)(?:\[0\])?:(\d+)", rest)}
    return found


def compiled(architecture: str, folder: Path) -> Path:
    """Compile the kernels, with their marks, for an architecture."""
    cubin = folder / f"sm_{architecture}.cubin"
    flags = ["-cubin", f"-arch=sm_{architecture}", "-std=c++17", "-DSPLIC_MARKS", *INCLUDE]
    command("nvcc", *flags, CSRC / "cuda" / "warp.cu", "-o", cubin)
    return cubin


def count(cubin: Path, met: dict[str, dict[int, int]], tool: Path) -> dict[str, Any]:
    """Return a row for each kernel that has been compiled."""
    unlike = frozenset(mark for name in UNLIKE for mark in places()[name])
    used = resources(command(tool, "-res-usage", cubin))
    code = sass.functions(command(tool, "-sass", cubin))
    rows = {}
    for name, kernel in KERNELS.items():
        part = f"warp_kernelILi{kernel['q']}ELi{kernel['rank']}E"
        (mangled,) = (function for function in code if part in function)
        marks = {mark: times for mark, times in met[name].items() if mark != SHARED}
        done = sass.work(code[mangled], marks, unlike)
        times = met[name][places()[ITERATION][0]]
        rows[name] = {
            "registers": used[mangled]["REG"],
            "stack": used[mangled]["STACK"],
            "spills": round(done.local / times),
            "shared": met[name][SHARED],
            "code": 16 * sum(one.mark is None for one in code[mangled]),
            "instructions": round(done.instructions / times),
            "single": round(done.single / times),
            "wavefronts": round(done.wavefronts / times),
            "cycles": round(done.cycles / times),
        }
    return rows


def names(functions: list[str]) -> dict[str, str]:
    """Return what each kernel is called in the sources, with the names of its steps."""
    steps: dict[str, list[str]] = {}
    for source in (*(CSRC / "cuda").glob("*.cu"), *(CSRC / "team").glob("*.hpp")):
        text = source.read_text(encoding="utf-8")
        for name, body in re.findall(r"enum class (\w+) \{(.*?)\};", text, re.DOTALL):
            steps[name] = re.findall(r"\w+", body)
    found = {}
    for function, name in zip(functions, command("c++filt", *functions).splitlines(), strict=True):
        name = re.sub(r"splic::|\(anonymous namespace\)::|^void ", "", name)
        name = re.sub(r"\((\w+)\)(\d+)", lambda step: steps[step[1]][int(step[2])], name)
        found[function] = name[: name.rindex(">") + 1] if ">" in name else name.partition("(")[0]
    return found


def all_resources(architecture: str, module: Path | None, folder: Path, tool: Path) -> Rows:
    """Return what each kernel takes besides those of one warp, in a module or compiled now."""
    objects = [module] if module else []
    for source in () if module else SOURCES:
        objects.append(folder / f"{source}_{architecture}.cubin")
        flags = ["-cubin", f"-arch=sm_{architecture}", "-std=c++17", "-O3", "-DNDEBUG", *INCLUDE]
        command("nvcc", *flags, CSRC / "cuda" / f"{source}.cu", "-o", objects[-1])
    found = {}
    for one in objects:
        if "arch = sm_" in (listing := command(tool, "-res-usage", one)):
            built_for = sorted(set(re.findall(r"arch = sm_(\w+)", listing)))
            if built_for != [architecture]:
                raise SystemExit(
                    f"{one} is built for sm_{', sm_'.join(built_for)}; sm_{architecture} alone was "
                    f"expected: build it with CMAKE_CUDA_ARCHITECTURES={architecture}-real"
                )
        used, code = resources(listing), sass.functions(command(tool, "-sass", one))
        for function, name in names(list(used)).items():
            if name.startswith("warp_kernel"):
                continue
            found[name] = {
                "registers": used[function]["REG"],
                "stack": used[function]["STACK"],
                "local": sum(step.name in ("LDL", "STL") for step in code[function]),
                "code": 16 * len(code[function]),
            }
    return dict(sorted(found.items()))


def misses(rows: dict[str, Any], device: dict[str, Any]) -> list[str]:
    """Say what of the least that is asked for is not reached."""
    wrong = []
    for name, row in rows.items():
        reached = predict(device, row, KERNELS[name]["matrices"])
        if row["spills"] > MOST_SPILLS * row["instructions"]:
            wrong.append(f"{name}: {row['spills']} instructions an iteration are of spills")
        if row["instructions"] > MOST_INSTRUCTIONS.get(name, row["instructions"]):
            wrong.append(f"{name}: {row['instructions']} instructions an iteration")
        if reached["warps"] < LEAST_WARPS:
            wrong.append(f"{name}: {reached['warps']} warps a multiprocessor")
        if reached["images"] < LEAST_IMAGES.get(name, 0):
            wrong.append(f"{name}: {reached['images']} images a second predicted")
    return wrong


def grown(rows: dict[str, Any], table: dict[str, Any]) -> list[str]:
    """Say what is more than the table has, beyond the slack, and what the table lacks."""
    wrong = []
    for name, row in rows.items():
        if name not in table:
            wrong.append(
                f"{name} is not in {TABLE.name}: run {Path(__file__).name} --arch {CHECKED}"
            )
            continue
        wrong += [
            f"{name}: {key} {value}, and {table[name][key]} in {TABLE.name}"
            for key, value in row.items()
            if value > SLACK * table[name][key] + SLACKS.get(key, 0)
        ]
    return wrong


def draw(table: dict[str, Any]) -> str:
    """Return the tables of the page."""
    lines = [
        "| kernel | sm | registers | stack, bytes | shared, bytes | code, KB | instructions "
        "| of spills | FP32 | wavefronts | cycles |",
        "| --- |" + " --- |" * 10,
    ]
    for name in KERNELS:
        for architecture in sorted(table["kernels"]):
            row = table["kernels"][architecture].get(name)
            if row is None:
                continue
            keys = ("registers", "stack", "shared")
            cells = [f"{row[key]:,}" for key in keys] + [f"{row['code'] / 1024:.0f}"]
            keys = ("instructions", "spills", "single", "wavefronts", "cycles")
            cells += [f"{row[key]:,}" for key in keys]
            lines.append(f"| {name} | {architecture} | {' | '.join(cells)} |")
    devices = {key: one for key, one in DEVICES.items() if one["arch"] in table["kernels"]}
    lines += [
        "",
        "| predicted, images a second | " + " | ".join(devices) + " |",
        "| --- |" + " --- |" * len(devices),
    ]
    for name, kernel in KERNELS.items():
        cells = []
        if any(name not in table["kernels"][one["arch"]] for one in devices.values()):
            continue
        for device in devices.values():
            row = table["kernels"][device["arch"]][name]
            found = predict(device, row, kernel["matrices"])
            cells.append(f"{found['images']:,} ({found['warps']} warps)")
        kind = "stacked" if kernel["matrices"] == 1 else "separate channels"
        lines.append(f"| {kind}, rank {kernel['rank']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_waits(found: dict[str, dict[str, int]]) -> str:
    """Return the table of the kernel of a block a matrix."""
    titles = ("matrix", "rank", "state, bytes", "products, millions", "waits of all")
    lines = [f"| {' | '.join(titles)} | waits of the first warp |", "| --- |" + " --- |" * 5]
    lines += [
        f"| {name} | {one['rank']} | {one['state']:,} | {one['products'] / 1e6:.2f} "
        f"| {one['block']} | {one['warp']} |"
        for name, one in found.items()
    ]
    return "\n".join(lines)


def draw_resources(found: Rows) -> str:
    """Return the table of all other kernels, of which those of steps stand together."""
    groups: dict[str, list[dict[str, int]]] = {}
    for name, row in found.items():
        step = re.match(r"((?:alone|shared|step)_kernel<\w+), \w+>", name)
        groups.setdefault(f"{step[1]}, ...>" if step else name, []).append(row)
    lines = [
        "| kernel | steps | registers | stack, bytes | reads and writes of it | code, KB |",
        "| --- |" + " --- |" * 5,
    ]
    for name, rows in groups.items():
        most = [f"{max(row[key] for row in rows):,}" for key in ("registers", "stack", "local")]
        code = sum(row["code"] for row in rows) / 1024
        lines.append(f"| `{name}` | {len(rows)} | {' | '.join(most)} | {code:.0f} |")
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
    parser.add_argument("--arch", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    parser.add_argument("--module", type=Path, help="the module with the kernels of a block")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tool = disassembler(folder)  # first: to compile takes minutes
        met, waited = executions(folder), waits(folder)
        chosen = [CHECKED] if wanted.check else wanted.arch
        rows = {name: count(compiled(name, folder), met, tool) for name in chosen}
        others = {}
        if CHECKED in chosen:
            others = all_resources(CHECKED, wanted.module, folder, tool)
    wrong = misses(rows[CHECKED], DEVICES["H200"]) if CHECKED in rows else []
    before = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    if wanted.check:
        for found, known in (
            (rows[CHECKED], before["kernels"][CHECKED]),
            (waited, before["waits"]),
            (others, before["others"]),
        ):
            wrong += grown(found, known)
    else:
        release = re.search(r"release (\S+),", command("nvcc", "--version"))
        made = {"date": f"{date.today()}", "nvcc": release[1] if release else "unknown"}
        table = {
            "iterations": ITERATIONS, "passes": PASSES, "images": IMAGES, "waits": waited,
            "made": {**before.get("made", {}), **dict.fromkeys(rows, made)},
            "kernels": {**before.get("kernels", {}), **rows},
            "others": others or before.get("others", {}),
        }  # fmt: skip
        TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")
        page = put(page, "counts", draw(table))
        page = put(page, "resources", draw_resources(table["others"]))
        PAGE.write_text(put(page, "waits", draw_waits(waited)), encoding="utf-8")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
