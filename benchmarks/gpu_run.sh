#!/usr/bin/env bash
# All that a machine with a GPU is needed for, in one call:
#
#   benchmarks/gpu_run.sh FOLDER [STEP...]
#
# builds the package for this GPU, runs the GPU tests, compute-sanitizer and the benchmarks, and leaves
# a log of each step in the folder, with summary.txt. STEPs: build tests sanitizer bench variants
# (default: all). PYTHON: the interpreter (python3), with torch, CuPy, pytest, pytest-benchmark,
# hypothesis, scikit-build-core and pybind11. Nothing is downloaded. A step that fails stops no other;
# the exit code is the number of those that did.
set -u -o pipefail

if [ $# -lt 1 ]; then
  sed -n '2,12s/^# \{0,1\}//p' "$0"
  exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
site=$work/site
failures=0
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1

# install FLAGS: builds the package into $site, with FLAGS for nvcc.
install() {
  rm -rf "$site"
  SKBUILD_BUILD_DIR=$work/build \
    SKBUILD_CMAKE_DEFINE="SPLIC_CUDA=ON;CMAKE_CUDA_ARCHITECTURES=$capability-real;CMAKE_CUDA_FLAGS=$1" \
    "$python" -m pip install -q --no-build-isolation --no-deps --no-index --target "$site" "$root" || return
  # Registers and spills of each kernel.
  cuobjdump --dump-resource-usage "$site"/splic_ext/_cuda*.so 2>/dev/null | c++filt |
    grep -A1 Function | sed 's/^ *//' || true
}

# Away from the checkout, so that the installed package is the one that is imported.
run() {
  (cd "$work" && PYTHONPATH=$site "$@")
}
run_pytest() {
  run "$python" -m pytest -c "$root/pyproject.toml" --rootdir "$root" -p no:cacheprovider "$@"
}

build() {
  nvidia-smi
  "$python" --version
  install "" || return
  run "$python" - <<'PYTHON'
import json
import splic_ext
from splic_ext import _cuda
from splic_ext.backends import cusolver

info = splic_ext.backend_info()["cuda"]
print(splic_ext.__file__, json.dumps(info.details, indent=1))
try:
    print("cuSOLVER:", cusolver.load(_cuda))
except RuntimeError as error:
    print("no cuSOLVER:", error)
raise SystemExit(info.reason)
PYTHON
}

# First what is the GPU's alone; then, of the tests that every back end takes, those of this one.
tests() {
  run_pytest -q --require-backend cuda --durations 10 "$root"/python_tests/test_cuda*.py
  local first=$? several=()
  "$python" -c "import xdist" 2>/dev/null && several=(-n 8 -p no:benchmark)
  run_pytest -q --require-backend cuda --durations 10 "$root/python_tests" \
    -k "cuda-float and not test_cuda" "${several[@]}"
  return $((first || $?))
}

sanitizer() {
  local status=0
  for tool in memcheck synccheck initcheck "racecheck fused"; do
    # shellcheck disable=SC2086
    set -- $tool
    echo "== $tool"
    run timeout 150 compute-sanitizer --tool "$1" --error-exitcode 9 \
      "$python" "$root/benchmarks/sanitize.py" "${@:2}" || status=1
  done
  return $status
}

bench() {
  SPLIC_BENCH=full run_pytest "$root/benchmarks/bench_cuda.py" "$root/benchmarks/bench_training.py" --benchmark-only --benchmark-disable-gc -q \
    --benchmark-columns=median,iqr,rounds --benchmark-json="$out/bench.json"
}

# The fused kernel with registers for more blocks: more of them at once, and more spilled values.
variants() {
  local status=0
  for blocks in 3 4; do
    echo "== SPLIC_FUSED_BLOCKS=$blocks"
    install "-DSPLIC_FUSED_BLOCKS=$blocks" || status=1
    run_pytest "$root/benchmarks/bench_cuda.py" --benchmark-only -q -k "arrays and 32x32" \
      --benchmark-columns=median,iqr,rounds || status=1
  done
  return $status
}

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(build tests sanitizer bench variants)
: >"$out/summary.txt"
for step in "${steps[@]}"; do
  start=$SECONDS
  "$step" >"$out/$step.log" 2>&1
  status=$?
  [ "$status" -eq 0 ] || failures=$((failures + 1))
  echo "$step: exit status $status, $((SECONDS - start)) s" | tee -a "$out/summary.txt"
  tail -n 12 "$out/$step.log"
done
exit "$failures"
