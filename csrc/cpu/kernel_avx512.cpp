// The kernels, compiled for the instruction set that CMake sets for this file.
#include "kernels.hpp"

namespace splic {
extern const Kernels kAvx512Kernels = SPLIC_ISA::make_kernels("avx512");
} // namespace splic
