"""Run on a GPU all that needs one: tests, compute-sanitizer, benchmarks, phases, counters.

    benchmarks/gpu_run.sh [FOLDER] [PART ...]

First it finds out what the machine has. The compiled module comes from the bundle (gpu_bundle.py)
if one there is for this Python and this GPU; else it is compiled here, with nvcc of the machine.
What of NumPy, pytest and so on the machine lacks comes from the bundle's wheels. Each part then has
its own time limit, and none stops another. FOLDER gets gpu_run.json, gpu_run.txt and the logs.
The exit code is the number of parts that did not do their work: where there is no device, all that
need one. A tool that the machine lacks is told, and counts as no failure. Standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import gpu_bundle  # noqa: E402

ROOT = HERE.parent
TOTAL = 470  # seconds of a run, which ends before 8 minutes are over
TOOLS = ("nvidia-smi", "nvcc", "cmake", "ninja", "c++", "compute-sanitizer", "ncu", "cuobjdump")
PACKAGES = ("numpy", "torch", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cusolver", "pip", "pytest")
PACKAGES += ("nvidia-cusolver-cu12", "pytest-benchmark", "pytest-xdist", "hypothesis", "pybind11")
QUERY = "name,driver_version,compute_cap,memory.total,clocks.max.sm"
PROBE = """
import json
import splic_ext
from splic_ext.backends import cuda, cusolver
info = splic_ext.backend_info()["cuda"]
found = {"available": info.available, "reason": info.reason, "built": cuda._cuda is not None}
found |= info.details
if info.available:
    try:
        library = cusolver.load(cuda._cuda)
        found["cusolver"] = library | {"path": library["path"].rpartition("/")[2]}
    except RuntimeError as error:
        found["cusolver"] = str(error)
