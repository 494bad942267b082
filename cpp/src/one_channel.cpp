#include "one_channel.h"

#include "padded.h"
#include "positions.h"
#include "tile.h"
#include "winograd_tiles.h"

namespace vivace::one_channel {
namespace {

using winograd::Line;

// Forward, a window is a Winograd tile of 2x2 outputs (winograd.h): 16 products instead of 36. With a single channel the
// transformed inputs are numbers that all filters share, so that transforming them costs next to nothing.

// The transformed inputs of a run of windows in a row: element e of window q is data[e][2 * q].
template <class T>
struct Inputs {
    static constexpr index most = 32;                     // windows
    static constexpr index stride = 2 * most + lanes<T>;  // their 2 most + 2 pixels in whole registers

    alignas(64) T data[16][stride];

    void transform(const T* field, index row, index windows) {
        alignas(64) T half[4][stride + lanes<T>];  // down the columns; what the last registers reach past it counts for nothing
        for_each_vector<T>(2 * windows + 2, [&](index j, auto width) {
            vec<T> line[4];
            for (int i = 0; i < 4; ++i) line[i] = load_n(field + i * row + j, width);
            Line<2>::input<T>(line);
            for (int i = 0; i < 4; ++i) store(half[i] + j, line[i]);
        });
        for (int i = 0; i < 4; ++i)
            for (index j = 0; j < 2 * windows; j += lanes<T>) {
                vec<T> line[4];
                for (int k = 0; k < 4; ++k) line[k] = load(half[i] + j + k);
                Line<2>::input<T>(line);
                for (int k = 0; k < 4; ++k) store(data[4 * i + k] + j, line[k]);
            }
    }
};

// A window and `vectors` registers of filters with their transformed kernels, the last register of which has `width`. See
// pool_with_care().
template <bool careful, int vectors, class T, class N>
VIVACE_INLINE void pool_window(const T* inputs, const T* kernels, const vec<T> (&bias)[vectors], bool relu, T* y,
                               std::uint8_t* positions, N width, vec<T>& sum) {
    vec<T> outputs[vectors][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
        vec<T> pixels[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) pixels[i] = broadcast(inputs[(4 * i + j) * Inputs<T>::stride]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
            vec<T> products[4], column[2];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) products[i] = pixels[i] * load(kernels + ((4 * i + j) * vectors + v) * lanes<T>);
            Line<2>::output<T>(products, column);
            // And along the row, Line<2>::output() again, a column at a time as they come.
#pragma GCC unroll 2
            for (int i = 0; i < 2; ++i) {
                vec<T>*const left = outputs[v] + 2 * i, *const right = left + 1;
                if (j == 0) *left = column[i];
                if (j == 1) *left += column[i], *right = column[i];
                if (j == 2) *left += column[i], *right -= column[i];
                if (j == 3) *right -= column[i];
            }
        }
    }
    vec<int_of<T>> where[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
        const vec<T>(&of)[4] = outputs[v];
        const Winner<T> winner = winner_of_four<careful, T>(of[0], of[1], of[2], of[3], sum);
        where[v] = winner.position;
        const vec<T> best = winner.value + bias[v];  // the same for all four, and rounding keeps their order
        const vec<T> result = relu ? maximum(vec<T>{}, best) : best;
        if (v == vectors - 1)
            store_n(y + v * lanes<T>, result, width);
        else
            store(y + v * lanes<T>, result);
    }
    if (positions) store_positions<T>(positions, where, width);
}

// The windows of a row whose inputs are transformed, with some registers of filters.
template <int vectors, class T, class N>
VIVACE_INLINE void pool_row(index windows, const Inputs<T>& inputs, const T* kernels, const T* bias, bool relu, index filters,
                            T* y, std::uint8_t* positions, N width) {
    vec<T> b[vectors] = {};
    for (int v = 0; bias && v < vectors; ++v)
        b[v] = v == vectors - 1 ? load_n(bias + v * lanes<T>, width) : load(bias + v * lanes<T>);
    pool_with_care<T>([&](auto careful, vec<T>& sum) {
        T* to = y;
        std::uint8_t* where = positions;
        for (index q = 0; q < windows; ++q, to += filters) {
            forget_address(kernels);
            pool_window<careful.value, vectors>(inputs.data[0] + 2 * q, kernels, b, relu, to, where, width, sum);
            if (where) where += filters;
        }
    });
}

// Sums one row of windows onto dw (9, filters) and db (filters).
void sum_windows(const Windows& windows, const float* field, const float* dy, const float* y,
                 const std::uint8_t* positions, bool relu, float* dw, float* db, float* patches) {
    const index filters = windows.s.o, columns = windows.pool.q, row = windows.row_stride;
    for (index q = 0; q < columns; ++q)
        for (index tap = 0; tap < 9; ++tap) {
            const float* pixel = field + 2 * q + tap / 3 * row + tap % 3;
            float* patch = patches + (q * 9 + tap) * 4;
            std::memcpy(patch, pixel, 2 * sizeof(float));
            std::memcpy(patch + 2, pixel + row, 2 * sizeof(float));
        }
    for_each_vector<float>(filters, [&](index o, auto width) {
        vec<float> sum[9], bias = load_n(db + o, width);
#pragma GCC unroll 9
        for (int tap = 0; tap < 9; ++tap) sum[tap] = load_n(dw + tap * filters + o, width);
        for (index q = 0; q < columns; ++q) {
            const index i = q * filters + o;
            vec<float> g = load_n(dy + i, width);
            if (relu) g = load_n(y + i, width) > vec<float>{} ? g : vec<float>{};
            const vec<std::int32_t> winners = load_positions<float>(positions + i, width);
            bias += g;
#pragma GCC unroll 9
            for (int tap = 0; tap < 9; ++tap)
                sum[tap] += g * choose_of_four(broadcast_four(patches + (q * 9 + tap) * 4), winners);
        }
        store_n(db + o, bias, width);
#pragma GCC unroll 9
        for (int tap = 0; tap < 9; ++tap) store_n(dw + tap * filters + o, sum[tap], width);
    });
}

}  // namespace

