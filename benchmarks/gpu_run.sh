#!/usr/bin/env bash
# All that a machine with a GPU is needed for, in one call of at most 8 minutes, without a network:
#
#   benchmarks/gpu_run.sh [--quick] [--bundle FOLDER] [--flags NVCC_FLAGS] [FOLDER] [PART...]
#
# gpu_run.py says what it does, and what is left in FOLDER ($OUT if that is set, else build/gpu_run).
# PYTHON names the interpreter (python3): that of torch, where the machine has it.
set -u
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
  echo "gpu_run.sh: there is no $python; set PYTHON to a Python of 3.10 or later" >&2
  exit 2
fi
exec "$python" "$(dirname "$0")/gpu_run.py" "$@"