print(json.dumps(found))
"""
#: Tests of what only a device shows; folders with tests that every back end takes.
DEVICE_TESTS = ("backends/test_cuda.py", "backends/test_cuda_module.py")
DEVICE_TESTS += ("backends/test_cuda_device.py", "defenses/test_cuda.py")
SHARED_TESTS = ("arrays", "backends", "completion")
QUICK_TESTS = ("completion/test_errors.py",)
#: What keeps ncu from the settings of the GPU; sections that all its versions have.
NCU = ("--csv", "--print-units", "base", "--clock-control", "none")
NCU += ("--kernel-name", "regex:warp_kernel|complete_kernel")
SECTIONS = ("SpeedOfLight", "LaunchStats", "Occupancy", "WarpStateStats")
METRICS = ("smsp__inst_executed.sum", "gpu__time_duration.sum")


def end(process: subprocess.Popen[bytes], patience: float = 5.0) -> None:
    """Interrupt a process and all that it has started; kill what does not end."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Run:
    """One run: where things are, what was found, and what became of each part."""

    def __init__(self, folder: Path, bundle: Path, work: Path, quick: bool, flags: str) -> None:
        self.folder, self.bundle, self.work = folder, bundle, work
        self.quick, self.flags = quick, flags
        self.start = time.monotonic()
        self.machine: dict[str, Any] = {}
        self.module: dict[str, Any] = {}
        self.parts: list[dict[str, Any]] = []
        self.path = [work / "wheels"]
        self.why = ""  # no part that needs a device can run

    # ---- commands ----

    def environment(self) -> dict[str, str]:
        """Return the environment of what is started."""
        more = [os.environ.get("PYTHONPATH", "")]
        path = os.pathsep.join(filter(None, [*map(str, self.path), *more]))
        changes = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        changes["OMP_NUM_THREADS"] = "1"
        changes["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # or JAX takes most of the memory
        if any((self.bundle / "shared" / "data").glob("*.npz")):
            changes["SPLIC_SHARED"] = str(self.bundle / "shared")
        return {**os.environ, **changes}

    def execute(self, words: Sequence[Any], log: Path, limit: float, **more: str) -> int | None:
        """Run a command in the working folder, its output in the log; None: it took too long."""
        with log.open("ab") as output:
            try:
                process = subprocess.Popen(
                    [str(word) for word in words],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.work,
                    env={**self.environment(), **more},
                    start_new_session=True,
                )
            except OSError as error:
                output.write(f"{error}\n".encode())
                return 127
            try:
                return process.wait(limit)
            except subprocess.TimeoutExpired:
                return None
            finally:
                end(process)

    def capture(self, words: Sequence[Any], limit: float = 60) -> tuple[int | None, str]:
        """Run a short command; return its exit code and what it printed."""
        log = self.work / "captured.txt"
        log.unlink(missing_ok=True)
        code = self.execute(words, log, limit)
        return code, log.read_text(encoding="utf-8", errors="replace")

    def left(self) -> float:
        return TOTAL - (time.monotonic() - self.start)

    # ---- what there is ----

    def look(self) -> str:
        """Find out what the machine has."""
        versions = {}
        for name in PACKAGES:
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
        tools: dict[str, str | None] = {}
        for name in TOOLS:
            tools[name] = None
            if shutil.which(name):
                lines = self.capture([name, "--version"], 20)[1].strip().splitlines()
                numbered = [line for line in lines if re.search(r"\d+\.\d", line)]
                tools[name] = (numbered[-1 if name == "nvcc" else 0] if numbered else "")[:100]
        self.machine = {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "packages": versions,
            "tools": tools,
        }
        if tools["nvidia-smi"] is not None:
            words = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
            code, text = self.capture(words, 30)
            fields = [field.strip() for field in text.strip().split("\n")[0].split(",")]
            if code == 0 and len(fields) == len(QUERY.split(",")):
                self.machine["nvidia_smi"] = dict(zip(QUERY.split(","), fields, strict=True))
        code, text = self.capture([sys.executable, ROOT / "cmake" / "gpus.py"])
        self.machine["capabilities"] = text.split() if code == 0 else []
        if code != 0:
            self.machine["no_driver"] = text.strip()
        manifest = self.bundle / "manifest.json"
        if manifest.is_file():
            self.machine["bundle"] = json.loads(manifest.read_text(encoding="utf-8"))
        commit = gpu_bundle.commit() or self.machine.get("bundle", {}).get("commit")
        self.machine["commit"] = commit
        return ", ".join(self.machine["capabilities"]) or self.machine["no_driver"]

    def unpack_wheels(self) -> list[str]:
        """Unpack those wheels of the bundle that this Python takes and the machine lacks."""
        mine = f"cp{sys.version_info.major}{sys.version_info.minor}"
        taken = []
        for wheel in sorted((self.bundle / "wheels").glob("*.whl")):
            name, _, *_, python, _, _ = wheel.stem.split("-")
            fits = {"py3", mine} & set(python.split("."))
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                if fits:
                    with zipfile.ZipFile(wheel) as archive:
                        archive.extractall(self.work / "wheels")
                    taken.append(name)
        return taken

    def probe(self, site: Path) -> dict[str, Any]:
        """Ask the package in a folder about its CUDA module and the devices."""
        before, self.path = self.path, [*self.path, site]
        code, text = self.capture([sys.executable, "-c", PROBE])
        self.path = before
        lines = text.strip().splitlines()
        if code == 0 and lines:
            return dict(json.loads(lines[-1]))
        return {"available": False, "built": False, "reason": lines[-1] if lines else "no answer"}

    def install(self) -> str:
        """Get the package with its CUDA module from the bundle, or compile it."""
        taken = self.unpack_wheels()
        gpus, site = self.machine["capabilities"], self.bundle / "site"
        suffix, said = sysconfig.get_config_var("EXT_SUFFIX"), "the bundle has no module"
        if (site / "splic_ext" / f"_cuda{suffix}").is_file() and not self.flags:
            self.module = self.probe(site)
            if self.module["built"] and covers(self.module, gpus):
                return self.settle(site, "from the bundle", taken)
            said = "that of the bundle does not serve: " + str(
                f"made for {self.module['architectures']}"
                if self.module["built"]
                else self.module["reason"]
            )
        if not gpus:
            self.why = self.machine["no_driver"]
            raise NoDeviceError(self.why)
        lacking = [name for name in ("nvcc", "cmake", "c++") if self.machine["tools"][name] is None]
        if lacking:
            self.why = f"no module: {said}, and to compile one the machine lacks {lacking[0]}"
            raise RuntimeError(self.why)
        site = self.work / "site"
        gpu_bundle.copy_package(site)
        code = (
            "import sys; from pathlib import Path; import gpu_bundle, pybind11; gpu_bundle.build("
            "Path(sys.argv[1]), Path(sys.argv[2]), sys.executable, sys.argv[3].split(), "
            "pybind11.get_cmake_dir(), sys.argv[4], jobs=int(sys.argv[5]))"
        )
        self.path.append(HERE)
        log, jobs = self.folder / "compile.log", str(os.cpu_count() or 1)
        words = [sys.executable, "-c", code, site, self.work / "build", " ".join(gpus), self.flags]
        status = self.execute([*words, jobs], log, min(300, self.left() - 30))
        self.path.remove(HERE)
        if status != 0:
            self.why = f"no module: {said}; compiling one {told(status)}, see {log.name}"
            raise RuntimeError(self.why)
        self.module = self.probe(site)
        return self.settle(site, f"compiled here for {', '.join(gpus)}", taken)

    def settle(self, site: Path, how: str, taken: list[str]) -> str:
        """Take a package; raise where its module cannot be loaded, or finds no device."""
        self.path.append(site)
        self.module["how"] = how
        if not self.module["built"]:
            self.why = f"no module: it was {how}, and {self.module['reason']}"
            raise RuntimeError(self.why)
        if not self.module["available"]:
            self.why = str(self.module["reason"])
            raise NoDeviceError(self.why)
        return how + (f"; from its wheels {', '.join(taken)}" if taken else "")

    # ---- parts ----

    def python(self, name: str, limit: float, *words: Any, **more: str) -> None:
        """Run a script of this folder; raise where it fails."""
        log = self.folder / f"{name}.log"
        self.must(self.execute([sys.executable, *words], log, limit, **more), log)

    def must(self, status: int | None, log: Path) -> None:
        if status != 0:
            raise RuntimeError(f"{told(status)}; see {log.name}")

    def pytest(self, name: str, limit: float, *words: Any, **more: str) -> str:
        log = self.folder / f"{name}.log"
        given = ["-m", "pytest", "-q", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT]
        # What other versions of libraries warn of is no failure of the GPU.
        given += ["-p", "no:cacheprovider", "-W", "default"]
        status = self.execute([sys.executable, *given, *words], log, limit, **more)
        text = log.read_text(encoding="utf-8", errors="replace")
        ended = re.findall(r"^(?:=+ )?(\d+ (?:passed|failed|error|skipped)[^=\n]*)", text, re.M)
        summary = ended[-1].strip() if ended else "no summary"
        if status != 0:
            raise RuntimeError(f"{told(status)}: {summary}; see {log.name}")
        return summary

    def device_tests(self, limit: float) -> str:
        names = DEVICE_TESTS[1:2] if self.quick else DEVICE_TESTS
        return self.tests("device_tests", limit, names)

    def backend_tests(self, limit: float) -> str:
        names = QUICK_TESTS if self.quick else SHARED_TESTS
        chosen = ["-k", "cuda-float and not test_cuda"]
        if self.capture([sys.executable, "-c", "import xdist"])[0] == 0:
            chosen += ["-n", str(min(8, os.cpu_count() or 1)), "-p", "no:benchmark"]
        return self.tests("backend_tests", limit, names, *chosen)

    def tests(self, name: str, limit: float, names: Sequence[str], *words: str) -> str:
        """Run tests that may not be skipped for want of a device; real images as far as given."""
        more = {}
        data = self.bundle / "shared" / "data"
        if not all((data / one).is_file() for one in gpu_bundle.IMAGES):
            more["SPLIC_SHARED"] = ""
        paths = [ROOT / "python_tests" / one for one in names]
        return self.pytest(name, limit, "--require-backend", "cuda", *words, *paths, **more)

    def bench(self, name: str, limit: float, chosen: str) -> str:
        """Run benchmarks; those that were over in time count, whatever comes of the others."""
        rows = self.folder / f"{name}.jsonl"
        rows.unlink(missing_ok=True)
        words = ["--benchmark-only", "--benchmark-disable-gc", "-k", chosen]
        form = {"SPLIC_BENCH": "quick" if self.quick else "full", "SPLIC_BENCH_ROWS": str(rows)}
        return self.pytest(name, limit, HERE / "bench_cuda.py", *words, **form)

    def speed(self, limit: float) -> str:
        small = " and (32x32-RGB-stacked or test_cuda_many and uint8)" if self.quick else ""
        return self.bench("speed", limit, f"not torch and not cupy{small}")

    def peers(self, limit: float) -> str:
        small = " and 32x32-gray" if self.quick else ""
        return self.bench("peers", limit, f"(torch or cupy){small}")

    def algorithms(self, tool: str) -> list[str]:
        """Return what is checked: racecheck takes long, and looks at what has shared memory."""
        known = isinstance(self.module.get("cusolver"), dict) and tool != "racecheck"
        return ["quick"] * self.quick + ["fused", "tiled"] + ["cusolver"] * known

    def correct(self, limit: float) -> str:
        chosen = self.algorithms("")
        self.python("correct", limit, HERE / "sanitize.py", *chosen)
        without = "" if "cusolver" in chosen else f"; no cuSOLVER: {self.module.get('cusolver')}"
        return f"near the reference ({', '.join(chosen)}){without}"

    def sanitizer(self, tool: str, limit: float) -> str:
        log = self.folder / f"{tool}.log"
        words = [self.tool("compute-sanitizer"), "--tool", tool, "--error-exitcode", "9"]
        words += [sys.executable, HERE / "sanitize.py", *self.algorithms(tool)]
        status = self.execute(words, log, limit)
        text = log.read_text(encoding="utf-8", errors="replace")
        said = re.findall(r"=+ ((?:ERROR|RACECHECK) SUMMARY: .*)", text)
        if status != 0 or not said:
            summary = said[-1] if said else "no summary"
            raise RuntimeError(f"{told(status)}: {summary}; see {log.name}")
        return str(said[-1])

    def phases(self, limit: float) -> str:
        form = {"SPLIC_BENCH": "quick" if self.quick else "full"}
        self.python("phases", limit, HERE / "gpu_phases.py", "times", **form)
        return "times of copies, calls and iterations"

    def counters(self, limit: float) -> str:
        form = {"SPLIC_BENCH": "quick" if self.quick else "full"}
        tool, log = self.tool("ncu"), self.folder / "counters.log"
        words = [tool, *NCU, "--log-file", self.folder / "counters.csv"]
        chosen = [word for name in SECTIONS for word in ("--section", name)]
        words += [*chosen, "--metrics", ",".join(METRICS), sys.executable]
        words += [HERE / "gpu_phases.py", "launches"]
        self.must(self.execute(words, log, limit, **form), log)
        return "counters of each kernel"

    def tool(self, name: str) -> str:
        path = shutil.which(name)
        if path is None:
            raise MissingToolError(f"{name} is not on this machine")
        return path

    # ---- the run ----

    def do(self, name: str, limit: float, work: Callable[[], str], needs_device: bool) -> None:
        """Do a part, and note what became of it."""
        begin = time.monotonic()
        try:
            if needs_device and self.why:
                raise NoDeviceError(self.why)
            if limit < 5:
                raise RuntimeError("no time was left")
            status, said = "ok", work()
        except NoDeviceError as error:
            status, said = "no device", str(error)
        except MissingToolError as error:
            status, said = "absent", str(error)
        except Exception as error:  # whatever it is, the next part is done
            status, said = "failed", str(error) or type(error).__name__
        if status == "no device" and self.why.startswith("no module"):
            status = "no module"
        part = {"part": name, "status": status, "said": said}
        self.parts.append({**part, "seconds": round(time.monotonic() - begin, 1)})
        print(f"{name:14} {status:9} {self.parts[-1]['seconds']:6.1f} s  {said}", flush=True)

    def plan(self) -> dict[str, tuple[float, Callable[[float], str]]]:
        """Return the parts that need a device, in order, with the seconds that each may take."""
        tools = ("memcheck", "racecheck", "synccheck")
        checks = {tool: (40.0, lambda n, tool=tool: self.sanitizer(tool, n)) for tool in tools}
        return {
            "correct": (40.0, self.correct),
            "device_tests": (80.0, self.device_tests),
            "speed": (150.0, self.speed),
            **checks,
            "phases": (40.0, self.phases),
            "backend_tests": (100.0, self.backend_tests),
            "counters": (50.0, self.counters),
            "peers": (70.0, self.peers),
        }


class NoDeviceError(RuntimeError):
    """There is no device, or no module for it."""


class MissingToolError(RuntimeError):
    """The machine lacks a tool."""


def told(status: int | None) -> str:
    return "stopped at its time limit" if status is None else f"failed with exit status {status}"


def covers(module: dict[str, Any], capabilities: Sequence[str]) -> bool:
    """Return whether a module has code for each GPU; one without numbers is for no real GPU."""
    made = re.findall(r"(\d+)[af]?-?(real|virtual)?", str(module.get("architectures", "")))
    return all(
        any(
            int(number) <= int(gpu) and (kind != "real" or int(number) // 10 == int(gpu) // 10)
            for number, kind in made
        )
        for gpu in capabilities
    )


def main(given: Sequence[str] | None = None) -> int:
    """Look, install, do the parts, and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    default = Path(os.environ.get("OUT") or ROOT / "build" / "gpu_run")
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    parser.add_argument("parts", nargs="*", help="those alone; see gpu_run.txt for their names")
    parser.add_argument("--bundle", type=Path, default=gpu_bundle.FOLDER)
    parser.add_argument("--quick", action="store_true", help="few of all; numbers mean nothing")
    parser.add_argument("--flags", default="", help="compile here, with these flags for nvcc")
    wanted = parser.parse_args(given)
    import gpu_report

    folder = wanted.folder.resolve()
    with tempfile.TemporaryDirectory(prefix="gpu_run.") as work:
        run = Run(folder, wanted.bundle.resolve(), Path(work), wanted.quick, wanted.flags)
        plan = run.plan()
        if unknown := [name for name in wanted.parts if name not in plan]:
            parser.error(f"no part is called {unknown[0]!r}; they are {', '.join(plan)}")
        if str(wanted.folder) in plan:
            parser.error(f"{wanted.folder} is a part; name the folder for the results before it")
        folder.mkdir(parents=True, exist_ok=True)
        for log in [*folder.glob("*.log"), *folder.glob("counters.csv"), *folder.glob("*.jsonl")]:
            log.unlink()
        began = datetime.datetime.now(datetime.timezone.utc)
        run.do("look", 60, run.look, False)
        run.do("install", run.left(), run.install, False)
        clocks = gpu_report.watch_clocks(folder / "clocks.log")
        for name, (limit, work_of) in plan.items():
            if not wanted.parts or name in wanted.parts:
                # Without a GPU, all is slow: what counts is that it runs.
                limit = min(3 * limit if run.quick else limit, run.left())
                run.do(name, limit, lambda f=work_of, n=limit: f(n), True)
        if clocks is not None:
            end(clocks)
        document = {
            "schema": 1,
            "date": began.isoformat(timespec="seconds"),
            "command": " ".join(["gpu_run.sh", *(["--quick"] * run.quick), *wanted.parts]),
            "quick": run.quick,
            "commit": run.machine.get("commit"),
            "machine": run.machine,
            "module": run.module,
            "parts": run.parts,
            "seconds": round(time.monotonic() - run.start, 1),
        }
        sys.path[:0] = [str(path) for path in run.path]
        text = gpu_report.write(folder, document)
    print(text)
    return sum(part["status"] not in ("ok", "absent") for part in run.parts)


if __name__ == "__main__":
    sys.exit(main())
