# splic_ext._cuda, where it can be built. Sets splic_cuda_text for the summary; what keeps it from
# being built goes into _core, so that `splic-ext info` can say it.

include(cmake/find_cuda.cmake)

target_compile_definitions(_core PRIVATE "SPLIC_CUDA_REASON=\"${splic_why}\"")
if(splic_why)
  string(CONCAT splic_cuda_text "not built: ${splic_why}; to build it all the same: "
    "SKBUILD_CMAKE_DEFINE=SPLIC_CUDA=ON pip install --no-cache-dir --force-reinstall .")
  return()
endif()

set(CMAKE_CUDA_COMPILER ${splic_nvcc})
set(CMAKE_CUDA_ARCHITECTURES ${splic_archs})
set(CMAKE_CUDA_STANDARD 17)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
add_library(splic_cuda STATIC
  csrc/cuda/cusolver.cu csrc/cuda/cusolver_api.cpp csrc/cuda/device.cpp csrc/cuda/errors.cpp
  csrc/cuda/fused.cu csrc/cuda/fused_double.cu csrc/cuda/host.cpp csrc/cuda/method.cpp
  csrc/cuda/status.cpp csrc/cuda/tiled.cu csrc/cuda/warp.cu)
target_include_directories(splic_cuda PUBLIC csrc/include csrc PRIVATE csrc/cuda)
# Linked statically: the module imports where there is no driver and no toolkit.
target_compile_options(splic_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--threads=0>)
# cuSOLVER is loaded at run time, where there is one.
target_link_libraries(splic_cuda PUBLIC CUDA::cudart_static ${CMAKE_DL_LIBS})
pybind11_add_module(_cuda csrc/bindings/cuda.cpp)
string(REPLACE ";" ", " splic_cuda_text "${CMAKE_CUDA_ARCHITECTURES}")
target_compile_definitions(_cuda PRIVATE "SPLIC_CUDA_BUILT=\"${splic_cuda_text}\"")
target_link_libraries(_cuda PRIVATE splic_cuda splic_warnings)
install(TARGETS _cuda LIBRARY DESTINATION splic_ext)
