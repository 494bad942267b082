#include "vivace/pool2d.h"

#include <pybind11/stl.h>

#include <array>

#include "arrays.h"
#include "vivace/reference.h"

namespace vivace::bindings {
namespace {

using Four = std::array<index, 4>;
using Two = std::array<index, 2>;

Pool2DShape make_shape(const Four& input, const Two& window, const Two& strides, const Four& padding) {
    return pool2d_shape({input[0], input[1], input[2], input[3]}, {window[0], window[1]}, {strides[0], strides[1]},
                        {padding[0], padding[1], padding[2], padding[3]});
}

// Calls f(Position{}) for the type that the window's positions have.
template <class F>
void for_positions(const Pool2DShape& s, F&& f) {
    if (s.kh * s.kw <= 256)
        f(std::uint8_t{});
    else
        f(std::uint32_t{});
}

// Arrays of any shape that have as many elements: sequences and volumes' slices are images too.
template <bool naive>
void bind_directions(py::module_& m) {
    m.def(
        "max_pool2d_forward",
        [](const Pool2DShape& s, const py::array& x, const py::array& y, const py::object& positions) {
            const Arguments arg("max_pool2d_forward");
            arg.for_dtype(x, "x", [&](auto zero) {
                for_positions(s, [&](auto position) {
                    using T = decltype(zero);
                    using Position = decltype(position);
                    const T* px = arg.in_flat<T>(x, "x", s.n * s.h * s.w * s.c);
                    T* py = arg.out_flat<T>(y, "y", s.n * s.p * s.q * s.c);
                    Position* pp = arg.optional_out_flat<Position>(positions, "positions", s.n * s.p * s.q * s.c);
                    without_gil([&] {
                        naive ? reference::max_pool2d_forward(s, px, py, pp) : max_pool2d_forward(s, px, py, pp);
                    });
                });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("y"), py::arg("positions").none(true));
    m.def(
        "max_pool2d_backward",
        [](const Pool2DShape& s, const py::array& dy, const py::array& positions, const py::array& dx) {
            const Arguments arg("max_pool2d_backward");
            arg.for_dtype(dy, "dy", [&](auto zero) {
                for_positions(s, [&](auto position) {
                    using T = decltype(zero);
                    using Position = decltype(position);
                    const T* pdy = arg.in_flat<T>(dy, "dy", s.n * s.p * s.q * s.c);
                    const Position* pp = arg.in_flat<Position>(positions, "positions", s.n * s.p * s.q * s.c);
                    T* pdx = arg.out_flat<T>(dx, "dx", s.n * s.h * s.w * s.c);
                    without_gil([&] {
                        naive ? reference::max_pool2d_backward(s, pdy, pp, pdx) : max_pool2d_backward(s, pdy, pp, pdx);
                    });
                });
            });
        },
        py::arg("shape"), py::arg("dy"), py::arg("positions"), py::arg("dx"));
    m.def(
        "average_pool2d_forward",
        [](const Pool2DShape& s, const py::array& x, const py::array& y) {
            const Arguments arg("average_pool2d_forward");
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", s.n * s.h * s.w * s.c);
                T* py = arg.out_flat<T>(y, "y", s.n * s.p * s.q * s.c);
                without_gil(
                    [&] { naive ? reference::average_pool2d_forward(s, px, py) : average_pool2d_forward(s, px, py); });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("y"));
    m.def(
        "average_pool2d_backward",
        [](const Pool2DShape& s, const py::array& dy, const py::array& dx) {
            const Arguments arg("average_pool2d_backward");
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const T* pdy = arg.in_flat<T>(dy, "dy", s.n * s.p * s.q * s.c);
                T* pdx = arg.out_flat<T>(dx, "dx", s.n * s.h * s.w * s.c);
                without_gil([&] {
                    naive ? reference::average_pool2d_backward(s, pdy, pdx) : average_pool2d_backward(s, pdy, pdx);
                });
            });
        },
        py::arg("shape"), py::arg("dy"), py::arg("dx"));
}

}  // namespace

void bind_pool2d(py::module_& m) {
    py::class_<Pool2DShape>(m, "Pool2DShape", py::module_local())
        .def(py::init(&make_shape), py::arg("input"), py::arg("window"), py::arg("strides"),
             py::arg("padding") = Four{0, 0, 0, 0})
        .def_property_readonly("input", [](const Pool2DShape& s) { return py::make_tuple(s.n, s.h, s.w, s.c); })
        .def_property_readonly("output", [](const Pool2DShape& s) { return py::make_tuple(s.n, s.p, s.q, s.c); });
    bind_directions<false>(m);
    py::module_ naive = m.attr("reference");
    bind_directions<true>(naive);
}

}  // namespace vivace::bindings
