"""How long the CPU extension takes to compile, against a committed figure.

    python benchmarks/compile_time.py            # measure, compare, exit code 1 if it is too slow
    python benchmarks/compile_time.py --update   # measure, write the figure

It builds the target `_core` in a temporary folder and counts processor time, whatever the number of
cores. Machines differ in speed: what is compared is the ratio to the time of a fixed
piece of C++ that the same compiler compiles before and after. Needs CMake, pybind11 and a compiler.
Whoever adds a kernel raises the figure on purpose.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pybind11

from splic_ext.diagnostics import cpu_name

ROOT = Path(__file__).resolve().parents[1]
FIGURE = Path(__file__).with_suffix(".json")
#: More than that share of the figure fails.
SLACK = 1.5

#: A second or two of templates of the standard library.
REFERENCE = """
#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <regex>
#include <string>
int main(int argc, char **argv) {
  std::map<std::string, std::function<double(double)>> found;
  std::mt19937_64 random(argc);
  for (int i = 0; i < argc; ++i)
    if (std::regex_search(argv[i], std::regex("[a-z]+([0-9]*)")))
      found[argv[i]] = [&](double x) { return x * std::normal_distribution<>()(random); };
  return static_cast<int>(std::count_if(found.begin(), found.end(),
                                        [](auto &f) { return f.second(1.0) > 0; }));
}
"""


def seconds(*command: str | Path) -> float:
    """Run a command; return the processor time that it and its children took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path) -> dict[str, float]:
    """Return the processor time of the extension and of the reference."""
    compiler, build = os.environ.get("CXX", "c++"), folder / "build"
    source = folder / "reference.cpp"
    source.write_text(REFERENCE, encoding="utf-8")
    reference = (compiler, "-std=c++17", "-O2", "-c", source, "-o", folder / "reference.o")
    subprocess.run(
        [
            "cmake", "-S", ROOT, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DSPLIC_CUDA=OFF",
            f"-DCMAKE_CXX_COMPILER={compiler}", f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        ],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    before = seconds(*reference)
    extension = seconds("cmake", "--build", build, "--target", "_core", "--parallel", "2")
    known = (before + seconds(*reference)) / 2
    return {
        "seconds": round(extension, 1),
        "reference_seconds": round(known, 2),
        "ratio": round(extension / known, 1),
    }


def main() -> None:
    """Compare with the committed figure, or write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="write the figure")
    update = parser.parse_args().update
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    print(
        f"compiled in {found['seconds']} s of processor time, {found['ratio']} times the reference"
    )
    if update:
        version = subprocess.run(
            [os.environ.get("CXX", "c++"), "--version"], check=True, capture_output=True, text=True
        )
        about = {
            "compiler": version.stdout.splitlines()[0],
            "machine": cpu_name(),
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "command": "python benchmarks/compile_time.py --update",
        }
        FIGURE.write_text(json.dumps({**found, **about}, indent=2) + "\n", encoding="utf-8")
        return
    figure = json.loads(FIGURE.read_text(encoding="utf-8"))
    if found["ratio"] > SLACK * figure["ratio"]:
        sys.exit(
            f"that is more than {SLACK} times the committed {figure['ratio']} ({FIGURE.name}): "
            "make it faster, or raise the figure on purpose with --update"
        )


if __name__ == "__main__":
    main()
