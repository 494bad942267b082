#include "vivace/resample.h"

#include <array>
#include <optional>
#include <tuple>
#include <vector>

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

// A matrix as (inputs, first, weights).
using Matrix = std::tuple<index, py::array_t<std::int32_t>, py::array_t<double>>;

Resampling make_resampling(index samples, const std::vector<Matrix>& matrices, index channels) {
    const Arguments arg("Resampling");
    if (samples < 0) arg.fail("samples", "must not be negative", std::to_string(samples));
    if (channels < 0) arg.fail("channels", "must not be negative", std::to_string(channels));
    if (matrices.empty()) arg.fail("matrices", "must be at least one", "none");
    Resampling s{samples, channels, {}};
    for (const auto& [inputs, first, weights] : matrices) {
        if (inputs < 0) arg.fail("matrices", "must not have a negative number of inputs", std::to_string(inputs));
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
    const Arguments arg("Margins");
    Margins s{input[0], {}, {}, {}, input[4]};
    for (std::size_t i = 0; i < 3; ++i) {
        s.sizes[i] = input[i + 1], s.before[i] = margins[i][0], s.behind[i] = margins[i][1];
        if (s.before[i] < 0 || s.behind[i] < 0) arg.fail("margins", "must not be negative", tuple_text(margins[i].data(), 2));
    }
    if (*std::min_element(input.begin(), input.end()) < 0)
        arg.fail("input", "must not have negative sizes", tuple_text(input.data(), input.size()));
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
    using Change = OfImages<Taken>;
    py::class_<Change>(m, "RandomMovement", py::module_local())
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
