# One extension module per ISA level, and the baseline one that tells which of them may be loaded.
find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)
set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 CONFIG REQUIRED)

if(VIVACE_LEVELS STREQUAL "all")
  set(levels ${known_levels})
elseif(VIVACE_LEVELS STREQUAL "native")
  set(levels ${VIVACE_NATIVE_LEVEL})
else()
  set(levels ${VIVACE_LEVELS})
endif()
message(STATUS "vivace ${PROJECT_VERSION}: Python modules for ${levels}")

pybind11_add_module(_cpu MODULE NO_EXTRAS cpp/bindings/cpu.cpp)
install(TARGETS _cpu DESTINATION vivace/_core COMPONENT python)

# The bindings hold no vector code: compiled once, for the baseline, and linked into every level's module.
add_library(bindings OBJECT
  cpp/bindings/bind_conv2d.cpp cpp/bindings/bind_pool2d.cpp cpp/bindings/bind_gemm.cpp
  cpp/bindings/bind_elementwise.cpp cpp/bindings/bind_loss.cpp cpp/bindings/bind_optimizer.cpp
  cpp/bindings/bind_rnn.cpp cpp/bindings/bind_normalization.cpp cpp/bindings/bind_depthwise2d.cpp
  cpp/bindings/bind_attention.cpp cpp/bindings/bind_activations.cpp
  cpp/bindings/bind_resample.cpp)
target_include_directories(bindings PRIVATE cpp/include)
target_link_libraries(bindings PRIVATE pybind11::module)

foreach(level ${levels})
  string(REPLACE "-" "_" module "native_${level}")
  vivace_add_kernels(kernels_${module} OBJECT ${level})
  pybind11_add_module(${module} MODULE NO_EXTRAS cpp/bindings/module.cpp)
  target_link_libraries(${module} PRIVATE kernels_${module} bindings)
  target_compile_definitions(${module} PRIVATE VIVACE_MODULE=${module} VIVACE_LEVEL="${level}")
  vivace_level_flags(${module} ${level})
  install(TARGETS ${module} DESTINATION vivace/_core COMPONENT python)
endforeach()
