#include "vivace/einsum.h"

#include <pybind11/stl.h>

#include "arrays.h"

namespace vivace::bindings {

void bind_einsum(py::module_& m) {
    py::class_<Einsum>(m, "Einsum", py::module_local())
        .def(py::init<const std::u32string&, const std::u32string&, const std::u32string&, const std::vector<index>&,
                      const std::vector<index>&, const std::vector<index>&>(),
             py::arg("x"), py::arg("w"), py::arg("y"), py::arg("x_sizes"), py::arg("w_sizes"), py::arg("bias"))
        .def_property_readonly("output", [](const Einsum& s) { return py::tuple(py::cast(s.y_sizes)); });
    m.def(
        "einsum_forward",
        [](const Einsum& s, const py::array& x, const py::array& w, const py::object& bias, const py::array& y,
           const std::string& activation) {
            const Arguments arg("einsum_forward");
            const Activation act = activation_named("einsum_forward", activation);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", s.x_size);
                const T* pw = arg.in_flat<T>(w, "w", s.w_size);
                const T* pb = arg.optional_in_flat<T>(bias, "bias", s.bias_size);
                if (s.bias_size == 0) pb = nullptr;  // an empty array is none
                T* py = arg.out_flat<T>(y, "y", s.y_size);
                without_gil([&] { einsum_forward(s, px, pw, pb, act, py); });
            });
        },
        py::arg("op"), py::arg("x"), py::arg("w"), py::arg("bias").none(true), py::arg("y"),
        py::arg("activation") = "linear");
    m.def(
        "einsum_backward",
        [](const Einsum& s, const py::array& x, const py::array& w, const py::array& dy, const py::tuple& gradients, bool add) {
            const Arguments arg("einsum_backward");
            if (gradients.size() != 3) arg.fail("gradients", "must be (dx, dw, dbias)", std::to_string(gradients.size()));
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", s.x_size);
                const T* pw = arg.in_flat<T>(w, "w", s.w_size);
                const T* pdy = arg.in_flat<T>(dy, "dy", s.y_size);
                T* pdx = arg.optional_out_flat<T>(gradients[0], "dx", s.x_size);
                T* pdw = arg.optional_out_flat<T>(gradients[1], "dw", s.w_size);
                T* pdb = arg.optional_out_flat<T>(gradients[2], "dbias", s.bias_size);
                if (s.bias_size == 0) pdb = nullptr;
                without_gil([&] { einsum_backward(s, px, pw, pdy, pdx, pdw, pdb, add); });
            });
        },
        py::arg("op"), py::arg("x"), py::arg("w"), py::arg("dy"), py::arg("gradients"), py::arg("add"));
}

}  // namespace vivace::bindings
