// Images as arguments, their channels last or first.
#pragma once

#include <pybind11/stl.h>

#include <array>
#include <utility>

#include "arrays.h"
#include "vivace/images.h"

namespace vivace::bindings {

using Two = std::array<double, 2>;

// What a layer says of a change of images, once for all calls.
template <class Change>
struct OfImages : Change {
    bool channels_first;
};

inline Images images_of(const Arguments& arg, const py::array& x, const char* name, bool channels_first) {
    const index n = arg.size(x, name, 4, 0), a = x.shape(1), b = x.shape(2), c = x.shape(3);
    return channels_first ? Images{n * a, b, c, 1, std::max<index>(1, a)} : Images{n, a, b, c};
}

// Calls f(images, from, to) for two arrays of images of one shape.
template <class F>
void with_images(const char* op, bool channels_first, const py::array& x, const char* name, const py::array& y,
                 const char* out_name, F&& f) {
    const Arguments arg(op);
    const Images s = images_of(arg, x, name, channels_first);
    arg.for_dtype(x, name, [&](auto zero) {
        using T = decltype(zero);
        const T* px = arg.in_flat<T>(x, name, s.size());
        T* py = arg.out<T>(y, out_name, {x.shape(0), x.shape(1), x.shape(2), x.shape(3)});
        without_gil([&] { f(s, px, py); });
    });
}

}  // namespace vivace::bindings
