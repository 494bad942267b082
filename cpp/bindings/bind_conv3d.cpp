#include "vivace/conv3d.h"

#include <pybind11/stl.h>

#include <array>

#include "arrays.h"

namespace vivace::bindings {
namespace {

using Six = std::array<index, 6>;
using Five = std::array<index, 5>;
using Three = std::array<index, 3>;

Conv3DShape make_shape(const Five& input, const Five& kernel, const Three& strides, const Six& padding,
                       const Three& dilation, index groups) {
    index in[5], k[5], st[3], pad[6], dil[3];
    std::copy(input.begin(), input.end(), in);
    std::copy(kernel.begin(), kernel.end(), k);
    std::copy(strides.begin(), strides.end(), st);
    std::copy(padding.begin(), padding.end(), pad);
    std::copy(dilation.begin(), dilation.end(), dil);
    return conv3d_shape(in, k, st, pad, dil, groups);
}

template <class T>
const T* kernel_of(const Arguments& arg, const Conv3DShape& s, const py::array& kernel) {
    return arg.in<T>(kernel, "kernel", {s.kd, s.kh, s.kw, s.c / s.groups(), s.o});
}

// forward(shape, x, kernel, bias, activation, y) between arrays of the shape's input and output, or, `transposed`, the
// other way.
template <class Forward>
void bind_forward(py::module_& m, const char* name, bool transposed, Forward forward) {
    m.def(
        name,
        [=](const Conv3DShape& s, const py::array& x, const py::array& kernel, const py::object& bias, const py::array& y,
            const std::string& activation) {
            const Arguments arg(name);
            const Activation act = activation_named(name, activation);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = transposed ? arg.in<T>(x, "x", {s.n, s.r, s.p, s.q, s.o}) : arg.in<T>(x, "x", {s.n, s.d, s.h, s.w, s.c});
                const T* pw = kernel_of<T>(arg, s, kernel);
                const T* pb = arg.optional_in<T>(bias, "bias", {transposed ? s.c : s.o});
                T* py = transposed ? arg.out<T>(y, "y", {s.n, s.d, s.h, s.w, s.c}) : arg.out<T>(y, "y", {s.n, s.r, s.p, s.q, s.o});
                without_gil([&] { forward(s, px, pw, pb, act, py); });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("kernel"), py::arg("bias").none(true), py::arg("y"),
        py::arg("activation") = "linear");
}

template <class Gradient>
void bind_weight_gradient(py::module_& m, const char* name, bool transposed, Gradient gradient) {
    m.def(
        name,
        [=](const Conv3DShape& s, const py::array& x, const py::array& dy, const py::array& dkernel, const py::object& dbias) {
            const Arguments arg(name);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const auto input = [&](const py::array& a, const char* what) { return arg.in<T>(a, what, {s.n, s.d, s.h, s.w, s.c}); };
                const auto output = [&](const py::array& a, const char* what) { return arg.in<T>(a, what, {s.n, s.r, s.p, s.q, s.o}); };
                const T* px = transposed ? output(x, "x") : input(x, "x");
                const T* pdy = transposed ? input(dy, "dy") : output(dy, "dy");
                T* pdw = arg.out<T>(dkernel, "dkernel", {s.kd, s.kh, s.kw, s.c / s.groups(), s.o});
                T* pdb = arg.optional_out<T>(dbias, "dbias", {transposed ? s.c : s.o});
                without_gil([&] { gradient(s, px, pdy, pdw, pdb); });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("dy"), py::arg("dkernel"), py::arg("dbias").none(true));
}

}  // namespace

void bind_conv3d(py::module_& m) {
    py::class_<Conv3DShape>(m, "Conv3DShape", py::module_local())
        .def(py::init(&make_shape), py::arg("input"), py::arg("kernel"), py::arg("strides") = Three{1, 1, 1},
             py::arg("padding") = Six{0, 0, 0, 0, 0, 0}, py::arg("dilation") = Three{1, 1, 1}, py::arg("groups") = 1)
        .def_property_readonly("input", [](const Conv3DShape& s) { return py::make_tuple(s.n, s.d, s.h, s.w, s.c); })
        .def_property_readonly("output", [](const Conv3DShape& s) { return py::make_tuple(s.n, s.r, s.p, s.q, s.o); })
        .def_property_readonly("flops", [](const Conv3DShape& s) { return s.images.flops(); });
    bind_forward(m, "conv3d_forward", false, [](auto... a) { conv3d_forward(a...); });
    bind_forward(m, "conv3d_transpose_forward", true, [](auto... a) { conv3d_transpose_forward(a...); });
    bind_weight_gradient(m, "conv3d_weight_gradient", false, [](auto... a) { conv3d_weight_gradient(a...); });
    bind_weight_gradient(m, "conv3d_transpose_weight_gradient", true,
                         [](auto... a) { conv3d_transpose_weight_gradient(a...); });
    m.def(
        "conv3d_input_gradient",
        [](const Conv3DShape& s, const py::array& dy, const py::array& kernel, const py::array& dx) {
            const Arguments arg("conv3d_input_gradient");
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const T* pdy = arg.in<T>(dy, "dy", {s.n, s.r, s.p, s.q, s.o});
                const T* pw = kernel_of<T>(arg, s, kernel);
                T* pdx = arg.out<T>(dx, "dx", {s.n, s.d, s.h, s.w, s.c});
                without_gil([&] { conv3d_input_gradient(s, pdy, pw, pdx); });
            });
        },
        py::arg("shape"), py::arg("dy"), py::arg("kernel"), py::arg("dx"));
}

}  // namespace vivace::bindings
