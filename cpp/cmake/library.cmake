# The kernels without Python: the static library vivace::vivace for one ISA level, its tests and its benchmarks.
set(VIVACE_LEVEL "${VIVACE_NATIVE_LEVEL}" CACHE STRING "ISA level of the C++ library")
message(STATUS "vivace ${PROJECT_VERSION}: C++ library for ${VIVACE_LEVEL}")
vivace_add_kernels(vivace STATIC ${VIVACE_LEVEL})
add_library(vivace::vivace ALIAS vivace)

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
install(DIRECTORY cpp/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS vivace EXPORT vivace-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT vivace-targets NAMESPACE vivace:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/vivace)
file(WRITE ${CMAKE_BINARY_DIR}/vivace-config.cmake
  "include(CMakeFindDependencyMacro)\nfind_dependency(OpenMP COMPONENTS CXX)\n"
  "include(\${CMAKE_CURRENT_LIST_DIR}/vivace-targets.cmake)\n")
write_basic_package_version_file(${CMAKE_BINARY_DIR}/vivace-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/vivace-config.cmake ${CMAKE_BINARY_DIR}/vivace-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/vivace)

if(VIVACE_TESTS)
  enable_testing()
  file(GLOB test_sources CONFIGURE_DEPENDS cpp/tests/*.cpp)
  add_executable(vivace_tests ${test_sources})
  target_include_directories(vivace_tests PRIVATE cpp/src)
  target_link_libraries(vivace_tests PRIVATE vivace)
  vivace_level_flags(vivace_tests ${VIVACE_LEVEL})
  add_test(NAME vivace_tests COMMAND vivace_tests)
endif()

if(VIVACE_BENCH)
  add_subdirectory(bench)
endif()
