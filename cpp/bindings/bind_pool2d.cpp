#include "vivace/pool2d.h"

#include <pybind11/stl.h>

#include <array>
#include <utility>

#include "arrays.h"
#include "vivace/pool3d.h"
#include "vivace/reference.h"

namespace vivace::bindings {
namespace {

using Four = std::array<index, 4>;
using Two = std::array<index, 2>;
using Windows = std::vector<std::pair<index, index>>;  // along an axis, (first, end) of each

Pool2DShape make_2d(const Four& input, const Two& window, const Two& strides, const Four& padding) {
    return pool2d_shape({input[0], input[1], input[2], input[3]}, {window[0], window[1]}, {strides[0], strides[1]},
                        {padding[0], padding[1], padding[2], padding[3]});
}

Pool3DShape make_3d(const std::array<index, 5>& input, const std::array<Windows, 3>& windows) {
    std::vector<Window> axes[3];
    for (std::size_t i = 0; i < 3; ++i)
        for (const auto& [first, end] : windows[i]) axes[i].push_back({first, end});
    return pool3d_shape({input[0], input[1], input[2], input[3], input[4]}, axes);
}

index largest_window(const Pool2DShape& s) { return s.kh * s.kw; }
index largest_window(const Pool3DShape& s) { return s.largest; }

// Calls f(Position{}) for the type that positions in the largest window have.
template <class Shape, class F>
void for_positions(const Shape& s, F&& f) {
    if (largest_window(s) <= 256)
        f(std::uint8_t{});
    else
        f(std::uint32_t{});
}

// Arrays of any shape that have as many elements: sequences and volumes' slices are images too.
template <class Shape, class Forward, class Backward>
void bind_maximum(py::module_& m, const char* forward_name, Forward forward, const char* backward_name, Backward backward) {
    m.def(
        forward_name,
        [=](const Shape& s, const py::array& x, const py::array& y, const py::object& positions) {
            const Arguments arg(forward_name);
            arg.for_dtype(x, "x", [&](auto zero) {
                for_positions(s, [&](auto position) {
                    using T = decltype(zero);
                    const T* px = arg.in_flat<T>(x, "x", s.input_size());
                    T* py = arg.out_flat<T>(y, "y", s.output_size());
                    auto* pp = arg.optional_out_flat<decltype(position)>(positions, "positions", s.output_size());
                    without_gil([&] { forward(s, px, py, pp); });
                });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("y"), py::arg("positions").none(true));
    m.def(
        backward_name,
        [=](const Shape& s, const py::array& dy, const py::array& positions, const py::array& dx) {
            const Arguments arg(backward_name);
            arg.for_dtype(dy, "dy", [&](auto zero) {
                for_positions(s, [&](auto position) {
                    using T = decltype(zero);
                    const T* pdy = arg.in_flat<T>(dy, "dy", s.output_size());
                    const auto* pp = arg.in_flat<decltype(position)>(positions, "positions", s.output_size());
                    T* pdx = arg.out_flat<T>(dx, "dx", s.input_size());
                    without_gil([&] { backward(s, pdy, pp, pdx); });
                });
            });
        },
        py::arg("shape"), py::arg("dy"), py::arg("positions"), py::arg("dx"));
}

template <class Shape, class Forward, class Backward>
void bind_average(py::module_& m, const char* forward_name, Forward forward, const char* backward_name, Backward backward) {
    m.def(
        forward_name,
        [=](const Shape& s, const py::array& x, const py::array& y) {
            const Arguments arg(forward_name);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", s.input_size());
                T* py = arg.out_flat<T>(y, "y", s.output_size());
                without_gil([&] { forward(s, px, py); });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("y"));
    m.def(
        backward_name,
        [=](const Shape& s, const py::array& dy, const py::array& dx) {
            const Arguments arg(backward_name);
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const T* pdy = arg.in_flat<T>(dy, "dy", s.output_size());
                T* pdx = arg.out_flat<T>(dx, "dx", s.input_size());
                without_gil([&] { backward(s, pdy, pdx); });
            });
        },
        py::arg("shape"), py::arg("dy"), py::arg("dx"));
}

}  // namespace

void bind_pool2d(py::module_& m) {
    py::class_<Pool2DShape>(m, "Pool2DShape", py::module_local())
        .def(py::init(&make_2d), py::arg("input"), py::arg("window"), py::arg("strides"),
             py::arg("padding") = Four{0, 0, 0, 0})
        .def_property_readonly("input", [](const Pool2DShape& s) { return py::make_tuple(s.n, s.h, s.w, s.c); })
        .def_property_readonly("output", [](const Pool2DShape& s) { return py::make_tuple(s.n, s.p, s.q, s.c); });
    py::class_<Pool3DShape>(m, "Pool3DShape", py::module_local())
        .def(py::init(&make_3d), py::arg("input"), py::arg("windows"))
        .def_property_readonly("input", [](const Pool3DShape& s) {
            return py::make_tuple(s.n, s.depth.size, s.height.size, s.width.size, s.c);
        })
        .def_property_readonly("output", [](const Pool3DShape& s) {
            return py::make_tuple(s.n, s.depth.outputs(), s.height.outputs(), s.width.outputs(), s.c);
        })
        .def_property_readonly("largest", [](const Pool3DShape& s) { return s.largest; });
#define VIVACE_CALL(function) [](auto&&... a) { function(a...); }
    bind_maximum<Pool2DShape>(m, "max_pool2d_forward", VIVACE_CALL(max_pool2d_forward), "max_pool2d_backward",
                              VIVACE_CALL(max_pool2d_backward));
    bind_average<Pool2DShape>(m, "average_pool2d_forward", VIVACE_CALL(average_pool2d_forward), "average_pool2d_backward",
                              VIVACE_CALL(average_pool2d_backward));
    bind_maximum<Pool3DShape>(m, "max_pool3d_forward", VIVACE_CALL(max_pool3d_forward), "max_pool3d_backward",
                              VIVACE_CALL(max_pool3d_backward));
    bind_average<Pool3DShape>(m, "average_pool3d_forward", VIVACE_CALL(average_pool3d_forward), "average_pool3d_backward",
                              VIVACE_CALL(average_pool3d_backward));
    py::module_ naive = m.attr("reference");
    bind_maximum<Pool2DShape>(naive, "max_pool2d_forward", VIVACE_CALL(reference::max_pool2d_forward),
                              "max_pool2d_backward", VIVACE_CALL(reference::max_pool2d_backward));
    bind_average<Pool2DShape>(naive, "average_pool2d_forward", VIVACE_CALL(reference::average_pool2d_forward),
                              "average_pool2d_backward", VIVACE_CALL(reference::average_pool2d_backward));
#undef VIVACE_CALL
}

}  // namespace vivace::bindings
