# What keeps the library right, in the long form; docs/reliability.md says what each looks for.
#
#   make fuzz-readers|fuzz-solver|asan|tsan|kill|soak [PYTHON=.venv/bin/python]
#   make docs builds the site of the pages, build/site/index.html
#
# PYTHON has the packages of the extra `test`; CMake and a C++ compiler are needed. What is tested is
# this checkout, built below build/, whatever is installed.
PYTHON ?= python3
SECONDS ?= 600#   of the readers, of the soak and of the threads
CASES ?= 2000#    of the solver against the reference
PROBLEMS ?= 3000# at the ends of the parameters, under AddressSanitizer
KILLS ?= 100
COMMANDS ?= test#  those killed, as pytest's -k takes them: convert
SIMD ?= ON#       OFF: the sanitizers see the kernels for any processor alone

# Threads of the BLAS would wait for each other.
export OMP_NUM_THREADS := 1
here := $(CURDIR)
python := $(abspath $(shell command -v $(PYTHON) 2>/dev/null))
sanitized := -DCMAKE_BUILD_TYPE=Debug -DSPLIC_SIMD=$(SIMD) -DSPLIC_SANITIZE
flags_plain := -DCMAKE_BUILD_TYPE=Release
flags_asan := $(sanitized)=address,undefined
flags_tsan := $(sanitized)=thread

build = cmake -S . -B build/$(1) $(flags_$(1)) -DSPLIC_CUDA=OFF -DPython_EXECUTABLE=$(python) \
  -Dpybind11_DIR="$$($(python) -m pybind11 --cmakedir)" > build-$(1).log \
  || { cat build-$(1).log; exit 1; }; rm build-$(1).log; \
  cmake --build build/$(1) --parallel 2 --target $(2)
# The package with that module, where no other one is in the way.
package = $(call build,$(1),_core) && rm -rf build/$(1)/package && mkdir build/$(1)/package \
  && cp -r splic_ext build/$(1)/package/ && cp build/$(1)/_core.*.so build/$(1)/package/splic_ext/
run = cd build/$(1)/package && PYTHONPATH="$(here)/build/$(1)/package:$(here)/python_tests"
pytest = -m pytest -q -p no:cacheprovider --rootdir $(here) -c $(here)/pyproject.toml
preload = LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libstdc++.so)" \
  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1

.PHONY: docs fuzz-readers fuzz-solver asan tsan kill soak
docs:
	$(python) -m sphinx -W --keep-going -d build/doctrees docs build/site
fuzz-readers:
	$(call package,plain)
	$(call run,plain) SPLIC_FUZZ_SECONDS=$(SECONDS) SPLIC_FUZZ_FOLDER=$(here)/fuzz-failures \
	  $(python) -m fuzz
fuzz-solver:
	$(call package,plain)
	$(call run,plain) $(python) -m fuzz.differential $(CASES)
asan:
	$(call package,asan)
	$(call run,asan) $(preload) SPLIC_EXTREMES=$(PROBLEMS) $(python) $(pytest) -s \
	  $(here)/python_tests/backends/test_extremes.py
	$(call run,asan) $(preload) $(python) -m fuzz.differential $(CASES)
tsan:
	$(call build,tsan,splic_threads)
	build/tsan/splic_threads $(SECONDS)
kill:
	$(call package,plain)
	$(call run,plain) SPLIC_KILLS=$(KILLS) $(python) $(pytest) -s -k '$(COMMANDS)' $(here)/python_tests/cli/test_kills.py
soak:
	$(call package,plain)
	$(call run,plain) $(python) -m fuzz.soak $(SECONDS)
