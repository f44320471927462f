// The kernels of the defences beside the solver, for one instruction set: see kernel.cpp.
#include "denoise.hpp"
#include "estimate.hpp"

namespace splic {
namespace SPLIC_ISA {
namespace {

template <class V> void denoise(const Denoising &batch, const PeerJob &job) {
  Denoiser<V>(batch).run(job);
}

void estimate(const Estimation &batch, const PeerJob &job) {
  int iterations = batch.iterations;
  if (batch.cotangent.data) {
    iterations = 0;
    for (int l = 0; l < job.count; ++l)
      iterations = batch.done[job.item + l] > iterations ? batch.done[job.item + l] : iterations;
  }
  Estimator<VecD>(batch, iterations).run(job);
}

} // namespace

extern const PeerKernels kPeerKernels;
const PeerKernels kPeerKernels = {
    {Denoiser<VecF>::workspace_bytes, Denoiser<VecD>::workspace_bytes},
    {denoise<VecF>, denoise<VecD>},
    Lanes<VecD>::count,
    Estimator<VecD>::workspace_bytes,
    estimate,
};

} // namespace SPLIC_ISA
} // namespace splic
