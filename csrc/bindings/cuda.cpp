// splic_ext._cuda: registers the CUDA solver. Private, use splic_ext.complete.
#include "arguments.hpp"
#include "cuda/cusolver_api.hpp"
#include "cuda/errors.hpp"
#include "cuda/solver.hpp"
#include "dlpack.hpp"

using namespace splic_bindings;

namespace {

using Failures = py::array_t<std::int32_t, py::array::c_style>;
using Limits = py::array_t<double, py::array::c_style>;

splic::Algorithm algorithm_of(const std::string &name) {
  if (name == "fused")
    return splic::Algorithm::fused;
  if (name == "tiled")
    return splic::Algorithm::tiled;
  if (name == "cusolver")
    return splic::Algorithm::cusolver;
  throw py::value_error("unknown algorithm " + name);
}

void solve(splic::Problem problem, Keywords &given) {
  const splic::Algorithm algorithm = algorithm_of(given.take<std::string>("algorithm"));
  const int device = given.take<int>("device");
  const auto workspace = given.take<std::size_t>("workspace");
  Failures failed = given.take_array<std::int32_t>("failed");
  given.done();
  problem.failed = records(failed, problem.count);
  // Safe without the GIL, as in splic_ext._core.
  const py::gil_scoped_release release;
  splic::solve_host_batch(problem, algorithm, device, workspace);
}

// An object with the attributes pointer, shape, strides and itemsize.
Span span_of(const py::object &memory) {
  Span span;
  span.data = memory.attr("pointer").cast<std::uintptr_t>();
  span.shape = memory.attr("shape").cast<std::vector<py::ssize_t>>();
  span.strides = memory.attr("strides").cast<std::vector<py::ssize_t>>();
  span.item = memory.attr("itemsize").cast<py::ssize_t>();
  return span;
}

// A batch on a device, and the record arrays if they are wanted: kept alive here.
struct Batch {
  Records arrays;
  Failures failed;
  Limits low, high;
  std::unique_ptr<splic::DeviceBatch> solver;
};

std::unique_ptr<Batch> open_batch(const py::object &source, const py::object &target,
                                  const std::string &dtype, const py::object &mask,
                                  const py::kwargs &more) {
  Keywords given(more);
  const Parameters parameters(dtype, given);
  const splic::Algorithm algorithm = algorithm_of(given.take<std::string>("algorithm"));
  const int device = given.take<int>("device");
  const auto stream = given.take<std::uintptr_t>("stream");
  const auto info = given.take<py::object>("info");
  given.done();
  Span bits;
  if (!mask.is_none())
    bits = span_of(mask);
  splic::Problem problem =
      parameters.problem(span_of(source), span_of(target), mask.is_none() ? nullptr : &bits);
  auto batch = std::make_unique<Batch>();
  if (!info.is_none()) {
    Keywords wanted(info.cast<py::dict>());
    batch->arrays = Records(wanted);
    batch->failed = wanted.take_array<std::int32_t>("failed");
    batch->low = wanted.take_array<double>("low");
    batch->high = wanted.take_array<double>("high");
    wanted.done();
    batch->arrays.add_to(problem);
    problem.failed = records(batch->failed, problem.count);
    problem.low = records(batch->low, problem.count);
    problem.high = records(batch->high, problem.count);
  }
  batch->solver = std::make_unique<splic::DeviceBatch>(
      problem, algorithm, device, reinterpret_cast<cudaStream_t>(stream), !info.is_none());
  return batch;
}

// Device memory of our own, for libraries that cannot be asked for any: what comes back from them
// is made of it.
class DeviceArray : public std::enable_shared_from_this<DeviceArray> {
public:
  DeviceArray(std::vector<std::int64_t> shape, std::string dtype, int item, int device)
      : shape_(std::move(shape)), dtype_(std::move(dtype)), device_(device) {
    std::size_t bytes = static_cast<std::size_t>(item);
    for (const std::int64_t side : shape_)
      bytes *= static_cast<std::size_t>(side);
    const splic::DeviceGuard guard(device);
    const splic::OutsideCaptures apart;
    const cudaError_t status = cudaMalloc(&data_, bytes ? bytes : 1);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw splic::DeviceMemoryError("the CUDA device has no " + std::to_string(bytes) +
                                     " bytes of free memory");
    }
    splic::check(status, "cudaMalloc");
  }
  DeviceArray(const DeviceArray &) = delete;
  DeviceArray &operator=(const DeviceArray &) = delete;
  ~DeviceArray() {
    const splic::OutsideCaptures apart; // whenever Python lets go of it
    if (PyGILState_Check()) {           // waits for the device: let others go on
      const py::gil_scoped_release release;
      cudaFree(data_);
    } else {
      cudaFree(data_);
    }
  }

