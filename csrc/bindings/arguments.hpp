// Arguments of `solve` in both compiled modules. All checks that a user may meet are made in
// Python.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "splic/problem.hpp"

namespace splic_bindings {

namespace py = pybind11;

// Whether this is the main interpreter; sets an ImportError if not. In another one pybind11 would
// wait for ever for a lock that this thread holds.
inline bool in_main_interpreter() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main())
    return true;
  PyErr_SetString(PyExc_ImportError, "a subinterpreter cannot load a native module; use the main "
                                     "interpreter, another process, or the back end numpy");
  return false;
}

constexpr const char *kDTypeNames[] = {"uint8", "float16", "bfloat16", "float32", "float64"};
constexpr int kDTypeBytes[] = {1, 2, 2, 4, 8};

inline splic::DType dtype_of(const std::string &name) {
  for (int i = 0; i < 5; ++i)
    if (name == kDTypeNames[i])
      return static_cast<splic::DType>(i);
  throw py::type_error("unknown dtype " + name);
}

// An array of shape (N, C, H, W): where it lies and how it is laid out, in bytes.
struct Span {
  std::uintptr_t data = 0;
  std::vector<py::ssize_t> shape, strides;
  py::ssize_t item = 0;
  Span() = default;
  Span(const py::array &array, const void *memory)
      : data(reinterpret_cast<std::uintptr_t>(memory)),
        shape(array.shape(), array.shape() + array.ndim()),
        strides(array.strides(), array.strides() + array.ndim()), item(array.itemsize()) {}
};

template <class Byte>
splic::View<Byte> view_of(const Span &span, const splic::Problem &like, py::ssize_t item) {
  if (span.shape.size() != 4 || span.strides.size() != 4 || span.item != item)
    throw py::value_error("an array is not of shape (N, C, H, W) and of the right item size");
  const py::ssize_t shape[] = {like.count, like.channels, like.height, like.width};
  splic::View<Byte> view;
  view.data = reinterpret_cast<Byte *>(span.data);
  for (std::size_t axis = 0; axis < 4; ++axis) {
    if (span.shape[axis] != shape[axis])
      throw py::value_error("the arrays of a problem differ in shape");
    view.stride[axis] = span.strides[axis];
  }
  return view;
}

// The keyword arguments of a call, each to be asked for once.
class Keywords {
public:
  explicit Keywords(const py::dict &given) : left_(given.attr("copy")()) {}

  bool has(const char *name) const { return left_.contains(name); }
  template <class T> T take(const char *name) {
    if (!has(name))
      throw py::type_error(std::string("missing argument ") + name);
    const T value = left_[name].cast<T>();
    left_.attr("pop")(name);
    return value;
  }
  // An array that is written to: it must be of the type, for a copy would take what is written.
  template <class T> py::array_t<T, py::array::c_style> take_array(const char *name) {
    if (has(name) && !py::isinstance<py::array_t<T, py::array::c_style>>(left_[name]))
      throw py::type_error(std::string("wrong type of array ") + name);
    return take<py::array_t<T, py::array::c_style>>(name);
  }
  void done() const {
    for (const auto &item : left_)
      throw py::type_error("unknown argument " + item.first.cast<std::string>());
  }

private:
  py::dict left_;
};

template <class T> T *records(py::array_t<T, py::array::c_style> &array, py::ssize_t size) {
  if (array.size() != size)
    throw py::value_error("a record array has the wrong size");
  return array.mutable_data();
}

inline splic::Options options_of(const py::dict &dict) {
  splic::Options o;
  o.rank = dict["rank"].cast<int>();
  o.inner_iterations = dict["inner_iterations"].cast<int>();
  o.max_iterations = dict["max_iterations"].cast<int>();
  o.n_masks = dict["n_masks"].cast<int>();
  o.tv_weight = dict["tv_weight"].cast<double>();
  o.from_image = dict["start"].cast<std::string>() == "image";
  o.first_delta = dict["first_delta"].cast<double>();
  o.delta_decay = dict["delta_decay"].cast<double>();
  o.step_size = dict["step_size"].cast<double>();
  o.tolerance = dict["tolerance"].cast<double>();
  o.alternate = dict["alternate"].cast<bool>();
  o.stacked = dict["channels"].cast<std::string>() == "stacked";
  o.literal = dict["gradient_step"].cast<std::string>() == "literal";
  o.forward = dict["tv_gradient"].cast<std::string>() == "forward";
  return o;
}

