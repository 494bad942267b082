// The native module of one ISA level: a table of contents.
#include "../src/simd.h"
#include "arrays.h"
#include "vivace/parallel.h"

#define VIVACE_STRING_(x) #x
#define VIVACE_STRING(x) VIVACE_STRING_(x)

#if defined(__clang__)
#define VIVACE_COMPILER "Clang " __clang_version__
#else
#define VIVACE_COMPILER "GCC " __VERSION__
#endif

namespace vivace::bindings {
namespace {

// Whether x is a C-contiguous array of this shape, a tuple of integers, and dtype.
bool is_like(const py::handle& x, const py::handle& shape, const py::handle& dtype) {
    const auto& numpy = py::detail::npy_api::get();
    if (reinterpret_cast<PyObject*>(Py_TYPE(x.ptr())) != reinterpret_cast<PyObject*>(numpy.PyArray_Type_)) return false;
    const auto* array = py::detail::array_proxy(x.ptr());
    if (array->descr != dtype.ptr() || !(array->flags & py::array::c_style) || !PyTuple_CheckExact(shape.ptr()) ||
        PyTuple_GET_SIZE(shape.ptr()) != array->nd)
        return false;
    for (int i = 0; i < array->nd; ++i) {
        PyObject* const size = PyTuple_GET_ITEM(shape.ptr(), i);
        int overflow = 0;
        if (!PyLong_CheckExact(size) || PyLong_AsLongLongAndOverflow(size, &overflow) != array->dimensions[i]) return false;
    }
    return true;
}

// The same of an array, or of a list of them and a list of shapes. Every call of a layer begins with this question, for
// which Python needs half a microsecond.
bool alike(const py::handle& x, const py::handle& shape, const py::handle& dtype) {
    if (!PyList_CheckExact(shape.ptr())) return is_like(x, shape, dtype);
    if (!PyList_CheckExact(x.ptr())) return false;
    const Py_ssize_t count = PyList_GET_SIZE(shape.ptr());
    if (PyList_GET_SIZE(x.ptr()) != count) return false;
    for (Py_ssize_t i = 0; i < count; ++i)
        if (!is_like(PyList_GET_ITEM(x.ptr(), i), PyList_GET_ITEM(shape.ptr(), i), dtype)) return false;
    return true;
}

}  // namespace
}  // namespace vivace::bindings

PYBIND11_MODULE(VIVACE_MODULE, m) {
    using namespace vivace::bindings;
    m.doc() = "vivace's kernels, compiled for " VIVACE_LEVEL;
    m.attr("isa") = VIVACE_LEVEL;
    m.attr("compiler") = VIVACE_COMPILER;
    m.attr("vector_bytes") = vivace::vector_bytes;
    m.def("get_num_threads", &vivace::get_num_threads);
    m.def("set_num_threads", &vivace::set_num_threads, py::arg("threads"));
    m.def("alike", &alike, py::arg("x"), py::arg("shape"), py::arg("dtype"));
    m.def_submodule("reference", "The naive reference of every op.");
    m.def_submodule("im2col", "The textbook method: column matrix and GEMM.");
    bind_pool2d(m);
    bind_conv2d(m);  // its fused ops take the pool's shape
    bind_conv3d(m);
    bind_gemm(m);
    bind_einsum(m);
    bind_rnn(m);
    bind_depthwise2d(m);
    bind_attention(m);
    bind_normalization(m);
    bind_elementwise(m);
    bind_activations(m);
    bind_images(m);
    bind_resample(m);
    bind_loss(m);
    bind_merge(m);
    bind_optimizer(m);
}
