// The kernels for one instruction set. CMake compiles this file once for each of them, with its
// flags and its name as SPLIC_ISA.
#include "kernels.hpp"

#define SPLIC_TEXT_OF(name) #name
#define SPLIC_TEXT(name) SPLIC_TEXT_OF(name)

namespace splic {
namespace SPLIC_ISA {
extern const Kernels kKernels = make_kernels(SPLIC_TEXT(SPLIC_ISA));
} // namespace SPLIC_ISA
} // namespace splic
