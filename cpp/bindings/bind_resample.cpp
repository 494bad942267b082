#include "vivace/resample.h"

#include <optional>

#include "images.h"

namespace vivace::bindings {
namespace {

struct Taken : RandomMovement {
    Fill fill;
    bool bilinear;
    double value;
};

Movement movement_named(const Arguments& arg, const std::string& name) {
    if (name == "turn") return Movement::turn;
    if (name == "zoom") return Movement::zoom;
    if (name == "shift") return Movement::shift;
    if (name == "shear") return Movement::shear;
    arg.fail("movement", "must be turn, zoom, shift or shear", name);
}

Fill fill_named(const Arguments& arg, const std::string& name) {
    if (name == "constant") return Fill::constant;
    if (name == "nearest") return Fill::nearest;
    if (name == "reflect") return Fill::reflect;
    if (name == "wrap") return Fill::wrap;
    arg.fail("fill", "must be constant, nearest, reflect or wrap", name);
}

Affine affine_of(const Images& s, const Taken& t) { return {s.n, s.h, s.w, s.c, t.fill, t.bilinear, t.value, s.share}; }

}  // namespace

void bind_resample(py::module_& m) {
    using Change = OfImages<Taken>;
    py::class_<Change>(m, "RandomMovement")
        .def(py::init([](const std::string& movement, const Two& first, const std::optional<Two>& second, const std::string& fill,
                         bool bilinear, double value, bool channels_first) {
                 const Arguments arg("RandomMovement");
                 const Two other = second.value_or(first);
                 return Change{{{movement_named(arg, movement), {first[0], other[0]}, {first[1], other[1]}, !second},
                                fill_named(arg, fill), bilinear, value},
                               channels_first};
             }),
             py::arg("movement"), py::arg("first"), py::arg("second").none(true), py::arg("fill"), py::arg("bilinear"),
             py::arg("value") = 0, py::arg("channels_first") = false);
    m.def(
        "random_affine_forward",
        [](const Change& change, std::uint64_t seed, std::uint64_t stream, const py::array& x, const py::array& y) {
            with_images("random_affine_forward", change.channels_first, x, "x", y, "y", [&](const Images& s, auto* px, auto* py) {
                random_affine_forward(affine_of(s, change), change, seed, stream, px, py);
            });
        },
        py::arg("movement"), py::arg("seed"), py::arg("stream"), py::arg("x"), py::arg("y"));
    m.def(
        "random_affine_backward",
        [](const Change& change, std::uint64_t seed, std::uint64_t stream, const py::array& dy, const py::array& dx) {
            with_images("random_affine_backward", change.channels_first, dy, "dy", dx, "dx",
                        [&](const Images& s, auto* pdy, auto* pdx) {
                            random_affine_backward(affine_of(s, change), change, seed, stream, pdy, pdx);
                        });
        },
        py::arg("movement"), py::arg("seed"), py::arg("stream"), py::arg("dy"), py::arg("dx"));
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
