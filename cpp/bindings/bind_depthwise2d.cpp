#include "vivace/depthwise2d.h"

#include "arrays.h"

namespace vivace::bindings {

void bind_depthwise2d(py::module_& m) {
    m.def(
        "depthwise2d_forward",
        [](const Conv2DShape& s, const py::array& x, const py::array& kernel, const py::object& bias,
           const py::array& y, const std::string& activation) {
            const Arguments arg("depthwise2d_forward");
            const Activation act = activation_named("depthwise2d_forward", activation);
            check_depthwise2d(s);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in<T>(x, "x", {s.n, s.h, s.w, s.c});
                const T* pw = arg.in<T>(kernel, "kernel", {s.kh, s.kw, s.c, s.o / s.c});
                const T* pb = arg.optional_in<T>(bias, "bias", {s.o});
                T* py = arg.out<T>(y, "y", {s.n, s.p, s.q, s.o});
                without_gil([&] { depthwise2d_forward(s, px, pw, pb, act, py); });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("kernel"), py::arg("bias").none(true), py::arg("y"),
        py::arg("activation") = "linear");
    m.def(
        "depthwise2d_input_gradient",
        [](const Conv2DShape& s, const py::array& dy, const py::array& kernel, const py::array& dx) {
            const Arguments arg("depthwise2d_input_gradient");
            check_depthwise2d(s);
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const T* pdy = arg.in<T>(dy, "dy", {s.n, s.p, s.q, s.o});
                const T* pw = arg.in<T>(kernel, "kernel", {s.kh, s.kw, s.c, s.o / s.c});
                T* pdx = arg.out<T>(dx, "dx", {s.n, s.h, s.w, s.c});
                without_gil([&] { depthwise2d_input_gradient(s, pdy, pw, pdx); });
            });
        },
        py::arg("shape"), py::arg("dy"), py::arg("kernel"), py::arg("dx"));
    m.def(
        "depthwise2d_weight_gradient",
        [](const Conv2DShape& s, const py::array& x, const py::array& dy, const py::array& dkernel,
           const py::object& dbias) {
            const Arguments arg("depthwise2d_weight_gradient");
            check_depthwise2d(s);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in<T>(x, "x", {s.n, s.h, s.w, s.c});
                const T* pdy = arg.in<T>(dy, "dy", {s.n, s.p, s.q, s.o});
                T* pdw = arg.out<T>(dkernel, "dkernel", {s.kh, s.kw, s.c, s.o / s.c});
                T* pdb = arg.optional_out<T>(dbias, "dbias", {s.o});
                without_gil([&] { depthwise2d_weight_gradient(s, px, pdy, pdw, pdb); });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("dy"), py::arg("dkernel"), py::arg("dbias").none(true));
}

}  // namespace vivace::bindings
