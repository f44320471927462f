// splic_ext._core: registers the CPU solver. Private, use splic_ext.complete.
#include <thread>

#include "arguments.hpp"
#include "cpu/solver.hpp"

using namespace splic_bindings;

namespace {

// Whether Python has a signal whose handler raises, such as Ctrl-C.
bool interrupted() {
  const py::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

void solve(splic::Problem problem, Keywords &given) {
  const int threads = given.take<int>("threads");
  const py::object cotangent =
      given.has("cotangent") ? given.take<py::object>("cotangent") : py::none();
  problem.cut_width = given.has("cut_width") ? given.take<double>("cut_width") : 0.0;
  given.done();
  py::array by_result;
  if (!cotangent.is_none()) {
    const bool wide = problem.dtype == splic::DType::f64;
    if (!wide && problem.dtype != splic::DType::f32)
      throw py::type_error("gradients are computed in float32 and float64");
    by_result = cotangent.cast<py::array>();
    problem.cotangent =
        view_of<const unsigned char>(Span(by_result, by_result.data()), problem, wide ? 8 : 4);
  }
  const splic::Kernels &kernels = splic::chosen_kernels();
  // Safe without the GIL: from here on only the memory of the arrays is touched, and the
  // arguments of the call keep them alive.
  bool stopped = false;
  {
    const py::gil_scoped_release release;
    try {
      splic::solve_on_cpu(problem, kernels, threads, &interrupted);
    } catch (const splic::Stopped &) {
      stopped = true;
    }
  }
  if (stopped)
    throw py::error_already_set();
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

SPLIC_MODULE(_core, m) {
  m.doc() = "Compiled CPU solver of splic_ext; private, use splic_ext.complete.";
  define_solve(
      m,
      "Complete a validated batch into `target` and fill in the record arrays; or, with the "
      "gradient of a loss by the result as `cotangent`, store the gradient by the source.",
      &solve);
  m.attr("cuda_reason") = SPLIC_CUDA_REASON;
  m.def("build_info", &build_info, "Compiler, and instruction sets built, available and in use.");
}