  std::uintptr_t pointer() const { return reinterpret_cast<std::uintptr_t>(data_); }
  // The work on it is done before anybody asks: no stream has to wait.
  py::capsule dlpack(const py::kwargs &) {
    return export_dlpack(shared_from_this(), data_, {kDevice, device_}, dtype_, shape_);
  }
  py::tuple dlpack_device() const { return py::make_tuple(kDevice, device_); }

private:
  static constexpr std::int32_t kDevice = 2;
  std::vector<std::int64_t> shape_;
  std::string dtype_;
  int device_;
  void *data_ = nullptr;
};

py::dict status() {
  const splic::CudaStatus status = splic::cuda_status();
  py::list devices;
  for (const splic::CudaDevice &device : status.devices) {
    py::dict entry;
    entry["index"] = device.index;
    entry["name"] = device.name;
    entry["compute_capability"] = std::to_string(device.major) + "." + std::to_string(device.minor);
    entry["multiprocessors"] = device.multiprocessors;
    entry["memory"] = device.memory;
    entry["shared_memory"] = device.shared;
    devices.append(entry);
  }
  py::dict result;
  result["available"] = status.available;
  result["reason"] = status.reason;
  result["driver"] = status.driver;
  result["runtime"] = status.runtime;
  result["architectures"] = std::string(SPLIC_CUDA_BUILT);
  result["devices"] = devices;
  return result;
}

bool fits(const std::string &dtype, int channels, int height, int width, const py::dict &options,
          std::size_t shared) {
  splic::Problem problem;
  problem.dtype = dtype_of(dtype);
  problem.channels = channels;
  problem.height = height;
  problem.width = width;
  problem.options = options_of(options);
  return splic::fused_fits(problem, shared);
}

py::dict load_cusolver(const std::vector<std::string> &files) {
  const splic::CusolverLibrary library = splic::load_cusolver(files);
  py::dict result;
  result["path"] = library.path;
  result["version"] = std::to_string(library.version / 10000) + "." +
                      std::to_string(library.version / 100 % 100) + "." +
                      std::to_string(library.version % 100);
  return result;
}

} // namespace

SPLIC_MODULE(_cuda, m) {
  m.doc() = "Compiled CUDA solver of splic_ext; private, use splic_ext.complete.";
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p)
        std::rethrow_exception(p);
    } catch (const splic::DeviceMemoryError &error) {
      py::set_error(PyExc_MemoryError, error.what());
    }
  });
  define_solve(m, "Complete a validated batch of the host on a CUDA device.", &solve);
  py::class_<Batch>(m, "DeviceBatch", "A validated batch of a device, on a stream.")
      .def(py::init(&open_batch), py::arg("source"), py::arg("target"), py::arg("dtype"),
           py::arg("mask"))
      .def(
          "fitting",
          [](const Batch &batch, std::size_t limit) { return batch.solver->fitting(limit); },
          py::arg("limit"), "Most images in a chunk for that many bytes; 1 at least.")
      .def(
          "bytes",
          [](const Batch &batch, std::int64_t images) { return batch.solver->bytes(images); },
          py::arg("images"), "Workspace for chunks of that many images.")
      .def(
          "run",
          [](const Batch &batch, std::uintptr_t workspace, std::int64_t images) {
            const py::gil_scoped_release release;
            batch.solver->run(reinterpret_cast<unsigned char *>(workspace), images);
          },
          py::arg("workspace"), py::arg("images"),
          "Complete it; waits only if records are wanted.");
  py::class_<Shared>(m, "Shared", "The memory behind a DLPack capsule.")
      .def(py::init<const py::capsule &>(), py::arg("capsule"))
      .def_property_readonly("pointer", &Shared::pointer)
      .def_property_readonly("dtype", &Shared::dtype)
      .def_property_readonly("shape", &Shared::shape)
      .def_property_readonly("strides", &Shared::strides)
      .def_property_readonly("itemsize", &Shared::item)
      .def_property_readonly("read_only", &Shared::read_only)
      .def_property_readonly("device", &Shared::device);
  py::class_<DeviceArray, std::shared_ptr<DeviceArray>>(m, "DeviceArray", "Memory of a device.")
      .def(py::init<std::vector<std::int64_t>, std::string, int, int>(), py::arg("shape"),
           py::arg("dtype"), py::arg("itemsize"), py::arg("device"))
      .def_property_readonly("pointer", &DeviceArray::pointer)
      .def("__dlpack__", &DeviceArray::dlpack)
      .def("__dlpack_device__", &DeviceArray::dlpack_device);
  m.def("status", &status, "Whether the solver can run here, why not, and the devices.");
  m.def("fits", &fits, py::arg("dtype"), py::arg("channels"), py::arg("height"), py::arg("width"),
        py::arg("options"), py::arg("shared"),
        "Whether the fused kernel keeps a matrix in so much shared memory.");
  m.def(
      "is_capturing",
      [](int device, std::uintptr_t stream) {
        return splic::is_capturing(device, reinterpret_cast<cudaStream_t>(stream));
      },
      py::arg("device"), py::arg("stream"), "Whether a CUDA graph takes in what the stream does.");
  m.def("load_cusolver", &load_cusolver, py::arg("files"),
        "Load cuSOLVER from the first of the files that serves, once for the process.");
}
