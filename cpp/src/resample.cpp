#include "vivace/resample.h"

#include <algorithm>
#include <cmath>

#include "parallel.h"
#include "philox.h"
#include "pixels.h"
#include "vmath.h"

namespace vivace {
namespace {

constexpr index chunk = 64;  // output pixels of a row that are worked on together

// Of each pixel of a chunk: the elements where its four input pixels begin (the nearest one only, if no others count),
// their weights, and that of the fill value.
struct Taps {
    alignas(vector_bytes) std::int64_t at[4][chunk];
    alignas(vector_bytes) double weight[4][chunk], outside[chunk];
};

// Along one axis: the two pixels around each place, as numbers within the image, and their weights.
struct Pair {
    vec<double> pixel[2], weight[2];
};

constexpr double rounding = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer, found in the lowest bits

VIVACE_INLINE vec<double> cut(vec<double> x, double high) {
    x = x > 0.0 ? x : vec<double>{};
    return x > high ? broadcast(high) : x;
}

template <Fill fill, bool bilinear>
VIVACE_INLINE Pair pair_around(vec<double> at, double size) {
    const double last = size - 1;
    if constexpr (fill == Fill::reflect) {  // at an outer edge the next image begins, mirrored
        at += 0.5;
        at -= 2 * size * floor(at * (0.5 / size));
        const vec<double> back = 2 * size - at;
        at = (at < back ? at : back) - 0.5;
    }
    if constexpr (fill == Fill::reflect || fill == Fill::nearest) at = cut(at, last);
    const vec<double> whole = bilinear ? floor(at) : (at + rounding) - rounding;
    Pair pair{{whole, whole + 1.0}, {1.0 - (at - whole), at - whole}};
    if constexpr (!bilinear) pair.weight[0] = broadcast(1.0), pair.weight[1] = vec<double>{};
    for (int k = 0; k < 2; ++k) {
        vec<double>& pixel = pair.pixel[k];
        // (halves, so that no quotient lies at a whole number)
        if constexpr (fill == Fill::wrap) pixel -= size * floor((pixel + 0.5) * (1 / size));
        if constexpr (fill == Fill::constant)
            pair.weight[k] = (pixel >= 0.0) & (pixel <= last) ? pair.weight[k] : vec<double>{};
        pixel = cut(pixel, last);
    }
    return pair;
}

// The taps of `count` pixels of output row p from column q on.
template <Fill fill, bool bilinear>
void find_taps(const Affine& s, const double* map, index p, index q, index count, Taps& taps) {
    const double v = static_cast<double>(p), h = static_cast<double>(s.h), w = static_cast<double>(s.w);
    const double channels = static_cast<double>(s.c), column = map[1] * v + map[2], row = map[4] * v + map[5];
    vec<double> u;
    for (index i = 0; i < lanes<double>; ++i) u[i] = static_cast<double>(q + i);
    for (index i = 0; i < count; i += lanes<double>, u += static_cast<double>(lanes<double>)) {
        const Pair columns = pair_around<fill, bilinear>(map[0] * u + column, w);
        const Pair rows = pair_around<fill, bilinear>(map[3] * u + row, h);
        for (int k = 0; k < (bilinear ? 4 : 1); ++k) {
            const vec<double> element = (rows.pixel[k / 2] * w + columns.pixel[k % 2]) * channels + rounding;
            store(taps.at[k] + i, bit_cast<vec<std::int64_t>>(element) - bit_cast<std::int64_t>(rounding));
            store(taps.weight[k] + i, rows.weight[k / 2] * columns.weight[k % 2]);
        }
        store(taps.outside + i, 1.0 - (rows.weight[0] + rows.weight[1]) * (columns.weight[0] + columns.weight[1]));
    }
}

using FindTaps = void (*)(const Affine&, const double*, index, index, index, Taps&);

FindTaps taps_of(const Affine& s) {
    switch (s.fill) {
        case Fill::constant: return s.bilinear ? find_taps<Fill::constant, true> : find_taps<Fill::constant, false>;
        case Fill::nearest: return s.bilinear ? find_taps<Fill::nearest, true> : find_taps<Fill::nearest, false>;
        case Fill::reflect: return s.bilinear ? find_taps<Fill::reflect, true> : find_taps<Fill::reflect, false>;
        default: return s.bilinear ? find_taps<Fill::wrap, true> : find_taps<Fill::wrap, false>;
    }
}

// Runs f(few, number of taps), both constants.
template <class F>
void with_constants(const Affine& s, F&& f) {
    with_few(s.c, [&](auto few) {
        if (s.bilinear) return f(few, std::integral_constant<int, 4>{});
        f(few, std::integral_constant<int, 1>{});
    });
}

// Calls f(element of the output, i, taps) for each pixel of output row p, the i-th of the taps.
template <class F>
VIVACE_INLINE void for_each_pixel(const Affine& s, FindTaps find, const double* map, index p, F&& f) {
    Taps taps;
    for (index q = 0; q < s.w; q += chunk) {
        const index count = std::min(chunk, s.w - q);
        find(s, map, p, q, count, taps);
        for (index i = 0; i < count; ++i) f((p * s.w + q + i) * s.c, i, taps);
    }
}

double cost(const Affine& s) { return static_cast<double>(s.n * s.h * s.w) * 40; }

}  // namespace

template <class T>
void affine_forward(const Affine& s, const double* maps, const T* x, T* y) {
    const FindTaps find = taps_of(s);
    const T value = s.fill == Fill::constant ? static_cast<T>(s.value) : T{0};
    const index image = s.h * s.w * s.c;
    with_constants(s, [&](auto few, auto count) {
        parallel_for(s.n * s.h, cost(s), [&](index task, int) {
            const T* in = x + task / s.h * image;
            T* out = y + task / s.h * image;
            for_each_pixel(s, find, maps + task / s.h / s.share * 6, task % s.h, [&](index to, index i, const Taps& taps) {
                const T rest = static_cast<T>(taps.outside[i]) * value;
                if constexpr (few > 0) {
                    T sums[few];
                    std::fill_n(sums, few, rest);
                    for (int k = 0; k < count; ++k)
                        for (index c = 0; c < few; ++c)
                            sums[c] += static_cast<T>(taps.weight[k][i]) * in[taps.at[k][i] + c];
                    std::copy_n(sums, few, out + to);
                } else {
                    for_each_vector<T>(s.c, [&](index c, auto n) {
                        vec<T> sum = broadcast(rest);
                        for (int k = 0; k < count; ++k)
                            sum += static_cast<T>(taps.weight[k][i]) * load_n(in + taps.at[k][i] + c, n);
                        store_n(out + to + c, sum, n);
                    });
                }
            });
        });
    });
}

template <class T>
void affine_backward(const Affine& s, const double* maps, const T* dy, T* dx) {
    const FindTaps find = taps_of(s);
    const index image = s.h * s.w * s.c;
    with_constants(s, [&](auto few, auto count) {
        parallel_for(s.n, cost(s), [&](index task, int) {  // a whole image, whose pixels meet
            const T* in = dy + task * image;
            T* out = dx + task * image;
            std::fill_n(out, image, T{});
            for (index p = 0; p < s.h; ++p)
                for_each_pixel(s, find, maps + task / s.share * 6, p, [&](index from, index i, const Taps& taps) {
                    for (int k = 0; k < count; ++k) {
                        const T weight = static_cast<T>(taps.weight[k][i]);
                        T* to = out + taps.at[k][i];
                        if constexpr (few > 0) {
                            for (index c = 0; c < few; ++c) to[c] += weight * in[from + c];
                        } else {
                            for_each_vector<T>(s.c, [&](index c, auto n) {
                                store_n(to + c, load_n(to + c, n) + weight * load_n(in + from + c, n), n);
                            });
                        }
                    }
                });
        });
    });
}

void random_maps(const RandomMovement& r, index n, index h, index w, std::uint64_t seed, std::uint64_t stream, double* maps) {
    const double height = static_cast<double>(h), width = static_cast<double>(w);
    for_each_draw(seed, stream, n, [&](index i, const double(&u)[4]) {
        const double first = r.lower[0] + (r.upper[0] - r.lower[0]) * u[0];
        const double second = r.alike ? first : r.lower[1] + (r.upper[1] - r.lower[1]) * u[1];
        double a0 = 1, a1 = 0, b0 = 0, b1 = 1, x = (width - 1) / 2, y = (height - 1) / 2;  // what stays in place: x, y
        double right = 0, down = 0;
        switch (r.movement) {
            case Movement::turn: {
                const double angle = first * 6.2831853071795865, sine = std::sin(angle);
                a0 = b1 = std::cos(angle), a1 = -sine, b0 = sine;
                break;
            }
            case Movement::zoom: a0 = 1 + second, b1 = 1 + first; break;
            case Movement::shift: right = second * width, down = first * height; break;
            case Movement::shear: {
                const double sign = u[2] < 0.5 ? 1 : -1;
                a1 = sign * first, b0 = sign * second, x = y = 0;
                break;
            }
        }
        const double map[] = {a0, a1, x - a0 * x - a1 * y - right, b0, b1, y - b0 * x - b1 * y - down};
        std::copy_n(map, 6, maps + 6 * i);
    });
}

template <class T>
void random_affine_forward(const Affine& s, const RandomMovement& r, std::uint64_t seed, std::uint64_t stream, const T* x,
                           T* y) {
    Scratch<double> maps(s.n / s.share * 6);
    random_maps(r, s.n / s.share, s.h, s.w, seed, stream, maps);
    affine_forward(s, maps.get(), x, y);
}

template <class T>
void random_affine_backward(const Affine& s, const RandomMovement& r, std::uint64_t seed, std::uint64_t stream, const T* dy,
                            T* dx) {
    Scratch<double> maps(s.n / s.share * 6);
    random_maps(r, s.n / s.share, s.h, s.w, seed, stream, maps);
    affine_backward(s, maps.get(), dy, dx);
}

namespace {

// multiply_bands() of single elements: as many rows of them as a register has lanes, side by side.
template <class T>
void multiply_rows(index outer, index inputs, index outputs, index width, const std::int32_t* first, const T* weights,
                   const T* x, T* y) {
    constexpr index side = lanes<T>;
    const index tasks = (outer + side - 1) / side, size = (inputs + side - 1) / side * side * side;
    const int threads = get_num_threads();
    const Scratch<T> scratch(threads * size);
    parallel_for(tasks, static_cast<double>(outer * (inputs + outputs * width)) * 2, threads, [&](index task, int thread) {
        T* const turned = scratch + thread * size;
        const auto row = [&](index r) { return std::min(task * side + r, outer - 1); };  // the last one again where none is left
        vec<T> block[side] = {};
        for_each_vector<T>(inputs, [&](index i, auto n) {
            for (index r = 0; r < side; ++r) block[r] = load_n(x + row(r) * inputs + i, n);
            transpose<T>(block);
            for (index r = 0; r < side; ++r) store(turned + (i + r) * side, block[r]);
        });
        for_each_vector<T>(outputs, [&](index p, auto n) {
            for (index q = 0; q < n; ++q) {
                const T *in = turned + first[p + q] * side, *w = weights + (p + q) * width;
                block[q] = vec<T>{};
                for (index k = 0; k < width; ++k) block[q] += w[k] * load(in + k * side);
            }
            transpose<T>(block);
            for (index r = 0; r < side; ++r) store_n(y + row(r) * outputs + p, block[r], n);
        });
    });
}

}  // namespace

template <class T>
void multiply_bands(index outer, index inputs, index outputs, index inner, index width, const std::int32_t* first,
                    const T* weights, const T* x, T* y) {
    if (inner == 1 && 2 * outer >= lanes<T>) return multiply_rows(outer, inputs, outputs, width, first, weights, x, y);
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
    if (inner == 3) return run(std::integral_constant<index, 3>{});
    run(std::integral_constant<index, 0>{});
}

index Resampling::input_size() const {
    index size = n * c;
    for (const Bands& axis : axes) size *= axis.inputs;
    return size;
}

index Resampling::output_size() const {
    index size = n * c;
    for (const Bands& axis : axes) size *= axis.outputs();
    return size;
}

template <class T>
void resample(const Resampling& s, const T* x, T* y) {
    if (s.input_size() == 0 || s.output_size() == 0) return std::fill_n(y, s.output_size(), T{}), void();
    index outer = s.input_size() / s.c, inner = s.c, largest = 0;
    for (std::size_t i = s.axes.size(), size = static_cast<std::size_t>(s.input_size()); i-- > 1;) {
        size = size / static_cast<std::size_t>(s.axes[i].inputs) * s.axes[i].first.size();
        largest = std::max(largest, static_cast<index>(size));
    }
    const Scratch<T> scratch(2 * largest);
    const T* from = x;
    for (std::size_t i = s.axes.size(); i-- > 0;) {
        const Bands& axis = s.axes[i];
        T* const to = i == 0 ? y : scratch + (i % 2 ? largest : 0);
        outer /= axis.inputs;
        multiply_bands(outer, axis.inputs, axis.outputs(), inner, axis.width, axis.first.data(), axis.weights_as(T{}), from, to);
        inner *= axis.outputs();
        from = to;
    }
}

namespace {

// Calls f(element of the inner array, of the outer, elements) for each row of the outer array: the rows that hold nothing of
// the inner one have none.
template <class F>
void for_each_row(const Margins& s, F&& f) {
    const index slices = s.whole(0), rows = s.whole(1), width = s.whole(2) * s.channels, inside = s.sizes[2] * s.channels;
    parallel_for(s.n * slices * rows, static_cast<double>(4 * s.outer_size()), [&](index task, int) {
        const index slice = task / rows % slices - s.before[0], row = task % rows - s.before[1], n = task / rows / slices;
        const bool within = slice >= 0 && slice < s.sizes[0] && row >= 0 && row < s.sizes[1];
        f(((n * s.sizes[0] + slice) * s.sizes[1] + row) * inside, task * width, within ? inside : 0);
    });
}

}  // namespace

template <class T>
void pad(const Margins& s, const T* x, T* y) {
    const index width = s.whole(2) * s.channels, left = s.before[2] * s.channels;
    for_each_row(s, [&](index from, index to, index count) {
        if (count == 0) {
            std::fill_n(y + to, width, T{});
            return;
        }
        std::fill_n(y + to, left, T{});
        std::copy_n(x + from, count, y + to + left);
        std::fill_n(y + to + left + count, width - left - count, T{});
    });
}

template <class T>
void crop(const Margins& s, const T* y, T* x) {
    const index left = s.before[2] * s.channels;
    for_each_row(s, [&](index to, index from, index count) { std::copy_n(y + from + left, count, x + to); });
}

#define INSTANTIATE(T)                                                                                                  \
    template void affine_forward(const Affine&, const double*, const T*, T*);                                           \
    template void affine_backward(const Affine&, const double*, const T*, T*);                                          \
    template void random_affine_forward(const Affine&, const RandomMovement&, std::uint64_t, std::uint64_t, const T*, T*);  \
    template void random_affine_backward(const Affine&, const RandomMovement&, std::uint64_t, std::uint64_t, const T*, T*); \
    template void resample(const Resampling&, const T*, T*);                                                            \
    template void pad(const Margins&, const T*, T*);                                                                    \
    template void crop(const Margins&, const T*, T*);                                                                   \
    template void multiply_bands(index, index, index, index, index, const std::int32_t*, const T*, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
