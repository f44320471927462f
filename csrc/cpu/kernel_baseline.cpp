// The kernels, compiled for the instruction set that CMake sets for this file.
#include "kernels.hpp"

namespace splic {
extern const Kernels kBaselineKernels = SPLIC_ISA::make_kernels("baseline");
} // namespace splic
