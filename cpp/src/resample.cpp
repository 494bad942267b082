#include "vivace/resample.h"

#include <algorithm>
#include <cmath>

#include "parallel.h"
#include "simd.h"

namespace vivace {
namespace {

constexpr index chunk = 64;  // output pixels of a row that are worked on together

// Of each pixel of a chunk, along one axis: the two input pixels it is taken from, and their weights.
struct Taps {
    std::int32_t at[2][chunk];
    double weight[2][chunk];
};

template <Fill fill, bool bilinear>
void find_taps(index count, index size, double start, double slope, Taps& taps) {
    const double last = static_cast<double>(size - 1), period = static_cast<double>(fill == Fill::reflect ? 2 * size : size);
    for (index i = 0; i < count; ++i) {
        double at = start + slope * static_cast<double>(i);
        if constexpr (fill == Fill::reflect) {
            at += 0.5;
            at -= period * std::floor(at / period);
            at = std::min(at, period - at) - 0.5;
        }
        if constexpr (fill == Fill::reflect || fill == Fill::nearest) at = std::max(0.0, std::min(at, last));
        const double whole = bilinear ? std::floor(at) : std::nearbyint(at), part = bilinear ? at - whole : 0;
        for (int k = 0; k < 2; ++k) {
            double pixel = whole + k, weight = k ? part : 1 - part;
            if constexpr (fill == Fill::wrap) pixel -= period * std::floor(pixel / period);
            if constexpr (fill == Fill::constant) weight = (pixel >= 0) & (pixel <= last) ? weight : 0;
            taps.at[k][i] = static_cast<std::int32_t>(std::max(0.0, std::min(pixel, last)));
            taps.weight[k][i] = weight;
        }
    }
}

using FindTaps = void (*)(index, index, double, double, Taps&);

FindTaps taps_of(const Affine& s) {
    switch (s.fill) {
        case Fill::constant: return s.bilinear ? find_taps<Fill::constant, true> : find_taps<Fill::constant, false>;
        case Fill::nearest: return s.bilinear ? find_taps<Fill::nearest, true> : find_taps<Fill::nearest, false>;
        case Fill::reflect: return s.bilinear ? find_taps<Fill::reflect, true> : find_taps<Fill::reflect, false>;
        default: return s.bilinear ? find_taps<Fill::wrap, true> : find_taps<Fill::wrap, false>;
    }
}

// Calls f(element of the output, elements of the input, weights, weight of the fill value) for each pixel of output row p.
template <class T, class F>
VIVACE_INLINE void for_each_pixel(const Affine& s, FindTaps find, const double* map, index p, F&& f) {
    Taps columns, rows;
    for (index q = 0; q < s.w; q += chunk) {
        const index count = std::min(chunk, s.w - q);
        const double y = static_cast<double>(p), x = static_cast<double>(q);
        find(count, s.w, map[0] * x + map[1] * y + map[2], map[0], columns);
        find(count, s.h, map[3] * x + map[4] * y + map[5], map[3], rows);
        for (index i = 0; i < count; ++i) {
            index from[4];
            T weights[4];
            for (int k = 0; k < 4; ++k) {
                from[k] = (rows.at[k / 2][i] * s.w + columns.at[k % 2][i]) * s.c;
                weights[k] = static_cast<T>(rows.weight[k / 2][i] * columns.weight[k % 2][i]);
            }
            const double inside = (rows.weight[0][i] + rows.weight[1][i]) * (columns.weight[0][i] + columns.weight[1][i]);
            f((p * s.w + q + i) * s.c, from, weights, static_cast<T>(1 - inside));
        }
    }
}

// Runs f(std::integral_constant) with the number of channels if it is small and common, so that their loop is unrolled; with
// 0 otherwise.
template <class F>
VIVACE_INLINE void with_few(index channels, F&& f) {
    if (channels == 1) return f(std::integral_constant<index, 1>{});
    if (channels == 3) return f(std::integral_constant<index, 3>{});
    f(std::integral_constant<index, 0>{});
}

}  // namespace

template <class T>
void affine_forward(const Affine& s, const double* maps, const T* x, T* y) {
    const FindTaps find = taps_of(s);
    const T value = s.fill == Fill::constant ? static_cast<T>(s.value) : T{0};
    const index image = s.h * s.w * s.c;
    const auto run = [&](auto few) {
        parallel_for(s.n * s.h, static_cast<double>(s.w * s.n * s.h) * 60, [&](index task, int) {
            const T* in = x + task / s.h * image;
            T* out = y + task / s.h * image;
            const double* map = maps + task / s.h * 6;
            for_each_pixel<T>(s, find, map, task % s.h, [&](index to, const index(&at)[4], const T(&w)[4], T outside) {
                const T rest = outside * value;
                if constexpr (few > 0) {
                    for (index i = 0; i < few; ++i)
                        out[to + i] = w[0] * in[at[0] + i] + w[1] * in[at[1] + i] + w[2] * in[at[2] + i] +
                                      w[3] * in[at[3] + i] + rest;
                } else {
                    for_each_vector<T>(s.c, [&](index i, auto n) {
                        vec<T> sum = broadcast(rest);
                        for (int k = 0; k < 4; ++k) sum += w[k] * load_n(in + at[k] + i, n);
                        store_n(out + to + i, sum, n);
                    });
                }
            });
        });
    };
    with_few(s.c, run);
}

template <class T>
void affine_backward(const Affine& s, const double* maps, const T* dy, T* dx) {
    const FindTaps find = taps_of(s);
    const index image = s.h * s.w * s.c;
    const auto run = [&](auto few) {
        parallel_for(s.n, static_cast<double>(s.w * s.n * s.h) * 60, [&](index task, int) {  // an image's pixels meet
            const T* in = dy + task * image;
            T* out = dx + task * image;
            std::fill_n(out, image, T{});
            for (index p = 0; p < s.h; ++p)
                for_each_pixel<T>(s, find, maps + task * 6, p, [&](index from, const index(&at)[4], const T(&w)[4], T) {
                    for (int k = 0; k < 4; ++k) {
                        if constexpr (few > 0) {
                            for (index i = 0; i < few; ++i) out[at[k] + i] += w[k] * in[from + i];
                        } else {
                            for_each_vector<T>(s.c, [&](index i, auto n) {
                                T* to = out + at[k] + i;
                                store_n(to, load_n(to, n) + w[k] * load_n(in + from + i, n), n);
                            });
                        }
                    }
                });
        });
    };
    with_few(s.c, run);
}

template <class T>
void multiply_bands(index outer, index inputs, index outputs, index inner, index width, const std::int32_t* first,
                    const T* weights, const T* x, T* y) {
    const auto run = [&](auto few) {
        parallel_for(outer, static_cast<double>(outer * outputs * inner * width) * 2, [&](index o, int) {
            for (index p = 0; p < outputs; ++p) {
                const T *in = x + (o * inputs + first[p]) * inner, *w = weights + p * width;
                T* out = y + (o * outputs + p) * inner;
                if constexpr (few > 0) {
                    T sums[few] = {};
                    for (index k = 0; k < width; ++k)
                        for (index i = 0; i < few; ++i) sums[i] += w[k] * in[k * few + i];
                    std::copy_n(sums, few, out);
                } else {
                    for_each_vector<T>(inner, [&](index i, auto n) {
                        vec<T> sum{};
                        for (index k = 0; k < width; ++k) sum += w[k] * load_n(in + k * inner + i, n);
                        store_n(out + i, sum, n);
                    });
                }
            }
        });
    };
    with_few(inner, run);
}

#define INSTANTIATE(T)                                                                          \
    template void affine_forward(const Affine&, const double*, const T*, T*);                   \
    template void affine_backward(const Affine&, const double*, const T*, T*);                  \
    template void multiply_bands(index, index, index, index, index, const std::int32_t*, const T*, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
