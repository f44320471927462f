// splic_ext._cuda: registers the CUDA solver. Private, use splic_ext.complete.
#include "arguments.hpp"
#include "cuda/solver.hpp"

using namespace splic_bindings;

namespace {

void solve(const splic::Problem &problem, int device, std::size_t workspace) {
  // Safe without the GIL, as in splic_ext._core.
  const py::gil_scoped_release release;
  splic::solve_on_cuda(problem, device, workspace);
}

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

} // namespace

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "Compiled CUDA solver of splic_ext; private, use splic_ext.complete.";
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p)
        std::rethrow_exception(p);
    } catch (const splic::DeviceMemoryError &error) {
      py::set_error(PyExc_MemoryError, error.what());
    }
  });
  define_solve<int, std::size_t>(m, "Complete a validated batch of the host on a CUDA device.",
                                 &solve, py::arg("device"), py::arg("workspace"));
  m.def("status", &status, "Whether the solver can run here, why not, and the devices.");
}
