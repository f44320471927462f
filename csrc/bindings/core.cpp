// splic_ext._core: registers the CPU solver. Private, use splic_ext.complete.
#include <limits>
#include <thread>

#include "arguments.hpp"
#include "cpu/defenses.hpp"
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

// A batch of images in float32 or float64, which are worked on `like` that problem: its sizes.
template <class Batch>
Batch batch_of(const py::array &images, py::array &out, splic::Problem &like) {
  Batch batch;
  batch.wide = images.dtype().is(py::dtype::of<double>());
  if (!batch.wide && !images.dtype().is(py::dtype::of<float>()))
    throw py::type_error("images are computed in float32 and float64");
  if (!out.dtype().is(images.dtype()) || images.ndim() != 4)
    throw py::value_error("the images are not of shape (N, C, H, W) and of the dtype of `out`");
  const py::ssize_t *shape = images.shape();
  constexpr py::ssize_t most = std::numeric_limits<std::int32_t>::max() - 1;
  if (shape[1] > most || shape[2] > most || shape[3] > most ||
      (shape[2] > 0 && shape[3] > most / shape[2]))
    throw py::value_error("the images are too large");
  batch.count = like.count = shape[0];
  batch.channels = like.channels = static_cast<int>(shape[1]);
  batch.height = like.height = static_cast<int>(shape[2]);
  batch.width = like.width = static_cast<int>(shape[3]);
  const py::ssize_t item = images.itemsize();
  batch.source = view_of<const unsigned char>(Span(images, images.data()), like, item);
  batch.target = view_of<unsigned char>(Span(out, out.mutable_data()), like, item);
  return batch;
}

void inpaint_tv(const py::array &images, py::array out, const py::array_t<bool> &mask,
                double epsilon, int iterations, int threads) {
  splic::Problem like;
  auto batch = batch_of<splic::Inpainting>(images, out, like);
  like.channels = 1;
  batch.mask = view_of<const unsigned char>(Span(mask, mask.data()), like, 1);
  batch.epsilon = epsilon;
  batch.iterations = iterations;
  without_gil([&] { splic::inpaint_tv(batch, threads, &interrupted); });
}

// The cotangent of a batch, if there is one.
template <class Batch>
void add_cotangent(const py::object &given, const py::array &images, const splic::Problem &like,
                   Batch &batch, py::array &kept) {
  if (given.is_none())
    return;
  kept = given.cast<py::array>();
  if (!kept.dtype().is(images.dtype()))
    throw py::type_error("the cotangent is not of the dtype of the images");
  batch.cotangent = view_of<const unsigned char>(Span(kept, kept.data()), like, images.itemsize());
}

void denoise_tv(const py::array &images, py::array out, double weight, int iterations, int threads,
                const py::object &cotangent) {
  splic::Problem like;
  auto batch = batch_of<splic::Denoising>(images, out, like);
  py::array by_result;
  add_cotangent(cotangent, images, like, batch, by_result);
  batch.weight = weight;
  batch.iterations = iterations;
  const splic::Kernels &kernels = splic::chosen_kernels();
  without_gil([&] { splic::denoise_tv(batch, kernels, threads, &interrupted); });
}

void estimate(const py::array &matrices, py::array out, const py::array_t<bool> &mask,
              py::array_t<std::int32_t, py::array::c_style> done, bool nuclear, double amount,
              double tolerance, int iterations, int threads, const py::object &cotangent) {
  splic::Problem like;
  auto batch = batch_of<splic::Estimation>(matrices, out, like);
  if (like.channels != 1)
    throw py::value_error("the matrices are not of shape (N, 1, H, W)");
  batch.mask = view_of<const unsigned char>(Span(mask, mask.data()), like, 1);
  batch.done = records(done, static_cast<py::ssize_t>(like.count));
  py::array by_result;
  add_cotangent(cotangent, matrices, like, batch, by_result);
  for (std::int64_t i = 0; i < like.count && !cotangent.is_none(); ++i)
    if (batch.done[i] < 1 || batch.done[i] > iterations)
      throw py::value_error("`done` is not what the estimate has left there");
  batch.nuclear = nuclear;
  batch.amount = amount;
  batch.tolerance = tolerance;
  batch.iterations = iterations;
  const splic::Kernels &kernels = splic::chosen_kernels();
  without_gil([&] { splic::estimate(batch, kernels, threads, &interrupted); });
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
  m.def("denoise_tv", &denoise_tv, py::arg("images"), py::arg("out"), py::kw_only(),
        py::arg("weight"), py::arg("iterations"), py::arg("threads"),
        py::arg("cotangent") = py::none(),
        "Denoise images by total variation; or, with the gradient of a loss by the result as "
        "`cotangent`, store the gradient by the images in `out`.");
  m.def("estimate", &estimate, py::arg("matrices"), py::arg("out"), py::arg("mask"),
        py::arg("done").noconvert(), py::kw_only(), py::arg("nuclear"), py::arg("amount"),
        py::arg("tolerance"), py::arg("iterations"), py::arg("threads"),
        py::arg("cotangent") = py::none(),
        "Estimate matrices (N, 1, H, W) from the entries where the mask is true, by the nuclear "
        "norm or Soft-Impute; `done` takes the iterations. Or, with the gradient of a loss by the "
        "result as `cotangent`, store the gradient by the matrices in `out`.");
  m.attr("cuda_reason") = SPLIC_CUDA_REASON;
  m.def("build_info", &build_info, "Compiler, and instruction sets built, available and in use.");
}
