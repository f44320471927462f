// splic_ext._core: registers the CPU solver. Private, use splic_ext.complete.
#include <limits>
#include <thread>

#include "arguments.hpp"
#include "cpu/inpaint.hpp"
#include "cpu/solver.hpp"

using namespace splic_bindings;

namespace {

// Whether Python has a signal whose handler raises, such as Ctrl-C.
bool interrupted() {
  const py::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

// Runs the work without the GIL: it touches the memory of the arrays alone, which the arguments of
// the call keep alive. An exception of Python that ends it is raised.
template <class Work> void without_gil(const Work &work) {
  bool stopped = false;
  {
    const py::gil_scoped_release release;
    try {
      work();
    } catch (const splic::Stopped &) {
      stopped = true;
    }
  }
  if (stopped)
    throw py::error_already_set();
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
  without_gil([&] { splic::solve_on_cpu(problem, kernels, threads, &interrupted); });
}

void inpaint_tv(const py::array &images, py::array out, const py::array_t<bool> &mask,
                double epsilon, int iterations, int threads) {
  const py::ssize_t item = images.itemsize();
  const bool wide = images.dtype().is(py::dtype::of<double>());
  if (!wide && !images.dtype().is(py::dtype::of<float>()))
    throw py::type_error("images are inpainted in float32 and float64");
  if (!out.dtype().is(images.dtype()) || images.ndim() != 4)
    throw py::value_error("the images are not of shape (N, C, H, W) and of the dtype of `out`");
  splic::Inpainting batch;
  splic::Problem like;
  const py::ssize_t *shape = images.shape();
  constexpr py::ssize_t most = std::numeric_limits<std::int32_t>::max() - 1;
  if (shape[1] > most || shape[2] > most || shape[3] > most ||
      (shape[2] > 0 && shape[3] > most / shape[2]))
    throw py::value_error("the images are too large");
  batch.count = like.count = shape[0];
  batch.channels = like.channels = static_cast<int>(shape[1]);
  batch.height = like.height = static_cast<int>(shape[2]);
  batch.width = like.width = static_cast<int>(shape[3]);
  batch.wide = wide;
  batch.source = view_of<const unsigned char>(Span(images, images.data()), like, item);
  batch.target = view_of<unsigned char>(Span(out, out.mutable_data()), like, item);
  like.channels = 1;
  batch.mask = view_of<const unsigned char>(Span(mask, mask.data()), like, 1);
  batch.epsilon = epsilon;
  batch.iterations = iterations;
  without_gil([&] { splic::inpaint_tv(batch, threads, &interrupted); });
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
  m.def("inpaint_tv", &inpaint_tv, py::arg("images"), py::arg("out"), py::arg("mask"),
        py::kw_only(), py::arg("epsilon"), py::arg("iterations"), py::arg("threads"),
        "Inpaint hidden pixels (mask false) by total variation; all pixels of `out` are written.");
  m.attr("cuda_reason") = SPLIC_CUDA_REASON;
  m.def("build_info", &build_info, "Compiler, and instruction sets built, available and in use.");
}
