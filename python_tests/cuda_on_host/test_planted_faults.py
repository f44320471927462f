"""Faults planted in the CUDA solver: each must be found, by the runtime or in the results.

A copy of the sources is changed in one place, the file that holds it compiled anew and linked with
the rest of the build; a process of its own then completes a few images.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT
from helpers import cuda_on_host
from helpers.cuda import wavy

from splic_ext import SolverOptions

OPTIONS = SolverOptions(max_iterations=3)
SHAPE = (3, 1, 9, 9)

#: Name -> file, what stands there, what is put in its place, the unit that is compiled anew.
FAULTS = {
    "a barrier less after each loop": (
        "team/team_algebra.hpp",
        "      f(i);\n    team_.sync();\n  }\n  // f(i, j) for all entries.",
        "      f(i);\n  }\n  // f(i, j) for all entries.",
        "fused.cu",
    ),
    "a barrier less in a sum": (
        "cuda/team.cuh",
        "        scratch[threadIdx.x / 32] = static_cast<double>(x);\n      __syncthreads();\n",
        "        scratch[threadIdx.x / 32] = static_cast<double>(x);\n",
        "cusolver.cu",
    ),
    "a barrier that some threads miss": (
        "team/team_algebra.hpp",
        "      f(i);\n    team_.sync();\n  }\n  // f(i, j) for all entries.",
        "      f(i);\n    if (team_.rank() < count)\n      team_.sync();\n  }\n"
        "  // f(i, j) for all entries.",
        "fused.cu",
    ),
    "a wait less of the first warp": (
        "team/team_algebra.hpp",
        "      team_.warp_sync();\n    }\n    for (int i = begin + row; i < end; i += down)",
        "    }\n    for (int i = begin + row; i < end; i += down)",
        "fused.cu",
    ),
    "a column further": (
        "team/iterate.hpp",
        "p.target.at(item.image, item.channel + row / p.height, row % p.height, column)",
        "p.target.at(item.image, item.channel + row / p.height, row % p.height, column + 1)",
        "fused.cu",
    ),
    "shared memory a piece short": (
        "cuda/fused.cu",
        "return (Fused<T, BlockTeam>::bytes(problem) + 255) / 256 * 256;",
        "return Fused<T, BlockTeam>::bytes(problem) - 16;",
        "fused.cu",
    ),
    "the same memory for all blocks": (
        "cuda/cusolver.cu",
        "batch_.memory.stride = parts_.stride;",
        "batch_.memory.stride = 0;",
        "cusolver.cu",
    ),
    "threads and blocks swapped": (
        "cuda/team.cuh",
        "  config.gridDim = dim3(static_cast<unsigned>(blocks));\n"
        "  config.blockDim = dim3(static_cast<unsigned>(threads));",
        "  config.gridDim = dim3(static_cast<unsigned>(threads));\n"
        "  config.blockDim = dim3(static_cast<unsigned>(blocks));",
        "cusolver.cu",
    ),
    "matrices and eigenvalues swapped": (
        "cuda/cusolver.cu",
        "eigen_.decompose(n_, batch_.memory.squares, batch_.memory.values,",
        "eigen_.decompose(n_, batch_.memory.values, batch_.memory.squares,",
        "cusolver.cu",
    ),
    "records and workspace swapped": (
        "cuda/host.cpp",
        "(device_.get() + layout_.records),\n                device_.get() + layout_.records_end,",
        "(device_.get() + layout_.records_end),\n                device_.get() + layout_.records,",
        "host.cpp",
    ),
    "a copy in the other direction": (
        "cuda/host.cpp",
        "copy(0, layout_.mask, cudaMemcpyDeviceToHost);",
        "copy(0, layout_.mask, cudaMemcpyHostToDevice);",
        "host.cpp",
    ),
    "nobody waits for a chunk": (
        "cuda/host.cpp",
        'check(cudaStreamSynchronize(stream_.get()), "completion kernel");',
        "",
        "host.cpp",
    ),
    "freed while its work runs": (
        "cuda/host.cpp",
        "    if (now_ > 0)\n      cudaStreamSynchronize(stream_.get());\n",
        "    cudaFreeHost(host_.get());\n",
        "host.cpp",
    ),
    "device memory freed before its use": (
        "cuda/host.cpp",
        "    copy(0, layout_.records, cudaMemcpyHostToDevice);\n",
        "    cudaFree(device_.get());\n    copy(0, layout_.records, cudaMemcpyHostToDevice);\n",
        "host.cpp",
    ),
    "cuSOLVER on no stream of ours": (
        "cuda/cusolver_api.cpp",
        '  check_solver(api.set_stream(entry_->handle, stream), "cusolverDnSetStream");\n',
        "",
        "cusolver_api.cpp",
    ),
}

CODE = """
import sys
sys.path[:0] = [{tests!r}]
from helpers import cuda_on_host
from helpers.cuda import wavy
runtime = cuda_on_host.install({place!r})
import numpy as np
import splic_ext
from splic_ext import SolverOptions