template <class T>
void conv2d_pool_forward(const Windows& windows, const T* x, const T* w, const T* bias, bool relu, T* y,
                         std::uint8_t* positions) {
    const index filters = windows.s.o, row = windows.row_stride, columns = windows.pool.q;
    // Whole panels of filters and then registers, element by element.
    Scratch<T> kernels((filters + lanes<T> - 1) / lanes<T> * 16 * lanes<T>);
    for_each_vector<T>(filters, [&](index o, auto width) {
        const index first = o / panel_columns<T> * panel_columns<T>;
        const bool panel = first + panel_columns<T> <= filters;
        T* const to = kernels + 16 * (panel ? first : o) + (panel ? o - first : 0);
        winograd::transform_kernel<T, 2, 2>(
            [&](int i, int j) { return load_n(w + (3 * i + j) * filters + o, width); },
            [&](int i, int j, vec<T> u) { store(to + (4 * i + j) * (panel ? panel_columns<T> : lanes<T>), u); });
    });
    const index image_rows = windows.pool.p, rows = windows.s.n * image_rows, tasks = std::min<index>(rows, 64);
    // A single image of 28x28 takes 4.5 microseconds on one thread, 3.6 on two: it is worth it earlier than FLOPs tell.
    const double cost = 6 * static_cast<double>(windows.s.flops());
    parallel_for(tasks, cost, [=, &windows, kernels = kernels.get()](index task, int) {
        Inputs<T> inputs;
        const Part mine(rows, tasks, task);
        for (index r = mine.first; r < mine.last; ++r)
            for (index first = 0; first < columns; first += Inputs<T>::most) {
                const index count = std::min(Inputs<T>::most, columns - first), out = (r * columns + first) * filters;
                const T* field = x + r / image_rows * windows.image_stride + r % image_rows * 2 * row + 2 * first;
                inputs.transform(field, row, count);
                for (index o = 0; o < filters;) {
                    const T *const u = kernels + 16 * o, *const b = bias ? bias + o : nullptr;
                    std::uint8_t* const where = positions ? positions + out + o : nullptr;
                    if (filters - o >= panel_columns<T>) {
                        constexpr auto whole = std::integral_constant<index, lanes<T>>();
                        pool_row<tile_vectors>(count, inputs, u, b, relu, filters, y + out + o, where, whole);
                        o += panel_columns<T>;
                    } else {
                        pool_row<1>(count, inputs, u, b, relu, filters, y + out + o, where, std::min(lanes<T>, filters - o));
                        o += lanes<T>;
                    }
                }
            }
    });
}

void conv2d_pool_weight_gradient(const Conv2DShape& s, const Pool2DShape& pool, const float* x, const float* dy,
                                 const float* y, const std::uint8_t* positions, bool relu, float* dw, float* db) {
    const Padded<float> in = padded_input(s, x);
    const Windows windows{s, pool, in.row_stride(), in.image_stride()};
    // The sum over rows of windows is cut into parts that depend on the shape alone: the same bits for every thread count.
    const index rows = s.n * pool.p, parts = std::min<index>(rows, 16), part_size = 10 * s.o + 36 * pool.q;
    Scratch<float> sums(parts * part_size);
    parallel_for(parts, 40.0 * static_cast<double>(pool.output_size()), [&](index part, int) {
        float *const mine = sums + part * part_size, *const patches = mine + 10 * s.o;
        std::fill_n(mine, 10 * s.o, 0.0f);
        const Part my_rows(rows, parts, part);
        for (index row = my_rows.first; row < my_rows.last; ++row) {
            const float* field = in.data + row / pool.p * windows.image_stride + row % pool.p * 2 * windows.row_stride;
            const index i = row * pool.q * s.o;
            sum_windows(windows, field, dy + i, y + i, positions + i, relu, mine, mine + 9 * s.o, patches);
        }
    });
    for (index part = 0; part < parts; ++part) {
        for (index i = 0; i < 9 * s.o; ++i) dw[i] += sums[part * part_size + i];
        for (index o = 0; db && o < s.o; ++o) db[o] += sums[part * part_size + 9 * s.o + o];
    }
}

template void conv2d_pool_forward(const Windows&, const float*, const float*, const float*, bool, float*, std::uint8_t*);
template void conv2d_pool_forward(const Windows&, const double*, const double*, const double*, bool, double*, std::uint8_t*);

}  // namespace vivace::one_channel
