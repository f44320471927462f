#include "method.hpp"

#include <algorithm>
#include <limits>

#include "cusolver_api.hpp"
#include "errors.hpp"

namespace splic {

DeviceGuard::DeviceGuard(int device) : device_(device) {
  check(cudaGetDevice(&before_), "cudaGetDevice");
  if (before_ != device)
    check(cudaSetDevice(device), "cudaSetDevice");
}
DeviceGuard::~DeviceGuard() {
  if (before_ != device_)
    cudaSetDevice(before_);
}

std::size_t shared_limit_of(int device) {
  int limit = 0;
  check(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "cudaDeviceGetAttribute");
  return static_cast<std::size_t>(limit);
}

Method::Method(const Problem &problem, Algorithm algorithm, int device)
    : shape_(problem), algorithm_(algorithm), device_(device),
      shared_limit_(shared_limit_of(device)), matrices_(problem.planes()),
      masks_(problem.options.n_masks) {}

std::size_t Method::sums_bytes(std::int64_t images) const {
  const std::size_t precision = shape_.dtype == DType::f64 ? 8 : 4;
  const std::size_t bytes = static_cast<std::size_t>(items(images)) * shape_.stacked_channels() *
                            shape_.height * shape_.width * precision;
  return masks_ > 1 ? (bytes + 255) / 256 * 256 : 0;
}

std::size_t Method::workspace(std::int64_t images) const {
  const int count = static_cast<int>(items(images));
  const auto state = [&] {
    switch (algorithm_) {
    case Algorithm::fused:
      return fused_workspace(shape_, shared_limit_, count);
    case Algorithm::tiled:
      return tiled_workspace(shape_, shared_limit_, count);
    case Algorithm::cusolver:
      break;
    }
    return steps_workspace(shape_, EigenSolver(device_), count);
  };
  return sums_bytes(images) + state();
}

std::int64_t Method::most_images() const {
  // Blocks are counted in 31 bits; cuSOLVER's steps take up to 64 to a matrix.
  const std::int64_t most = std::numeric_limits<std::int32_t>::max();
  const int blocks = algorithm_ == Algorithm::fused   ? 1
                     : algorithm_ == Algorithm::tiled ? tiled_blocks(shape_)
                                                      : 64;
  return std::max<std::int64_t>(1, most / blocks / (matrices_ * masks_));
}

void Method::run(const Problem &problem, Record *records, unsigned char *workspace,
                 cudaStream_t stream) const {
  Launch launch;
  launch.count = static_cast<int>(items(problem.count));
  launch.streams = static_cast<int>(masks_);
  launch.records = records;
  launch.sums = masks_ > 1 ? workspace : nullptr;
  launch.workspace = workspace + sums_bytes(problem.count);
  if (algorithm_ == Algorithm::fused) {
    check(launch_fused(problem, launch, shared_limit_, stream), "completion kernel");
  } else if (algorithm_ == Algorithm::tiled) {
    launch_tiled(problem, launch, shared_limit_, stream);
  } else {
    EigenSolver solver(device_, stream);
    launch_steps(problem, launch, solver, stream);
  }
  if (masks_ > 1)
    check(launch_mean(problem, launch, stream), "mean kernel");
}

void collect(const Problem &problem, const Record *records, std::int64_t first,
             std::int64_t images) {
  const std::int64_t per_image =
      static_cast<std::int64_t>(problem.planes()) * problem.options.n_masks;
  const int passes = problem.passes();
  const auto raise = [](auto *all, std::int64_t at, auto value) {
    if (all)
      all[at] = std::max(all[at], value);
  };
  for (std::int64_t item = 0; item < images * per_image; ++item) {
    const Record &record = records[item];
    const std::int64_t image = first + item / per_image;
    for (int pass = 0; pass < passes; ++pass) {
      raise(problem.iterations, image * passes + pass, record.iterations[pass]);
      raise(problem.residual, image * passes + pass, record.residual[pass]);
      raise(problem.delta, image * passes + pass, record.delta[pass]);
    }
    raise(problem.failed, image, record.failed);
    if (problem.low) { // NaN once, NaN for ever
      const bool begins = item % per_image == 0;
      double &low = problem.low[image], &high = problem.high[image];
      if (begins || (low == low && !(record.low >= low)))
        low = record.low;
      if (begins || (high == high && !(record.high <= high)))
        high = record.high;
    }
  }
}

} // namespace splic