options = SolverOptions.from_dict({options!r})
expected = np.load({expected!r})
found = []
for seed in range(4):
    runtime.seed(seed)
    runtime.fail({fail} if seed == 3 else 0)
    for method in ("fused", "cusolver"):
        chosen = options.replace(algorithm=method)
        try:
            result = splic_ext.complete(wavy({shape!r}), options=chosen, backend="cuda")
            if not np.abs(result - expected).max() < 1e-4:
                found.append("wrong results")
        except Exception as error:
            if seed != 3:
                found.append(str(error))
    found += runtime.violations()
    left, handles = runtime.living(), runtime.handles()
    if left["device 0"] or left["streams"] or left["events"] != handles[0]:
        found.append(f"left over: {{left}}, {{handles}}")
    if found:
        break
print("FOUND", found[:3])
"""


@pytest.fixture(scope="module")
def commands():
    place = cuda_on_host.folder().parent / "compile_commands.json"
    listed = json.loads(place.read_text(encoding="utf-8"))
    return {
        entry["file"].rpartition("/")[2]: entry
        for entry in listed
        if "_cuda_on_host.dir" in entry["output"]
    }


@pytest.fixture
def variant(tmp_path, commands):
    """Build the module with a change in one place; return the folder that it lies in."""

    def build(name):
        source, before, after, unit = FAULTS[name]
        entry, place = commands[unit], tmp_path / "csrc"
        shutil.copytree(ROOT / "csrc", place)
        changed = place / source
        text = changed.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"what the fault replaces is not there once: {before}"
        changed.write_text(text.replace(before, after), encoding="utf-8")
        folder = tmp_path / "built"
        folder.mkdir()
        command = [
            part.replace(str(ROOT / "csrc"), str(place)) for part in shlex.split(entry["command"])
        ]
        made = command[command.index("-o") + 1] = str(tmp_path / "changed.o")
        subprocess.run([*command, "-w", "-O0"], check=True, cwd=entry["directory"])
        old = cuda_on_host.folder()
        objects = {
            str((cuda_on_host.folder().parent / other["output"]).resolve()): file
            for file, other in commands.items()
        }
        (module,) = old.glob("_cuda*.so")
        for library in old.glob("libsplic_*.so"):
            (folder / library.name).symlink_to(library)
        link = [command[0], "-shared", "-o", str(folder / module.name), made]
        link += [path for path, file in objects.items() if file != unit]
        subprocess.run(
            [*link, f"-L{old}", "-lsplic_cudart", "-Wl,-rpath,$ORIGIN", "-ldl"], check=True
        )
        return folder

    return build


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    import splic_ext

    path = tmp_path_factory.mktemp("faults") / "expected.npy"
    np.save(path, splic_ext.complete(wavy(SHAPE), options=OPTIONS, backend="numpy"))
    return path


def found_in(run_python, place, expected, fail=0):
    code = CODE.format(
        tests=str(ROOT / "python_tests"), place=str(place), options=OPTIONS.to_dict(),
        expected=str(expected), shape=SHAPE, fail=fail,
    )  # fmt: skip
    try:
        said = run_python(code)
    except AssertionError as error:  # it has ended the process
        return str(error)
    return said.rpartition("FOUND ")[2].strip("[]")


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(run_python, variant, expected, name):
    assert found_in(run_python, variant(name), expected, FAIL_AT)


#: A call in the middle of the first batch: a launch of the second chunk.
FAIL_AT = 24


def test_nothing_is_found_where_nothing_is_wrong(run_python, expected):
    assert found_in(run_python, cuda_on_host.folder(), expected, FAIL_AT) == ""
