"""Faults planted in the CUDA solver: each must be found, by the runtime or in the results.

A copy of the sources is changed in one place, the file that holds it compiled anew and linked with
the rest of the build; a process of its own then completes a few images.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from helpers import cuda_on_host
from helpers.cuda import wavy

from splic_ext import SolverOptions

OPTIONS = SolverOptions(max_iterations=3)
#: Images for the kernel of a block a matrix, for that of a warp, and for one with more iterations.
SHAPES = ((3, 1, 9, 9), (2, 3, 32, 32), (1, 1, 18, 22))

#: Name -> file, what stands there, what is put in its place, the unit that is compiled anew, and
#: what must be said.
FAULTS = {
    "a barrier less after each loop": (
        "team/team_algebra.hpp",
        "      f(i);\n    team_.sync();\n  }\n  // f(i, j) for all entries.",
        "      f(i);\n  }\n  // f(i, j) for all entries.",
        "fused.cu",
        "cudaErrorIllegalAddress|diverged|wrong results",
    ),
    "a barrier less in a sum": (
        "cuda/team.cuh",
        "        scratch[threadIdx.x / 32] = static_cast<double>(x);\n      __syncthreads();\n",
        "        scratch[threadIdx.x / 32] = static_cast<double>(x);\n",
        "cusolver.cu",
        "cudaErrorLaunchTimeout",
    ),
    "a barrier that some threads miss": (
        "team/team_algebra.hpp",
        "      f(i);\n    team_.sync();\n  }\n  // f(i, j) for all entries.",
        "      f(i);\n    if (team_.rank() < count)\n      team_.sync();\n  }\n"
        "  // f(i, j) for all entries.",
        "fused.cu",
        "cudaErrorLaunchTimeout",
    ),
    "a wait less of the first warp": (
        "team/team_algebra.hpp",
        "      team_.warp_sync();\n    }\n    for (int i = begin + row; i < end; i += down)",
        "    }\n    for (int i = begin + row; i < end; i += down)",
        "fused.cu",
        "wrong results|beyond memory",
    ),
    "a column further": (
        "team/iterate.hpp",
        "p.target.at(item.image, item.channel + row / p.height, row % p.height, column)",
        "p.target.at(item.image, item.channel + row / p.height, row % p.height, column + 1)",
        "fused.cu",
        "wrong results",
    ),
    "shared memory a piece short": (
        "cuda/fused.cuh",
        "return aligned(Fused<T, BlockTeam>::bytes(problem));",
        "return Fused<T, BlockTeam>::bytes(problem) - 16;",
        "fused.cu",
        "cudaErrorIllegalAddress",
    ),
    "the same memory for all blocks": (
        "cuda/cusolver.cu",
        "batch_.memory.stride = parts_.stride;",
        "batch_.memory.stride = 0;",
        "cusolver.cu",
        "wrong results",
    ),
    "threads and blocks swapped": (
        "cuda/team.cuh",
        "  config.gridDim = dim3(static_cast<unsigned>(blocks));\n"
        "  config.blockDim = dim3(static_cast<unsigned>(threads));",
        "  config.gridDim = dim3(static_cast<unsigned>(threads));\n"
        "  config.blockDim = dim3(static_cast<unsigned>(blocks));",
        "cusolver.cu",
        "before memory of .* bytes of device 0|beyond memory",
    ),
    "matrices and eigenvalues swapped": (
        "cuda/cusolver.cu",
        "eigen_.decompose(n_, batch_.memory.squares, batch_.memory.values,",
        "eigen_.decompose(n_, batch_.memory.values, batch_.memory.squares,",
        "cusolver.cu",
        "diverged",
    ),
    "records and workspace swapped": (
        "cuda/host.cpp",
        "(device_.get() + layout_.records),\n                device_.get() + layout_.records_end,",
        "(device_.get() + layout_.records_end),\n                device_.get() + layout_.records,",
        "host.cpp",
        "cudaErrorIllegalAddress",
    ),
    "a copy in the other direction": (
        "cuda/host.cpp",
        "copy(0, layout_.mask, cudaMemcpyDeviceToHost);",
        "copy(0, layout_.mask, cudaMemcpyHostToDevice);",
        "host.cpp",
        "wrong results",
    ),
    "nobody waits for a chunk": (
        "cuda/host.cpp",
        'check(cudaStreamSynchronize(stream_.get()), "completion kernel");',
        "",
        "host.cpp",
        "wrong results",
    ),
    "freed while its work runs": (
        "cuda/host.cpp",
        "    if (now_ > 0)\n      cudaStreamSynchronize(stream_.get());\n",
        "    cudaFreeHost(host_.get());\n",
        "host.cpp",
        "touches freed memory of .* pinned",
    ),
    "device memory freed before its use": (
        "cuda/host.cpp",
        "    copy(0, layout_.records, cudaMemcpyHostToDevice);\n",
        "    cudaFree(device_.get());\n    copy(0, layout_.records, cudaMemcpyHostToDevice);\n",
        "host.cpp",
        "a copy of .* bytes reaches freed memory of .* bytes of device 0",
    ),
    "cuSOLVER on no stream of ours": (
        "cuda/cusolver_api.cpp",
        '  check_solver(api.set_stream(entry_->handle, stream), "cusolverDnSetStream");\n',
        "",
        "cusolver_api.cpp",
        "diverged|wrong results",
    ),
    "a warp barrier less before a basis is read": (
        "team/warp_triplets.hpp",
        "    store_row(basis_ + lane_ * padded_row(K), v);\n    warp_.sync();\n"
        "    WarpGram<K> gram(lane_);",
        "    store_row(basis_ + lane_ * padded_row(K), v);\n    WarpGram<K> gram(lane_);",
        "warp.cu",
        "wrong results",
    ),
    "a warp barrier less before a factor is read": (
        "team/warp_triplets.hpp",
        "    gram.store(warp_, small_);\n    warp_.sync();\n    WarpFactor<K> factor;",
        "    gram.store(warp_, small_);\n    WarpFactor<K> factor;",
        "warp.cu",
        "diverged|wrong results",
    ),
    "a warp barrier that some lanes miss": (
        "team/warp_algebra.hpp",
        "      store_row(memory + warp_.lane() * padded_row(K), rows);\n    }\n    warp_.sync();",
        "      store_row(memory + warp_.lane() * padded_row(K), rows);\n      warp_.sync();\n    }",
        "warp.cu",
        "waits for ever: .* at __syncwarp",
    ),
    "the value of another lane": (
        "team/warp_algebra.hpp",
        "inverse[l] = warp.shuffle(scale, l);",
        "inverse[l] = warp.shuffle(scale, 0);",
        "warp.cu",
        "diverged|wrong results",
    ),
    "a row further in the mask": (
        "team/warp_solver.hpp",
        "x_[(lane_ + kWarp * q) * kX + kMaskAt]",
        "x_[(lane_ + 1 + kWarp * q) * kX + kMaskAt]",
        "warp.cu",
        "wrong results",
    ),
    "channels swapped": (
        "team/warp_solver.hpp",
        "p.target.at(item.image, item.channel + row / kWarp, row % kWarp, lane_)",
        "p.target.at(item.image, item.channel + row % 3, row % kWarp, lane_)",
        "warp.cu",
        "wrong results",
    ),
    "a barrier less in a tile": (
        "team/tile.hpp",
        "    team.barrier();\n",
        "",
        "tiled.cu",
        "wrong results|diverged",
    ),
    "a row further in a tile": (
        "team/tile.hpp",
        "own_left[l * Tile::kLeft + i + q * jump_to] = next_left[q];",
        "own_left[l * Tile::kLeft + i + 1 + q * jump_to] = next_left[q];",
        "tiled.cu",
        "wrong results|diverged",
    ),
    "a tile with less shared memory": (
        "cuda/tiled.cu",
        "kTileScratchBytes + Tile::bytes<T>, stream_",
        "Tile::bytes<T> - 1024, stream_",
        "tiled.cu",
        "an access beyond the shared memory",
    ),
    "tiles of one matrix taken for all": (
        "cuda/tiled.cu",
        "matrix(batch.problem, team, batch.memory, blockIdx.x / tiles);",
        "matrix(batch.problem, team, batch.memory, 0);",
        "tiled.cu",
        "wrong results|diverged",
    ),
    "a search that is not begun anew": (
        "team/tiled.hpp",
        "      state_->delta = static_cast<double>(delta);\n    begin_search();",
        "      state_->delta = static_cast<double>(delta);",
        "tiled.cu",
        "wrong results|diverged",
    ),
    "a warp with a piece less of shared memory": (
        "cuda/warp.cu",
        "batch.count, kWarp, Solver<Q, R>::kBytes, stream",
        "batch.count, kWarp, Solver<Q, R>::kBytes - 32, stream",
        "warp.cu",
        "an access beyond the shared memory",
    ),
}

#: The same for what is no fault.
HARMLESS = {
    "the same again": (
        "cuda/host.cpp",
        "// Batches of the host",
        "// Batches of the host",
        "host.cpp",
    ),
    "a matrix at a time for cuSOLVER": (
        "cuda/cusolver_api.cpp",
        "constexpr int kMost = 16384;",
        "constexpr int kMost = 1;",
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
cases = [(*case, "fused") for case in expected.items()]
small, _, iterated = expected.items()
cases += [(*small, "tiled"), (*iterated, "tiled"), (*small, "cusolver")]
found = []
for seed in range(4):
    runtime.seed(seed)
    runtime.fail({fail} if seed == 3 else 0)
    for _, right, method in cases:
        chosen = options.replace(algorithm=method)
        try:
            result = splic_ext.complete(wavy(right.shape), options=chosen, backend="cuda")
            if not np.abs(result - right).max() < 1e-4:
                found.append("wrong results")
        except Exception as error:
            if seed != 3:
                found.append(str(error))
    if seed == 3 and runtime.failed() != "cudaLaunchKernelExC":
        found.append("what was made to fail was no launch: " + runtime.failed())
    found[:0] = runtime.violations()
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
    found = {}
    for entry in listed:
        words = shlex.split(entry["command"])
        place = Path(entry["directory"], words[words.index("-o") + 1])
        if "_cuda_on_host.dir" in str(place):
            found[Path(entry["file"]).name] = {**entry, "words": words, "object": str(place)}
    return found


@pytest.fixture
def variant(tmp_path, commands):
    """Build the module with a change in one place; return the folder that it lies in."""

    def build(source, before, after, unit):
        entry, place = commands[unit], tmp_path / "csrc"
        assert Path(entry["file"]).is_relative_to(ROOT / "csrc"), "the build is of other sources"
        shutil.copytree(ROOT / "csrc", place)
        changed = place / source
        text = changed.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"what the fault replaces is not there once: {before}"
        changed.write_text(text.replace(before, after), encoding="utf-8")
        folder = tmp_path / "built"
        folder.mkdir()
        command = [word.replace(str(ROOT / "csrc"), str(place)) for word in entry["words"]]
        made = command[command.index("-o") + 1] = str(tmp_path / "changed.o")
        subprocess.run([*command, "-w", "-O0"], check=True, cwd=entry["directory"])
        old = cuda_on_host.folder()
        (module,) = old.glob("_cuda*.so")
        for library in old.glob("libsplic_*.so"):
            (folder / library.name).symlink_to(library)
        link = [command[0], "-shared", "-o", str(folder / module.name), made]
        link += [other["object"] for file, other in commands.items() if file != unit]
        subprocess.run(
            [*link, f"-L{old}", "-lsplic_cudart", "-Wl,-rpath,$ORIGIN", "-ldl"], check=True
        )
        return folder

    return build


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    import splic_ext

    path = tmp_path_factory.mktemp("faults") / "expected.npz"
    np.savez(path, *[splic_ext.complete(wavy(s), options=OPTIONS, backend="numpy") for s in SHAPES])
    return path


def found_in(run_python, place, expected, fail=0):
    code = CODE.format(
        tests=str(ROOT / "python_tests"), place=str(place), options=OPTIONS.to_dict(),
        expected=str(expected), fail=fail,
    )  # fmt: skip
    try:
        said = run_python(code)
    except AssertionError as error:  # the runtime has ended the process
        said = re.search("cuda_on_host: [^\\\\]*", str(error))
        if not said:
            raise
        return said[0]
    return said.rpartition("FOUND ")[2].strip("[]")


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(run_python, variant, expected, name):
    found = found_in(run_python, variant(*FAULTS[name][:4]), expected, FAIL_AT)
    assert re.search(FAULTS[name][4], found), found


#: A call in the middle of the first batch: a launch of the second chunk.
FAIL_AT = 21


@pytest.mark.parametrize("change", [None, *HARMLESS])
def test_nothing_is_found_where_nothing_is_wrong(run_python, variant, expected, change):
    place = variant(*HARMLESS[change]) if change else cuda_on_host.folder()
    assert found_in(run_python, place, expected, FAIL_AT) == ""
