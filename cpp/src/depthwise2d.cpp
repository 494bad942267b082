// Channels stand in registers and never meet, so there is no matrix product: a tile of neighbouring pixels shares each
// filter element. Where a channel has several filters its image is repeated first. All three directions share rows out
// to threads; the weight gradient's partial sums are split by the shape alone and added in order.
#include "vivace/depthwise2d.h"

#include <stdexcept>
#include <string>

#include "parallel.h"
#include "simd.h"
#include "tile.h"
#include "vivace/elementwise.h"
#include "vivace/gemm.h"

namespace vivace {
namespace {

// Each channel `times` times in a row; the original when that is once.
template <class T>
class Repeated {
public:
    Repeated(const T* x, index pixels, index channels, index times) : scratch_(times > 1 ? pixels * channels * times : 0), data(x) {
        if (times == 1) return;
        data = scratch_;
        parallel_blocks(pixels * channels, static_cast<double>(times), [&](index first, index last) {
            for (index i = first; i < last; ++i) std::fill_n(scratch_ + i * times, times, x[i]);
        });
    }

private:
    Scratch<T> scratch_;

public:
    const T* data;
};

// Images with zero borders made real a few rows at a time: a copy of the whole batch would leave the caches and cost more
// than the convolution.
template <class T>
struct Bordered {
    const T* x;
    index h, w, c, top, bottom, left, right;

    static constexpr index band = 16;  // output rows at a time

    bool bare() const { return top + bottom + left + right == 0; }
    index row_stride() const { return (left + w + right) * c; }
    // `count` rows of an image with its borders, in `scratch` (or in place without any).
    const T* rows(index image, index first, index count, T* scratch) const {
        if (bare()) return x + (image * h + first) * w * c;
        for (index r = 0; r < count; ++r) {
            T* out = scratch + r * row_stride();
            const index row = first + r - top;
            if (row < 0 || row >= h) {
                std::fill_n(out, row_stride(), T{});
                continue;
            }
            std::fill_n(out, left * c, T{});
            std::copy_n(x + (image * h + row) * w * c, w * c, out + left * c);
            std::fill_n(out + (left + w) * c, right * c, T{});
        }
        return scratch;
    }
    // Elements that the scratch of one thread needs for output rows `stride` apart that reach over `reach` rows each.
    index scratch_size(index stride, index reach) const { return bare() ? 0 : ((band - 1) * stride + reach) * row_stride(); }
};

// One output row of a convolution with one filter for each of `channels`, over an image without borders to care for.
template <class T>
struct Row {
    index channels, columns, kh, kw;
    index row_step, column_step, stride;  // input elements between kernel rows, kernel columns, output columns
    const T *filters, *bias;
    bool relu;

