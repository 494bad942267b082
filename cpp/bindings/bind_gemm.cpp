#include "arrays.h"
#include "vivace/gemm.h"
#include "vivace/reference.h"

namespace vivace::bindings {
namespace {

template <bool naive>
void bind_product(py::module_& m) {
    m.def(
        "gemm",
        [](const py::array& a, const py::array& b, const py::array& c, bool transpose_a, bool transpose_b,
           bool accumulate) {
            const Arguments arg("gemm");
            const index rows = arg.size(a, "a", 2, transpose_a ? 1 : 0), k = arg.size(a, "a", 2, transpose_a ? 0 : 1);
            const index columns = arg.size(b, "b", 2, transpose_b ? 0 : 1);
            arg.for_dtype(a, "a", [&](auto zero) {
                using T = decltype(zero);
                const T* pa = arg.in_flat<T>(a, "a", rows * k);
                const T* pb = transpose_b ? arg.in<T>(b, "b", {columns, k}) : arg.in<T>(b, "b", {k, columns});
                T* pc = arg.out<T>(c, "c", {rows, columns});
                without_gil([&] {
                    if (naive)
                        reference::gemm(rows, columns, k, pa, transpose_a, pb, transpose_b, pc, accumulate);
                    else
                        gemm(rows, columns, k, pa, transpose_a, pb, transpose_b, pc, accumulate);
                });
            });
        },
        py::arg("a"), py::arg("b"), py::arg("c"), py::arg("transpose_a") = false, py::arg("transpose_b") = false,
        py::arg("accumulate") = false);
}

}  // namespace

void bind_gemm(py::module_& m) {
    bind_product<false>(m);
    py::module_ naive = m.attr("reference");
    bind_product<true>(naive);
    m.def(
        "dense_forward",
        [](const py::array& x, const py::array& kernel, const py::object& bias, const py::array& y,
           const std::string& activation) {
            const Arguments arg("dense_forward");
            const Activation act = activation_named("dense_forward", activation);
            const index n = arg.size(x, "x", 2, 0), i = arg.size(x, "x", 2, 1), o = arg.size(kernel, "kernel", 2, 1);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in<T>(x, "x", {n, i});
                const T* pw = arg.in<T>(kernel, "kernel", {i, o});
                const T* pb = arg.optional_in<T>(bias, "bias", {o});
                T* py = arg.out<T>(y, "y", {n, o});
                without_gil([&] { dense_forward(n, i, o, px, pw, pb, act, py); });
            });
        },
        py::arg("x"), py::arg("kernel"), py::arg("bias").none(true), py::arg("y"), py::arg("activation") = "linear");
    // The same for arrays of any shapes that hold as many elements: (..., inputs) by a kernel with axes of its own.
    m.def(
        "project_forward",
        [](index inputs, const py::array& x, const py::array& kernel, const py::object& bias, const py::array& y,
           const std::string& activation) {
            const Arguments arg("project_forward");
            const Activation act = activation_named("project_forward", activation);
            if (inputs < 1) arg.fail("inputs", "must be at least 1", std::to_string(inputs));
            const index rows = x.size() / inputs, outputs = kernel.size() / inputs;
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", rows * inputs);
                const T* pw = arg.in_flat<T>(kernel, "kernel", inputs * outputs);
                const T* pb = arg.optional_in_flat<T>(bias, "bias", outputs);
                T* py = arg.out_flat<T>(y, "y", rows * outputs);
                without_gil([&] { dense_forward(rows, inputs, outputs, px, pw, pb, act, py); });
            });
        },
        py::arg("inputs"), py::arg("x"), py::arg("kernel"), py::arg("bias").none(true), py::arg("y"),
        py::arg("activation") = "linear");
    m.def(
        "dense_input_gradient",
        [](const py::array& dy, const py::array& kernel, const py::array& dx) {
            const Arguments arg("dense_input_gradient");
            const index n = arg.size(dy, "dy", 2, 0), i = arg.size(kernel, "kernel", 2, 0),
                        o = arg.size(kernel, "kernel", 2, 1);
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const T* pdy = arg.in<T>(dy, "dy", {n, o});
                const T* pw = arg.in<T>(kernel, "kernel", {i, o});
                T* pdx = arg.out<T>(dx, "dx", {n, i});
                without_gil([&] { dense_input_gradient(n, i, o, pdy, pw, pdx); });
            });
        },
        py::arg("dy"), py::arg("kernel"), py::arg("dx"));
    m.def(
        "dense_weight_gradient",
        [](const py::array& x, const py::array& dy, const py::array& dkernel, const py::object& dbias) {
            const Arguments arg("dense_weight_gradient");
            const index n = arg.size(x, "x", 2, 0), i = arg.size(x, "x", 2, 1), o = arg.size(dy, "dy", 2, 1);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in<T>(x, "x", {n, i});
                const T* pdy = arg.in<T>(dy, "dy", {n, o});
                T* pdw = arg.out<T>(dkernel, "dkernel", {i, o});
                T* pdb = arg.optional_out<T>(dbias, "dbias", {o});
                without_gil([&] { dense_weight_gradient(n, i, o, px, pdy, pdw, pdb); });
            });
        },
        py::arg("x"), py::arg("dy"), py::arg("dkernel"), py::arg("dbias").none(true));
}

}  // namespace vivace::bindings
