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

// x (..., inputs), a kernel (..., inputs, outputs) whose axes in front are 1, y (..., outputs): all else counts as rows.
struct DenseSizes {
    index rows, inputs, outputs;

    DenseSizes(const Arguments& arg, const py::array& x, const char* name, const py::array& kernel) {
        if (kernel.ndim() < 2) arg.fail("kernel", "must have at least two axes", std::to_string(kernel.ndim()));
        outputs = kernel.shape(kernel.ndim() - 1), inputs = kernel.shape(kernel.ndim() - 2);
        const index columns = arg.columns(x, name);
        if (columns != inputs) arg.fail(name, "must have a last axis of " + std::to_string(inputs), std::to_string(columns));
        rows = 1;
        for (index axis = 0; axis + 1 < x.ndim(); ++axis) rows *= x.shape(axis);
    }
};

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
            const DenseSizes s(arg, x, "x", kernel);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", s.rows * s.inputs);
                const T* pw = arg.in_flat<T>(kernel, "kernel", s.inputs * s.outputs);
                const T* pb = arg.optional_in_flat<T>(bias, "bias", s.outputs);
                T* py = arg.out_flat<T>(y, "y", s.rows * s.outputs);
                without_gil([&] { dense_forward(s.rows, s.inputs, s.outputs, px, pw, pb, act, py); });
            });
        },
        py::arg("x"), py::arg("kernel"), py::arg("bias").none(true), py::arg("y"), py::arg("activation") = "linear");
    m.def(
        "dense_input_gradient",
        [](const py::array& dy, const py::array& kernel, const py::array& dx) {
            const Arguments arg("dense_input_gradient");
            const DenseSizes s(arg, dx, "dx", kernel);
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const T* pdy = arg.in_flat<T>(dy, "dy", s.rows * s.outputs);
                const T* pw = arg.in_flat<T>(kernel, "kernel", s.inputs * s.outputs);
                T* pdx = arg.out_flat<T>(dx, "dx", s.rows * s.inputs);
                without_gil([&] { dense_input_gradient(s.rows, s.inputs, s.outputs, pdy, pw, pdx); });
            });
        },
        py::arg("dy"), py::arg("kernel"), py::arg("dx"));
    m.def(
        "dense_weight_gradient",
        [](const py::array& x, const py::array& dy, const py::array& dkernel, const py::object& dbias) {
            const Arguments arg("dense_weight_gradient");
            const DenseSizes s(arg, x, "x", dkernel);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", s.rows * s.inputs);
                const T* pdy = arg.in_flat<T>(dy, "dy", s.rows * s.outputs);
                T* pdw = arg.out_flat<T>(dkernel, "dkernel", s.inputs * s.outputs);
                T* pdb = arg.optional_out_flat<T>(dbias, "dbias", s.outputs);
                without_gil([&] { dense_weight_gradient(s.rows, s.inputs, s.outputs, px, pdy, pdw, pdb); });
            });
        },
        py::arg("x"), py::arg("dy"), py::arg("dkernel"), py::arg("dbias").none(true));
}

}  // namespace vivace::bindings
