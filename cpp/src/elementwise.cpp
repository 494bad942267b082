#include "vivace/elementwise.h"

#include <cmath>

#include "map.h"
#include "philox.h"
#include "pixels.h"
#include "rows.h"
#include "vmath.h"

namespace vivace {

template <class T>
void activation_forward(Activation a, index size, const T* x, T* y) {
    switch (a) {
        case Activation::linear:
            if (x != y) map(size, cheap, y, [](vec<T> v) { return v; }, x);
            return;
        case Activation::relu:  // NaN stays NaN
            return map(size, cheap, y, [](vec<T> v) { return maximum(vec<T>{}, v); }, x);
        case Activation::sigmoid: return map(size, transcendental, y, [](vec<T> v) { return sigmoid<T>(v); }, x);
        case Activation::tanh: return map(size, transcendental, y, [](vec<T> v) { return tanh<T>(v); }, x);
    }
}

template <class T>
void activation_backward(Activation a, index size, const T* y, const T* dy, T* dx) {
    switch (a) {
        case Activation::linear:
            if (dy != dx) map(size, cheap, dx, [](vec<T> d) { return d; }, dy);
            return;
        case Activation::relu:
            return map(size, cheap, dx, [](vec<T> v, vec<T> d) { return v > T{0} ? d : vec<T>{}; }, y, dy);
        case Activation::sigmoid:
            return map(size, cheap, dx, [](vec<T> v, vec<T> d) { return d * v * (T{1} - v); }, y, dy);
        case Activation::tanh:
            return map(size, cheap, dx, [](vec<T> v, vec<T> d) { return d * (T{1} - v * v); }, y, dy);
    }
}

template <class T>
void softmax_forward(index rows, index columns, const T* x, T* y) {
    parallel_rows(rows, columns, transcendental, [&](index r) { softmax_row(columns, x + r * columns, y + r * columns); });
}

template <class T>
void softmax_backward(index rows, index columns, const T* y, const T* dy, T* dx) {
    parallel_rows(rows, columns, cheap, [&](index r) {
        const T *yr = y + r * columns, *dr = dy + r * columns;
        T* out = dx + r * columns;
        vec<T> sum{};
        for_each_vector<T>(columns, [&](index i, auto n) { sum += load_n(yr + i, n) * load_n(dr + i, n); });
        const T dot = horizontal_sum<T>(sum);
        for_each_vector<T>(columns,
                           [&](index i, auto n) { store_n(out + i, load_n(yr + i, n) * (load_n(dr + i, n) - dot), n); });
    });
}

template <class T>
void log_softmax_forward(index rows, index columns, const T* x, T* y) {
    parallel_rows(rows, columns, transcendental, [&](index r) {
        const T* xr = x + r * columns;
        const T top = row_maximum(columns, xr);
        vec<T> sums{};
        for_each_vector<T>(columns, [&](index i, auto n) {
            sums += fill_from<T>(exp<T>(load_n(xr + i, n) - top), n, T{0});
        });
        const T log_sum = std::log(horizontal_sum<T>(sums));
        for_each_vector<T>(columns,
                           [&](index i, auto n) { store_n(y + r * columns + i, (load_n(xr + i, n) - top) - log_sum, n); });
    });
}

template <class T>
void log_softmax_backward(index rows, index columns, const T* y, const T* dy, T* dx) {
    parallel_rows(rows, columns, transcendental, [&](index r) {
        const T *yr = y + r * columns, *dr = dy + r * columns;
        vec<T> sums{};
        for_each_vector<T>(columns, [&](index i, auto n) { sums += load_n(dr + i, n); });
        const T sum = horizontal_sum<T>(sums);
        for_each_vector<T>(columns, [&](index i, auto n) {
            store_n(dx + r * columns + i, load_n(dr + i, n) - exp<T>(load_n(yr + i, n)) * sum, n);
        });
    });
}

namespace {

// Runs f(i, n, factor) for each register of `size` elements, with dropout's factors.
template <class T, class F>
void with_dropout_factors(index size, double rate, std::uint64_t seed, std::uint64_t stream, F&& f) {
    parallel_blocks(size, transcendental, [&](index first, index last) {
        T factors[Philox::words];
        for (index i = first; i < last; i += Philox::words) {
            dropout_factors(rate, seed, stream, static_cast<std::uint64_t>(i / 4), factors);
            for_each_vector<T>(std::min<index>(Philox::words, last - i),
                               [&](index j, auto n) { f(i + j, n, load_n(factors + j, n)); });
        }
    });
}

// y = f(x, a, b), where a and b hold a number for each channel of x (outer, channels, inner). b may be null: zeros.
template <class T, class F>
void map_channels(index outer, index channels, index inner, const T* x, const T* a, const T* b, T* y, F&& f) {
    const auto b_of = [&](index c) { return broadcast(b ? b[c] : T{0}); };
    if (channels == 1) return map(outer * inner, cheap, y, [&](vec<T> v) { return f(v, broadcast(*a), b_of(0)); }, x);
    if (inner > 1)
        return parallel_rows(outer * channels, inner, cheap, [&](index r) {
            const vec<T> own_a = broadcast(a[r % channels]), own_b = b_of(r % channels);
            for_each_vector<T>(inner, [&](index i, auto n) {
                store_n(y + r * inner + i, f(load_n(x + r * inner + i, n), own_a, own_b), n);
            });
        });
    const index repeated = repeated_size<T>(channels);
    Scratch<T> as(repeated), bs(repeated);
    std::copy_n(a, channels, as.get());
    repeat(channels, repeated, as.get());
    std::fill_n(bs.get(), repeated, T{});
    if (b) {
        std::copy_n(b, channels, bs.get());
        repeat(channels, repeated, bs.get());
    }
    const index group = std::max<index>(1, 16384 / channels), groups = (outer + group - 1) / group;
    parallel_for(groups, static_cast<double>(outer * channels) * cheap, [&](index task, int) {
        const index first = task * group * channels, size = std::min(group, outer - task * group) * channels;
        for_each_in_pixels<T>(size, repeated, [&](index i, index j, auto n) {
            store_n(y + first + i, f(load_n(x + first + i, n), load(as + j), load(bs + j)), n);
        });
    });
}

struct Alpha {
    static constexpr double lowest = -1.7580993408473768;  // of selu
    explicit Alpha(double rate)
        : scale(1 / std::sqrt((1 - rate) * (1 + rate * lowest * lowest))), offset(-scale * rate * lowest) {}
    double scale, offset;
};

}  // namespace

template <class T>
void dropout(index size, const T* x, double rate, std::uint64_t seed, std::uint64_t stream, T* y) {
    if (rate >= 1) return std::fill_n(y, size, T{}), void();
    with_dropout_factors<T>(size, rate, seed, stream, [=](index i, auto n, vec<T> factor) {
        store_n(y + i, factor > T{0} ? load_n(x + i, n) * factor : vec<T>{}, n);
    });
}

template <class T>
void spatial_dropout(index outer, index steps, index channels, const T* x, double rate, std::uint64_t seed,
                     std::uint64_t stream, T* y) {
    if (rate >= 1) return std::fill_n(y, outer * steps * channels, T{}), void();
    // Channels that come first are single ones: (outer * channels, steps, 1).
    const index size = repeated_size<T>(channels);
    Scratch<T> factors(outer * size);
    with_dropout_factors<T>(outer * channels, rate, seed, stream,
                            [&](index i, auto n, vec<T> factor) { store_n(factors + i, factor, n); });
    for (index o = outer - 1; o >= 0; --o) {  // apart, from the last on: the places of later ones are free
        T* own = factors + o * size;
        if (channels < size) std::copy_backward(factors + o * channels, factors + (o + 1) * channels, own + channels);
        repeat(channels, size, own);
    }
    parallel_for(outer, static_cast<double>(outer * steps * channels) * cheap, [&](index o, int) {
        const T *from = x + o * steps * channels, *own = factors + o * size;
        T* to = y + o * steps * channels;
        for_each_in_pixels<T>(steps * channels, size, [&](index i, index j, auto n) {
            const vec<T> factor = load(own + j);
            store_n(to + i, factor > T{0} ? load_n(from + i, n) * factor : vec<T>{}, n);
        });
    });
}

template <class T>
void alpha_dropout_forward(index size, const T* x, double rate, std::uint64_t seed, std::uint64_t stream, T* y) {
    const Alpha alpha(rate);
    const T scale = static_cast<T>(alpha.scale), offset = static_cast<T>(alpha.offset);
    const T lowest = static_cast<T>(alpha.scale * Alpha::lowest + alpha.offset);
    with_dropout_factors<T>(size, rate, seed, stream, [=](index i, auto n, vec<T> factor) {
        store_n(y + i, factor > T{0} ? load_n(x + i, n) * scale + offset : broadcast(lowest), n);
    });
}

template <class T>
void alpha_dropout_backward(index size, const T* dy, double rate, std::uint64_t seed, std::uint64_t stream, T* dx) {
    const T scale = static_cast<T>(Alpha(rate).scale);
    with_dropout_factors<T>(size, rate, seed, stream, [=](index i, auto n, vec<T> factor) {
        store_n(dx + i, factor > T{0} ? load_n(dy + i, n) * scale : vec<T>{}, n);
    });
}

template <class T>
void scale_channels(index outer, index channels, index inner, const T* x, const T* scale, const T* offset, T* y) {
    map_channels(outer, channels, inner, x, scale, offset, y, [](vec<T> v, vec<T> a, vec<T> b) { return v * a + b; });
}

template <class T>
void standardize_channels(index outer, index channels, index inner, const T* x, const T* deviation, const T* mean, T* y) {
    map_channels(outer, channels, inner, x, deviation, mean, y, [](vec<T> v, vec<T> a, vec<T> b) { return (v - b) / a; });
}

template <class T>
double penalty(index size, const T* x, double l1, double l2) {
    constexpr index block = 4096;  // so few that sums in T are as good as sums in double
    const index blocks = (size + block - 1) / block;
    Scratch<double> parts(blocks);
    parallel_for(blocks, cheap * static_cast<double>(size), [&](index b, int) {
        vec<T> absolute{}, squares{};
        for_each_vector<T>(std::min(block, size - b * block), [&](index i, auto n) {
            const vec<T> v = load_n(x + b * block + i, n);
            absolute += v < T{0} ? -v : v;
            squares += v * v;
        });
        parts[b] = 0;  // plus what there is a factor for: 0 times infinity is not 0
        if (l1 != 0) parts[b] += l1 * static_cast<double>(horizontal_sum<T>(absolute));
        if (l2 != 0) parts[b] += l2 * static_cast<double>(horizontal_sum<T>(squares));
    });
    double sum = 0;
    for (index b = 0; b < blocks; ++b) sum += parts[b];
    return sum;
}

template <class T>
void add_penalty_gradient(index size, const T* x, double l1, double l2, T* dx) {
    const vec<T> step = broadcast(static_cast<T>(l1));
    const T slope = static_cast<T>(2 * l2);
    const auto add = [&](auto gradient) {
        map(size, cheap, dx, [&](vec<T> d, vec<T> v) { return d + gradient(v); }, static_cast<const T*>(dx), x);
    };
    const auto sign = [&](vec<T> v) { return v > T{0} ? step : v < T{0} ? -step : v != v ? v : vec<T>{}; };
    if (l1 != 0 && l2 != 0) return add([&](vec<T> v) { return sign(v) + slope * v; });
    if (l1 != 0) return add(sign);
    if (l2 != 0) return add([&](vec<T> v) { return slope * v; });
}

void gather_rows(index count, index row_bytes, const void* source, const std::int64_t* rows, void* out) {
    const index rows_per_task = std::max<index>(1, 16384 / std::max<index>(1, row_bytes));
    const index tasks = (count + rows_per_task - 1) / rows_per_task;
    // Rows drawn at random come from memory: a byte takes as long as twenty operations.
    parallel_for(tasks, 20 * static_cast<double>(count * row_bytes), [&](index task, int) {
        const index last = std::min(count, (task + 1) * rows_per_task);
        for (index i = task * rows_per_task; i < last; ++i)
            std::memcpy(static_cast<char*>(out) + i * row_bytes,
                        static_cast<const char*>(source) + rows[i] * row_bytes, static_cast<std::size_t>(row_bytes));
    });
}

void gather_bytes(index count, index row_size, const std::uint8_t* source, const std::int64_t* rows, float* out) {
    parallel_for(count, static_cast<double>(count * row_size), [&](index i, int) {
        const std::uint8_t* from = source + rows[i] * row_size;
        float* to = out + i * row_size;
        for (index j = 0; j < row_size; ++j) to[j] = static_cast<float>(from[j]);
    });
}

template <class T>
void scatter_add_rows(index count, index columns, const T* dy, const std::int64_t* rows, T* table) {
    // Threads share out the columns: equal rows meet in the same order whatever their number.
    const index group = std::max<index>(lanes<T>, 16), groups = (columns + group - 1) / group;
    parallel_for(groups, static_cast<double>(count * columns), [&](index g, int) {
        const index first = g * group, size = std::min(group, columns - first);
        for (index r = 0; r < count; ++r) {
            T* out = table + rows[r] * columns + first;
            const T* in = dy + r * columns + first;
            for_each_vector<T>(size, [&](index j, auto n) { store_n(out + j, load_n(out + j, n) + load_n(in + j, n), n); });
        }
    });
}

template <class T>
void mask_rows(index rows, index columns, const T* x, T value, T* y, std::uint8_t* mask) {
    parallel_rows(rows, columns, cheap, [&](index r) {
        const T *from = x + r * columns, *last = from + columns;
        mask[r] = std::any_of(from, last, [=](T v) { return v != value; });
        if (y && mask[r]) std::copy(from, last, y + r * columns);
        if (y && !mask[r]) std::fill_n(y + r * columns, columns, T{});
    });
}

template <class T>
void clear_masked_rows(index rows, index columns, const std::uint8_t* mask, T* x) {
    parallel_rows(rows, columns, cheap, [&](index r) {
        if (!mask[r]) std::fill_n(x + r * columns, columns, T{});
    });
}

#define INSTANTIATE(T)                                                                                             \
    template void activation_forward(Activation, index, const T*, T*);                                             \
    template void activation_backward(Activation, index, const T*, const T*, T*);                                  \
    template void softmax_forward(index, index, const T*, T*);                                                     \
    template void softmax_backward(index, index, const T*, const T*, T*);                                          \
    template void log_softmax_forward(index, index, const T*, T*);                                                 \
    template void log_softmax_backward(index, index, const T*, const T*, T*);                                      \
    template void dropout(index, const T*, double, std::uint64_t, std::uint64_t, T*);                              \
    template void spatial_dropout(index, index, index, const T*, double, std::uint64_t, std::uint64_t, T*);        \
    template void alpha_dropout_forward(index, const T*, double, std::uint64_t, std::uint64_t, T*);                \
    template void alpha_dropout_backward(index, const T*, double, std::uint64_t, std::uint64_t, T*);               \
    template double penalty(index, const T*, double, double);                                                      \
    template void add_penalty_gradient(index, const T*, double, double, T*);                                       \
    template void scale_channels(index, index, index, const T*, const T*, const T*, T*);                           \
    template void standardize_channels(index, index, index, const T*, const T*, const T*, T*);                     \
    template void mask_rows(index, index, const T*, T, T*, std::uint8_t*);                                         \
    template void clear_masked_rows(index, index, const std::uint8_t*, T*);                                       \
    template void scatter_add_rows(index, index, const T*, const std::int64_t*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
