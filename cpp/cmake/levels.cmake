# The ISA levels, best last, and the compiler flags that make them. The flags are the dispatch: a level's module holds
# code of that level only, and Python loads the best one that the machine supports.

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(known_levels x86-64-v2 x86-64-v3 x86-64-v4)
  set(flags_x86-64-v2 -march=x86-64-v2)
  set(flags_x86-64-v3 -march=x86-64-v3 -mprefer-vector-width=256)
  set(flags_x86-64-v4 -march=x86-64-v4 -mprefer-vector-width=512)
  if(VIVACE_TESTS)  # the code of v4 where there is no AVX-512. By -O1 it is compiled in half the time; FMA needs more.
    set(flags_x86-64-v4-emulated -O1 -fexpensive-optimizations -march=x86-64-v3 -mprefer-vector-width=256
      "SHELL:-include ${PROJECT_SOURCE_DIR}/cpp/tests/avx512_emulated.h")
  endif()
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(known_levels aarch64)
  set(flags_aarch64 "")
else()
  message(FATAL_ERROR "vivace knows no ISA level for the processor ${CMAKE_SYSTEM_PROCESSOR}")
endif()

# The best level of the machine that builds.
if(NOT DEFINED VIVACE_NATIVE_LEVEL)
  file(WRITE ${CMAKE_BINARY_DIR}/native_level.cpp
    "#include <cstdio>\n#include \"${CMAKE_CURRENT_SOURCE_DIR}/cpp/bindings/cpu_levels.h\"\n"
    "int main() { const auto l = supported_levels(); std::fputs(l.empty() ? \"\" : l.back().c_str(), stdout); }\n")
  try_run(native_ran native_compiled ${CMAKE_BINARY_DIR}/native_level ${CMAKE_BINARY_DIR}/native_level.cpp
    RUN_OUTPUT_VARIABLE native_level)
  if(NOT native_level IN_LIST known_levels)
    list(GET known_levels 0 native_level)
  endif()
  set(VIVACE_NATIVE_LEVEL ${native_level} CACHE INTERNAL "best ISA level of this machine")
endif()

function(vivace_level_flags target level)
  if(NOT DEFINED flags_${level})
    message(FATAL_ERROR "unknown ISA level ${level}; known are: ${known_levels}")
  endif()
  # -fno-gnu-unique: nothing may be shared between the modules of two levels in one process.
  # -Wno-maybe-uninitialized: GCC 12's own AVX-512 intrinsics trip it (its bug 105593).
  target_compile_options(${target} PRIVATE ${flags_${level}} -Wall -Wextra -Wpedantic -Wshadow -Wno-psabi
    "$<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique;-Wno-maybe-uninitialized>" $<$<BOOL:${VIVACE_WERROR}>:-Werror>)
  if(VIVACE_SANITIZE)
    target_compile_options(${target} PUBLIC -fsanitize=address,undefined -fno-sanitize-recover=all
      -fno-omit-frame-pointer -g)
    target_link_options(${target} PUBLIC -fsanitize=address,undefined)
  endif()
endfunction()