    // All channels of a few pixels, then the next pixels: memory is walked in its own order, however many channels.
    void run(const T* in, T* out) const {
        index q = 0;
        if (kw == 3 && column_step == channels && stride == channels)
            for (; q + 8 <= columns; q += 8)
                for_each_vector<T>(channels, [&](index c, auto n) { neighbours<8>(in, out, c, q, n); });
        for (; q + 8 <= columns; q += 8)
            for_each_vector<T>(channels, [&](index c, auto n) { pixels<8>(in, out, c, q, n); });
        for (; q < columns; ++q) for_each_vector<T>(channels, [&](index c, auto n) { pixels<1>(in, out, c, q, n); });
    }

private:
    // Three columns of a kernel, one pixel apart: each pixel is loaded once for the three sums it is part of.
    template <int count, class N>
    VIVACE_INLINE void neighbours(const T* in, T* out, index c, index q, N n) const {
        vec<T> sums[count];
        const vec<T> start = bias ? load_n(bias + c, n) : vec<T>{};
#pragma GCC unroll 8
        for (int r = 0; r < count; ++r) sums[r] = start;
        for (index i = 0; i < kh; ++i) {
            const T* f = filters + i * 3 * channels + c;
            const vec<T> w[3] = {load_n(f, n), load_n(f + channels, n), load_n(f + 2 * channels, n)};
            const T* x = in + i * row_step + q * channels + c;
#pragma GCC unroll 10
            for (int t = 0; t < count + 2; ++t, x += channels) {
                const vec<T> pixel = load_n(x, n);
#pragma GCC unroll 3
                for (int j = 0; j < 3; ++j)
                    if (t - j >= 0 && t - j < count) sums[t - j] += pixel * w[j];
            }
        }
        T* y = out + q * channels + c;
#pragma GCC unroll 8
        for (int r = 0; r < count; ++r, y += channels) store_n(y, relu ? maximum(vec<T>{}, sums[r]) : sums[r], n);
    }
    template <index count, class N>
    VIVACE_INLINE void pixels(const T* in, T* out, index c, index q, N n) const {
        vec<T> sums[count];
        const vec<T> start = bias ? load_n(bias + c, n) : vec<T>{};
#pragma GCC unroll 8
        for (index r = 0; r < count; ++r) sums[r] = start;
        for (index i = 0; i < kh; ++i)
            for (index j = 0; j < kw; ++j) {
                const vec<T> w = load_n(filters + (i * kw + j) * channels + c, n);
                const T* x = in + i * row_step + j * column_step + q * stride + c;
#pragma GCC unroll 8
                for (index r = 0; r < count; ++r) sums[r] += load_n(x + r * stride, n) * w;
            }
#pragma GCC unroll 8
        for (index r = 0; r < count; ++r)
            store_n(out + (q + r) * channels + c, relu ? maximum(vec<T>{}, sums[r]) : sums[r], n);
    }
};

// All output rows of n images, p each; output row r reads `reach` bordered rows from first_row + r * stride on.
template <class T>
void run_rows(const Row<T>& row, const Bordered<T>& in, index n, index p, index stride, index reach, index first_row,
              index first_element, double cost, T* y) {
    const index bands = (p + in.band - 1) / in.band, per_thread = in.scratch_size(stride, reach);
    const int threads = get_num_threads();
    Scratch<T> scratch(threads * per_thread);
    parallel_for(n * bands, cost, threads, [&](index task, int thread) {
        const Part mine(p, bands, task % bands);
        const T* from = in.rows(task / bands, first_row + mine.first * stride, (mine.size() - 1) * stride + reach,
                                scratch + thread * per_thread);
        for (index r = 0; r < mine.size(); ++r)
            row.run(from + r * stride * in.row_stride() + first_element,
                    y + (task / bands * p + mine.first + r) * row.columns * row.channels);
    });
}

}  // namespace

void check_depthwise2d(const Conv2DShape& s) {
    if (s.groups != s.c)
        throw std::invalid_argument("depthwise2d: groups must equal the input's " + std::to_string(s.c) +
                                    " channels, received " + std::to_string(s.groups));
}

template <class T>
void depthwise2d_forward(const Conv2DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y) {
    const Repeated<T> repeated(x, s.n * s.h * s.w, s.c, s.o / s.c);
    const Bordered<T> in{repeated.data, s.h, s.w, s.o, s.pad_top, s.pad_bottom, s.pad_left, s.pad_right};
    const Row<T> row{s.o, s.q, s.kh, s.kw, s.dilation_h * in.row_stride(), s.dilation_w * s.o, s.stride_w * s.o, w, bias,
                     activation == Activation::relu};
    run_rows(row, in, s.n, s.p, s.stride_h, s.dilation_h * (s.kh - 1) + 1, 0, 0, static_cast<double>(s.flops()), y);
    if (activation != Activation::linear && activation != Activation::relu)
        activation_forward(activation, s.output_size(), y, y);
}

namespace {

// With strides 1 the input gradient is a convolution of dy with the mirrored filters.
template <class T>
void mirrored_convolution(const Conv2DShape& s, const T* dy, const T* w, T* dx) {
    const index reach_h = s.dilation_h * (s.kh - 1), reach_w = s.dilation_w * (s.kw - 1);
    const index top = std::max<index>(0, reach_h - s.pad_top), left = std::max<index>(0, reach_w - s.pad_left);
    const Bordered<T> grad{dy, s.p, s.q, s.o, top, std::max<index>(0, s.h + s.pad_top - s.p), left,
                           std::max<index>(0, s.w + s.pad_left - s.q)};
    Scratch<T> mirrored(s.kernel_size());
    for (index t = 0; t < s.kh * s.kw; ++t) std::copy_n(w + t * s.o, s.o, mirrored + (s.kh * s.kw - 1 - t) * s.o);
    const Row<T> row{s.o, s.w, s.kh, s.kw, s.dilation_h * grad.row_stride(), s.dilation_w * s.o, s.o, mirrored, nullptr,
                     false};
    run_rows(row, grad, s.n, s.h, 1, reach_h + 1, top + s.pad_top - reach_h, (left + s.pad_left - reach_w) * s.o,
             static_cast<double>(s.flops()), dx);
}

// With larger strides every gradient row collects from the output rows that its row entered.
template <class T>
void collected(const Conv2DShape& s, const T* dy, const T* w, T* dx) {
    parallel_for(s.n * s.h, 4 * static_cast<double>(s.flops()), [&](index task, int) {
        const index n = task / s.h, h = task % s.h;
        T* out = dx + task * s.w * s.o;
        std::fill_n(out, s.w * s.o, T{});
        for (index i = 0; i < s.kh; ++i) {
            const index t = h + s.pad_top - i * s.dilation_h;
            if (t < 0 || t % s.stride_h || t / s.stride_h >= s.p) continue;
            const T* in = dy + (n * s.p + t / s.stride_h) * s.q * s.o;
            for_each_vector<T>(s.o, [&](index c, auto width) {
                for (index j = 0; j < s.kw; ++j) {
                    const vec<T> filter = load_n(w + (i * s.kw + j) * s.o + c, width);
                    for (index q = 0; q < s.q; ++q) {
                        const index column = q * s.stride_w + j * s.dilation_w - s.pad_left;
                        if (column < 0 || column >= s.w) continue;
                        T* at = out + column * s.o + c;
                        store_n(at, load_n(at, width) + load_n(in + q * s.o + c, width) * filter, width);
                    }
                }
            });
        }
    });
}

}  // namespace

template <class T>
void depthwise2d_input_gradient(const Conv2DShape& s, const T* dy, const T* w, T* dx) {
    const index times = s.o / s.c, pixels = s.n * s.h * s.w;
    Scratch<T> each(times > 1 ? pixels * s.o : 0);
    T* out = times > 1 ? each.get() : dx;
    if (s.stride_h == 1 && s.stride_w == 1)
        mirrored_convolution(s, dy, w, out);
    else
        collected(s, dy, w, out);
    if (times == 1) return;
    parallel_blocks(pixels * s.c, static_cast<double>(times), [&](index first, index last) {
        for (index i = first; i < last; ++i) {
            T sum = 0;
            for (index k = 0; k < times; ++k) sum += out[i * times + k];
            dx[i] = sum;
        }
    });
}

namespace {

// sums(t, c) += sum over the pixels of one output row of x at offset t times dy, for `count` taps. in and dy start at
// the row's first window and pixel.
template <index count, class T, class N>
VIVACE_INLINE void add_taps(const Conv2DShape& s, const T* in, const T* dy, const index* offsets, index c, T* sums, N n) {
    vec<T> total[count];
    for (index t = 0; t < count; ++t) total[t] = load_n(sums + t * s.o + c, n);
    for (index q = 0; q < s.q; ++q) {
        const vec<T> g = load_n(dy + q * s.o + c, n);
        for (index t = 0; t < count; ++t) total[t] += load_n(in + q * s.stride_w * s.o + offsets[t] + c, n) * g;
    }
    for (index t = 0; t < count; ++t) store_n(sums + t * s.o + c, total[t], n);
}

// sums += over `rows` output rows; x at the receptive field of the first, `row_step` elements from one to the next.
template <class T>
void add_rows(const Conv2DShape& s, const T* x, index row_step, const T* dy, index rows, const index* offsets, T* sums) {
    const index taps = s.kh * s.kw;
    for (index row = 0; row < rows; ++row, x += row_step, dy += s.q * s.o)
        for_each_vector<T>(s.o, [&](index c, auto n) {
            index t = 0;
            for (; t + 9 <= taps; t += 9) add_taps<9>(s, x, dy, offsets + t, c, sums + t * s.o, n);
            for (; t + 3 <= taps; t += 3) add_taps<3>(s, x, dy, offsets + t, c, sums + t * s.o, n);
            for (; t < taps; ++t) add_taps<1>(s, x, dy, offsets + t, c, sums + t * s.o, n);
        });
}

}  // namespace

template <class T>
void depthwise2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db) {
    const Repeated<T> repeated(x, s.n * s.h * s.w, s.c, s.o / s.c);
    const Bordered<T> in{repeated.data, s.h, s.w, s.o, s.pad_top, s.pad_bottom, s.pad_left, s.pad_right};
    const index reach = s.dilation_h * (s.kh - 1) + 1, per_thread = in.scratch_size(s.stride_h, reach);
    const int threads = get_num_threads();
    Scratch<T> scratch(threads * per_thread);
    const index taps = s.kh * s.kw, parts = std::min<index>(s.n * s.p, 16);
    Scratch<index> offsets(taps);
    for (index t = 0; t < taps; ++t)
        offsets[t] = t / s.kw * s.dilation_h * in.row_stride() + t % s.kw * s.dilation_w * s.o;
    Scratch<T> partial(parts * taps * s.o);
    parallel_for(parts, static_cast<double>(s.flops()), threads, [&](index part, int thread) {
        const Part rows(s.n * s.p, parts, part);
        T* sums = partial + part * taps * s.o;
        std::fill_n(sums, taps * s.o, T{});
        for (index row = rows.first, size = 0; row < rows.last; row += size) {
            size = std::min(std::min(in.band, rows.last - row), s.p - row % s.p);  // rows of one image
            const T* band = in.rows(row / s.p, row % s.p * s.stride_h, (size - 1) * s.stride_h + reach,
                                    scratch + thread * per_thread);
            add_rows(s, band, in.row_stride() * s.stride_h, dy + row * s.q * s.o, size, offsets, sums);
        }
    });
    for (index part = 0; part < parts; ++part)
        for (index i = 0; i < taps * s.o; ++i) dw[i] += partial[part * taps * s.o + i];
    if (db) add_column_sums(s.n * s.p * s.q, s.o, dy, s.o, db);
}

#define INSTANTIATE(T)                                                                                   \
    template void depthwise2d_forward(const Conv2DShape&, const T*, const T*, const T*, Activation, T*); \
    template void depthwise2d_input_gradient(const Conv2DShape&, const T*, const T*, T*);                \
    template void depthwise2d_weight_gradient(const Conv2DShape&, const T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
