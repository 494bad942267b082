#include "vivace/resample.h"

#include "arrays.h"

namespace vivace::bindings {
namespace {

Affine affine_named(const Arguments& arg, const std::string& fill, bool bilinear, double value, const py::array& x,
                    const char* name) {
    const index n = arg.size(x, name, 4, 0), h = x.shape(1), w = x.shape(2), c = x.shape(3);
    if (fill == "constant") return {n, h, w, c, Fill::constant, bilinear, value};
    if (fill == "nearest") return {n, h, w, c, Fill::nearest, bilinear, value};
    if (fill == "reflect") return {n, h, w, c, Fill::reflect, bilinear, value};
    if (fill == "wrap") return {n, h, w, c, Fill::wrap, bilinear, value};
    arg.fail("fill", "must be constant, nearest, reflect or wrap", fill);
}

}  // namespace

void bind_resample(py::module_& m) {
    m.def(
        "affine_forward",
        [](const py::array& maps, const std::string& fill, bool bilinear, double value, const py::array& x,
           const py::array& y) {
            const Arguments arg("affine_forward");
            const Affine s = affine_named(arg, fill, bilinear, value, x, "x");
            const double* pmaps = arg.in<double>(maps, "maps", {s.n, 2, 3});
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in<T>(x, "x", {s.n, s.h, s.w, s.c});
                T* py = arg.out<T>(y, "y", {s.n, s.h, s.w, s.c});
                without_gil([&] { affine_forward(s, pmaps, px, py); });
            });
        },
        py::arg("maps"), py::arg("fill"), py::arg("bilinear"), py::arg("value"), py::arg("x"), py::arg("y"));
    m.def(
        "affine_backward",
        [](const py::array& maps, const std::string& fill, bool bilinear, const py::array& dy, const py::array& dx) {
            const Arguments arg("affine_backward");
            const Affine s = affine_named(arg, fill, bilinear, 0, dy, "dy");
            const double* pmaps = arg.in<double>(maps, "maps", {s.n, 2, 3});
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const T* pdy = arg.in<T>(dy, "dy", {s.n, s.h, s.w, s.c});
                T* pdx = arg.out<T>(dx, "dx", {s.n, s.h, s.w, s.c});
                without_gil([&] { affine_backward(s, pmaps, pdy, pdx); });
            });
        },
        py::arg("maps"), py::arg("fill"), py::arg("bilinear"), py::arg("dy"), py::arg("dx"));
    m.def(
        "multiply_bands",
        [](const py::array& first, const py::array& weights, const py::array& x, const py::array& y) {
            const Arguments arg("multiply_bands");
            const index outputs = arg.size(weights, "weights", 2, 0), width = weights.shape(1);
            const index outer = arg.size(x, "x", 3, 0), inputs = x.shape(1), inner = x.shape(2);
            const std::int32_t* pfirst = arg.in<std::int32_t>(first, "first", {outputs});
            for (index p = 0; p < outputs; ++p)
                if (pfirst[p] < 0 || pfirst[p] + width > inputs)
                    arg.fail("first", "must leave room for " + std::to_string(width) + " weights in " +
                                          std::to_string(inputs) + " inputs", std::to_string(pfirst[p]));
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* pweights = arg.in<T>(weights, "weights", {outputs, width});
                const T* px = arg.in<T>(x, "x", {outer, inputs, inner});
                T* py = arg.out<T>(y, "y", {outer, outputs, inner});
                without_gil([&] { multiply_bands(outer, inputs, outputs, inner, width, pfirst, pweights, px, py); });
            });
        },
        py::arg("first"), py::arg("weights"), py::arg("x"), py::arg("y"));
}

}  // namespace vivace::bindings
