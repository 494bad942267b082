// Convolution the textbook way: each window of the image becomes a row of a column matrix, and one matrix product does
// the rest. It moves kh*kw times the image through memory; conv2d.cpp shows how to do without.
#include <algorithm>

#include "parallel.h"
#include "vivace/conv2d.h"
#include "vivace/elementwise.h"
#include "vivace/gemm.h"

namespace vivace::im2col {
namespace {

// One group of channels of one convolution.
struct Group {
    const Conv2DShape& s;
    index g;

    index channels() const { return s.c / s.groups; }
    index filters() const { return s.o / s.groups; }
    index k() const { return s.kh * s.kw * channels(); }
    index pixels() const { return s.n * s.p * s.q; }
};

// Calls f(pixel, tap, source) for every window element: source is the first channel in x, or -1 in the padding.
template <class F>
void for_each_window(const Group& group, F&& f) {
    const Conv2DShape& s = group.s;
    for (index n = 0; n < s.n; ++n)
        for (index p = 0; p < s.p; ++p)
            for (index q = 0; q < s.q; ++q)
                for (index i = 0; i < s.kh; ++i)
                    for (index j = 0; j < s.kw; ++j) {
                        const index h = p * s.stride_h + i * s.dilation_h - s.pad_top;
                        const index w = q * s.stride_w + j * s.dilation_w - s.pad_left;
                        const bool inside = h >= 0 && h < s.h && w >= 0 && w < s.w;
                        f((n * s.p + p) * s.q + q, i * s.kw + j,
                          inside ? ((n * s.h + h) * s.w + w) * s.c + group.g * group.channels() : -1);
                    }
}

template <class T>
void image_to_columns(const Group& group, const T* x, T* columns) {
    const index c = group.channels();
    for_each_window(group, [&](index pixel, index tap, index source) {
        T* out = columns + pixel * group.k() + tap * c;
        if (source < 0)
            std::fill_n(out, c, T{});
        else
            std::copy_n(x + source, c, out);
    });
}

// The group's columns of a matrix of `rows` rows and o columns, as a matrix of its own.
template <class T>
void take_filters(const Group& group, index rows, const T* all, T* mine) {
    for (index r = 0; r < rows; ++r)
        std::copy_n(all + r * group.s.o + group.g * group.filters(), group.filters(), mine + r * group.filters());
}

}  // namespace

template <class T>
void conv2d_forward(const Conv2DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y) {
    for (index g = 0; g < s.groups; ++g) {
        const Group group{s, g};
        const index filters = group.filters();
        Scratch<T> columns(group.pixels() * group.k()), kernel(group.k() * filters), out(group.pixels() * filters);
        image_to_columns(group, x, columns.get());
        take_filters(group, group.k(), w, kernel.get());
        gemm<T>(group.pixels(), filters, group.k(), columns, false, kernel, false, out, false);
        for (index m = 0; m < group.pixels(); ++m)
            for (index o = 0; o < filters; ++o)
                y[m * s.o + g * filters + o] = out[m * filters + o] + (bias ? bias[g * filters + o] : T{});
    }
    activation_forward(activation, s.output_size(), y, y);
}

template <class T>
void conv2d_input_gradient(const Conv2DShape& s, const T* dy, const T* w, T* dx) {
    std::fill_n(dx, s.input_size(), T{});
    for (index g = 0; g < s.groups; ++g) {
        const Group group{s, g};
        const index filters = group.filters(), c = group.channels();
        Scratch<T> columns(group.pixels() * group.k()), kernel(group.k() * filters), grad(group.pixels() * filters);
        take_filters(group, group.k(), w, kernel.get());
        take_filters(group, group.pixels(), dy, grad.get());
        gemm<T>(group.pixels(), group.k(), filters, grad, false, kernel, true, columns, false);
        for_each_window(group, [&](index pixel, index tap, index target) {
            if (target < 0) return;
            for (index i = 0; i < c; ++i) dx[target + i] += columns[pixel * group.k() + tap * c + i];
        });
    }
}

template <class T>
void conv2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db) {
    for (index g = 0; g < s.groups; ++g) {
        const Group group{s, g};
        const index filters = group.filters();
        Scratch<T> columns(group.pixels() * group.k()), kernel(group.k() * filters), grad(group.pixels() * filters);
        image_to_columns(group, x, columns.get());
        take_filters(group, group.pixels(), dy, grad.get());
        gemm<T>(group.k(), filters, group.pixels(), columns, true, grad, false, kernel, false);
        for (index k = 0; k < group.k(); ++k)
            for (index o = 0; o < filters; ++o) dw[k * s.o + g * filters + o] += kernel[k * filters + o];
    }
    if (!db) return;
    for (index m = 0; m < s.n * s.p * s.q; ++m)
        for (index o = 0; o < s.o; ++o) db[o] += dy[m * s.o + o];
}

#define INSTANTIATE(T)                                                                              \
    template void conv2d_forward(const Conv2DShape&, const T*, const T*, const T*, Activation, T*); \
    template void conv2d_input_gradient(const Conv2DShape&, const T*, const T*, T*);                \
    template void conv2d_weight_gradient(const Conv2DShape&, const T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace::im2col
