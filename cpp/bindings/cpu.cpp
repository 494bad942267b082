// The extension module vivace._core._cpu: asks the CPU which of the native modules may be loaded.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu_levels.h"

PYBIND11_MODULE(_cpu, m) {
    m.doc() = "CPU detection, compiled for the baseline instruction set.";
    m.def("supported_levels", &supported_levels);
}
