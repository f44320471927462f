// splic_ext._core: registers the CPU solver. Private, use splic_ext.complete.
#include <thread>

#include "arguments.hpp"
#include "cpu/solver.hpp"

using namespace splic_bindings;

namespace {

void solve(const py::array &source, const py::array &target, const std::string &dtype,
           const py::object &mask, std::uint64_t seed, std::uint64_t first_index,
           std::uint64_t anchor_threshold, const py::dict &options, double data_range,
           double largest, const py::array_t<std::int32_t, py::array::c_style> &iterations,
           const py::array_t<double, py::array::c_style> &residual,
           const py::array_t<double, py::array::c_style> &delta,
           const py::array_t<double, py::array::c_style> &seconds, int threads) {
  Arguments arguments{source,      target,           dtype,   mask,       seed,
                      first_index, anchor_threshold, options, data_range, largest,
                      iterations,  residual,         delta,   seconds,    {}};
  const splic::Problem problem = arguments.problem();
  const splic::Kernels &kernels = splic::chosen_kernels();
  // Safe without the GIL: from here on only the memory of these arrays is touched, and the
  // arguments of this call keep them alive.
  const py::gil_scoped_release release;
  splic::solve_on_cpu(problem, kernels, threads);
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = SPLIC_COMPILER;
  info["simd_built"] = std::string(SPLIC_SIMD_BUILT);
  info["simd_available"] = splic::available_instruction_sets();
  info["simd"] = splic::instruction_set(splic::chosen_kernels());
  info["processors"] = std::thread::hardware_concurrency();
  return info;
}

} // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "Compiled CPU solver of splic_ext; private, use splic_ext.complete.";
  define_solve(m, "Complete a validated batch into `target` and fill in the record arrays.", &solve,
               py::arg("threads"));
  m.def("build_info", &build_info, "Compiler, and instruction sets built, available and in use.");
}
