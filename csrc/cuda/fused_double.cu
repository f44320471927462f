// The fused kernel in float64.
#include "fused.cuh"

namespace splic {

template cudaError_t launch_blocks<double>(const Problem &, const Launch &, std::size_t,
                                           cudaStream_t);

} // namespace splic