// What a problem is besides its arrays: what each solver is handed.
struct Parameters {
  std::string dtype;
  std::uint64_t seed, first_index, anchor_threshold;
  py::dict options;
  double data_range, largest, empty;

  Parameters(std::string type, Keywords &given)
      : dtype(std::move(type)), seed(given.take<std::uint64_t>("seed")),
        first_index(given.take<std::uint64_t>("first_index")),
        anchor_threshold(given.take<std::uint64_t>("anchor_threshold")),
        options(given.take<py::dict>("options")), data_range(given.take<double>("data_range")),
        largest(given.take<double>("largest")), empty(given.take<double>("empty")) {}

  // mask: null where there is none.
  splic::Problem problem(const Span &source, const Span &target, const Span *mask) const {
    splic::Problem problem;
    problem.dtype = dtype_of(dtype);
    const py::ssize_t item = kDTypeBytes[static_cast<int>(problem.dtype)];
    if (source.shape.size() != 4)
      throw py::value_error("the source is not of shape (N, C, H, W)");
    problem.count = source.shape[0];
    problem.channels = static_cast<int>(source.shape[1]);
    problem.height = static_cast<int>(source.shape[2]);
    problem.width = static_cast<int>(source.shape[3]);
    problem.source = view_of<const unsigned char>(source, problem, item);
    problem.target = view_of<unsigned char>(target, problem, item);
    if (mask)
      problem.mask = view_of<const unsigned char>(*mask, problem, 1);
    problem.seed = seed;
    problem.first_index = first_index;
    problem.anchor_threshold = anchor_threshold;
    problem.data_range = data_range;
    problem.largest = largest;
    problem.empty = empty;
    problem.options = options_of(options);
    const int side = std::min<int>(problem.height, problem.width);
    if (side < 1 || problem.channels < 1 || problem.options.rank < 1 || problem.options.rank > side)
      throw py::value_error("the rank does not fit the images");
    return problem;
  }
};

// The record arrays of a call, which must outlive the problem.
struct Records {
  py::array_t<std::int32_t, py::array::c_style> iterations;
  py::array_t<double, py::array::c_style> residual, delta, seconds;

  Records() = default;
  explicit Records(Keywords &given)
      : iterations(given.take_array<std::int32_t>("iterations")),
        residual(given.take_array<double>("residual")), delta(given.take_array<double>("delta")),
        seconds(given.take_array<double>("seconds")) {}

  void add_to(splic::Problem &problem) {
    const py::ssize_t count = problem.count, passes = problem.passes();
    problem.iterations = records(iterations, count * passes);
    problem.residual = records(residual, count * passes);
    problem.delta = records(delta, count * passes);
    problem.seconds = records(seconds, count);
  }
};

// Defines `solve` of arrays of the host: run(problem, keywords) does the work with what is left of
// the arguments.
template <class Run> void define_solve(py::module_ &m, const char *doc, const Run &run) {
  m.def(
      "solve",
      [run](const py::array &source, const py::array &target, const std::string &dtype,
            const py::object &mask, const py::kwargs &more) {
        Keywords given(more);
        const Parameters parameters(dtype, given);
        Records record_arrays(given);
        py::array output = target, mask_array;
        Span bits;
        if (!mask.is_none()) {
          mask_array = mask.cast<py::array>();
          bits = Span(mask_array, mask_array.data());
        }
        splic::Problem problem =
            parameters.problem(Span(source, source.data()), Span(output, output.mutable_data()),
                               mask.is_none() ? nullptr : &bits);
        record_arrays.add_to(problem);
        run(problem, given);
      },
      py::arg("source"), py::arg("target"), py::arg("dtype"), py::arg("mask"), doc);
}

} // namespace splic_bindings

// PYBIND11_MODULE for the main interpreter alone: the body follows.
#define SPLIC_MODULE(name, variable)                                                               \
  extern "C" PyObject *PyInit_in_main##name();                                                     \
  extern "C" PYBIND11_EXPORT PyObject *PyInit_##name() {                                           \
    return splic_bindings::in_main_interpreter() ? PyInit_in_main##name() : nullptr;               \
  }                                                                                                \
  PYBIND11_MODULE(in_main##name, variable)
