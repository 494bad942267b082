#include "vivace/resample.h"

#include <pybind11/stl.h>

#include <array>
#include <tuple>
#include <vector>

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

// A matrix as (inputs, first, weights).
using Matrix = std::tuple<index, py::array_t<std::int32_t>, py::array_t<double>>;

Resampling make_resampling(index samples, const std::vector<Matrix>& matrices, index channels) {
    const Arguments arg("Resampling");
    if (samples < 0) arg.fail("samples", "must not be negative", std::to_string(samples));
    if (channels < 1) arg.fail("channels", "must be at least 1", std::to_string(channels));
    if (matrices.empty()) arg.fail("matrices", "must be at least one", "none");
    Resampling s{samples, channels, {}};
    for (const auto& [inputs, first, weights] : matrices) {
        const index outputs = arg.size(weights, "weights", 2, 0), width = weights.shape(1);
        const std::int32_t* pfirst = arg.in<std::int32_t>(first, "first", {outputs});
        const double* pweights = arg.in<double>(weights, "weights", {outputs, width});
        for (index p = 0; p < outputs; ++p)
            if (pfirst[p] < 0 || pfirst[p] + width > inputs)
                arg.fail("first", "must leave room for " + std::to_string(width) + " weights in " + std::to_string(inputs) +
                                      " inputs", std::to_string(pfirst[p]));
        Bands bands{inputs, width, {pfirst, pfirst + outputs}, {pweights, pweights + outputs * width}, {}};
        for (const double weight : bands.weights) bands.rounded.push_back(static_cast<float>(weight));
        s.axes.push_back(std::move(bands));
    }
    return s;
}

Margins make_margins(const std::array<index, 5>& input, const std::array<std::array<index, 2>, 3>& margins) {
    Margins s{input[0], {}, {}, {}, input[4]};
    for (std::size_t i = 0; i < 3; ++i) {
        s.sizes[i] = input[i + 1], s.before[i] = margins[i][0], s.behind[i] = margins[i][1];
        if (s.before[i] < 0 || s.behind[i] < 0)
            Arguments("Margins").fail("margins", "must not be negative", tuple_text(margins[i].data(), 2));
    }
    return s;
}

// f(shape, x, y) from arrays of so many elements to arrays of so many.
template <class Shape, class From, class To, class F>
void bind_moved(py::module_& m, const char* name, From from, To to, F f) {
    m.def(
        name,
        [=](const Shape& s, const py::array& x, const py::array& y) {
            const Arguments arg(name);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", from(s));
                T* py = arg.out_flat<T>(y, "y", to(s));
                without_gil([&] { f(s, px, py); });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("y"));
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
    py::class_<Resampling>(m, "Resampling", py::module_local())
        .def(py::init(&make_resampling), py::arg("samples"), py::arg("matrices"), py::arg("channels"));
    py::class_<Margins>(m, "Margins", py::module_local())
        .def(py::init(&make_margins), py::arg("input"), py::arg("margins"));
    bind_moved<Resampling>(
        m, "resample", [](const Resampling& s) { return s.input_size(); },
        [](const Resampling& s) { return s.output_size(); }, [](auto... a) { resample(a...); });
    const auto inner = [](const Margins& s) { return s.inner_size(); };
    const auto outer = [](const Margins& s) { return s.outer_size(); };
    bind_moved<Margins>(m, "pad", inner, outer, [](auto... a) { pad(a...); });
    bind_moved<Margins>(m, "crop", outer, inner, [](auto... a) { crop(a...); });
}

}  // namespace vivace::bindings
