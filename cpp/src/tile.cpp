#include "tile.h"

#include <array>
#include <utility>

namespace vivace {
namespace {

template <class T, int rows, int vectors>
using Accumulators = vec<T>[rows][vectors];

// Calls f(row, register) for a whole tile. Unrolled completely, so that the accumulators live in registers.
template <int rows, int vectors, class F>
VIVACE_INLINE void for_tile(F&& f) {
#pragma GCC unroll 16
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) f(m, v);
}

// `last`: columns in the last register. Whole tiles ask each question once: of a short product they are a large part.
template <class T, int rows, int vectors, class N>
VIVACE_INLINE void store_tile(const Tile<T>& tile, Accumulators<T, rows, vectors>& sum, N last) {
    const auto read = [&](int m, int v) {
        const T* c = tile.c[m] + v * lanes<T>;
        return v == vectors - 1 ? load_n(c, last) : load(c);
    };
    if (tile.accumulate) for_tile<rows, vectors>([&](int m, int v) { sum[m][v] += read(m, v); });
    if (tile.relu) for_tile<rows, vectors>([&](int m, int v) { sum[m][v] = maximum(vec<T>{}, sum[m][v]); });
    for_tile<rows, vectors>([&](int m, int v) {
        T* c = tile.c[m] + v * lanes<T>;
        if (v == vectors - 1)
            store_n(c, sum[m][v], last);
        else
            store(c, sum[m][v]);
    });
}

template <class T, int rows, int vectors>
VIVACE_INLINE void store_tile(const Tile<T>& tile, Accumulators<T, rows, vectors>& sum) {
    const index last = tile.columns - (vectors - 1) * lanes<T>;
    if (last == lanes<T>)
        store_tile<T, rows, vectors>(tile, sum, std::integral_constant<index, lanes<T>>());
    else
        store_tile<T, rows, vectors>(tile, sum, last);
}

template <class T, int rows, int vectors>
VIVACE_INLINE void start_tile(const Tile<T>& tile, Accumulators<T, rows, vectors>& sum) {
    // The sums' place, which the hardware cannot foresee, is fetched while they are made.
#pragma GCC unroll 16
    for (int m = 0; m < rows; ++m) __builtin_prefetch(tile.c[m], 1);
    vec<T> start[vectors] = {};
    if (tile.bias) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            const index n = std::min(lanes<T>, tile.columns - v * lanes<T>);
            start[v] = n == lanes<T> ? load(tile.bias + v * lanes<T>) : load_partial(tile.bias + v * lanes<T>, n);
        }
    }
    for_tile<rows, vectors>([&](int m, int v) { sum[m][v] = start[v]; });
}

template <class T, int rows, int vectors, bool packing>
void by_rows(const Tile<T>& tile) {
    Accumulators<T, rows, vectors> sum;
    start_tile<T, rows, vectors>(tile, sum);
    const index ldb = tile.ldb, k = tile.k;
    const T* b = tile.b;
    [[maybe_unused]] T* packed = tile.packed;
    for (index t = 0; t < tile.taps; ++t) {
        const T* a[rows];
#pragma GCC unroll 16
        for (int m = 0; m < rows; ++m) a[m] = tile.a[m] + tile.offsets[t];
        for (index i = 0; i < k; ++i, b += ldb) {
            vec<T> bv[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) bv[v] = load(b + v * lanes<T>);
            if constexpr (packing) {
#pragma GCC unroll 4
                for (int v = 0; v < vectors; ++v) store(packed + v * lanes<T>, bv[v]);
                packed += vectors * lanes<T>;
            }
#pragma GCC unroll 16
            for (int m = 0; m < rows; ++m) {
                const vec<T> am = broadcast(a[m][i]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; ++v) sum[m][v] += am * bv[v];
            }
        }
    }
    store_tile<T, rows, vectors>(tile, sum);
}

template <class T, int rows, int vectors>
void by_columns(const Tile<T>& tile) {
    Accumulators<T, rows, vectors> sum;
    start_tile<T, rows, vectors>(tile, sum);
    const index ldb = tile.ldb, k = tile.k, step = tile.a_step;
    const T* b = tile.b;
    for (index t = 0; t < tile.taps; ++t) {
        const T* a = tile.a[0] + tile.offsets[t];
        for (index i = 0; i < k; ++i, b += ldb, a += step) {
            vec<T> bv[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) bv[v] = load(b + v * lanes<T>);
#pragma GCC unroll 16
            for (int m = 0; m < rows; ++m) {
                const vec<T> am = broadcast(a[m]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; ++v) sum[m][v] += am * bv[v];
            }
        }
    }
    store_tile<T, rows, vectors>(tile, sum);
}

template <class T, int rows, int vectors>
void in_batches(const Batch<T>& batch) {
    const index k = batch.k, lda = batch.lda;
    for (index e = 0; e < batch.count; ++e) {
        const T *a = batch.a + e * batch.next_a, *b = batch.b + e * batch.next_b;
        T* c = batch.c + e * batch.next_c;
        Accumulators<T, rows, vectors> sum = {};
        for (index i = 0; i < k; ++i, b += vectors * lanes<T>) {
            vec<T> bv[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) bv[v] = load(b + v * lanes<T>);
#pragma GCC unroll 16
            for (int m = 0; m < rows; ++m) {
                const vec<T> am = broadcast(a[m * lda + i]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; ++v) sum[m][v] += am * bv[v];
            }
        }
        const auto at = [&](int m, int v) { return c + (m * vectors + v) * lanes<T>; };
        if (batch.accumulate) for_tile<rows, vectors>([&](int m, int v) { sum[m][v] += load(at(m, v)); });
        for_tile<rows, vectors>([&](int m, int v) { store(at(m, v), sum[m][v]); });
    }
}

// One instance for every tile height, so that a ragged edge computes nothing twice.
template <class Work>
using Kernels = std::array<void (*)(const Work&), tile_rows>;

template <class T, int vectors, bool packing, int... rows>
constexpr Kernels<Tile<T>> kernels_by_rows(std::integer_sequence<int, rows...>) {
    return {{by_rows<T, rows + 1, vectors, packing>...}};
}
template <class T, int vectors, int... rows>
constexpr Kernels<Tile<T>> kernels_by_columns(std::integer_sequence<int, rows...>) {
    return {{by_columns<T, rows + 1, vectors>...}};
}
template <class T, int vectors, int... rows>
constexpr Kernels<Batch<T>> kernels_in_batches(std::integer_sequence<int, rows...>) {
    return {{in_batches<T, rows + 1, vectors>...}};
}

using Heights = std::make_integer_sequence<int, tile_rows>;
static_assert(tile_vectors == 2, "the tables below list one entry per panel width");

}  // namespace

template <class T>
void multiply_by_rows(const Tile<T>& tile) {
    static constexpr Kernels<Tile<T>> narrow = kernels_by_rows<T, 1, false>(Heights()),
                                      wide = kernels_by_rows<T, 2, false>(Heights()),
                                      narrow_packing = kernels_by_rows<T, 1, true>(Heights()),
                                      wide_packing = kernels_by_rows<T, 2, true>(Heights());
    const Kernels<Tile<T>>& of_width =
        tile.columns > lanes<T> ? (tile.packed ? wide_packing : wide) : (tile.packed ? narrow_packing : narrow);
    of_width[static_cast<std::size_t>(tile.rows - 1)](tile);
}

template <class T>
void multiply_by_columns(const Tile<T>& tile) {
    static constexpr Kernels<Tile<T>> narrow = kernels_by_columns<T, 1>(Heights()),
                                      wide = kernels_by_columns<T, 2>(Heights());
    (tile.columns > lanes<T> ? wide : narrow)[static_cast<std::size_t>(tile.rows - 1)](tile);
}

template <class T>
void multiply_batch(const Batch<T>& batch) {
    static constexpr Kernels<Batch<T>> narrow = kernels_in_batches<T, 1>(Heights()),
                                       wide = kernels_in_batches<T, 2>(Heights());
    (batch.width > lanes<T> ? wide : narrow)[static_cast<std::size_t>(batch.rows - 1)](batch);
}

namespace {

template <class T>
void pack_rows(const T* source, index ld, index k, index columns, T* out) {
    if (columns == panel_columns<T>) {
        for (index i = 0; i < k; ++i, source += ld, out += panel_columns<T>)
#pragma GCC unroll 4
            for (int v = 0; v < tile_vectors; ++v) store(out + v * lanes<T>, load(source + v * lanes<T>));
        return;
    }
    const index width = panel_width<T>(columns);
    for (index i = 0; i < k; ++i)
        for_each_vector<T>(columns, [&](index j, auto n) { store(out + i * width + j, load_n(source + i * ld + j, n)); });
}

template <class T>
void pack_transposed(const T* source, index ld, index k, index columns, T* out) {
    const index width = panel_width<T>(columns);
    for (index j0 = 0; j0 < width; j0 += lanes<T>) {
        const index rows = std::min(lanes<T>, columns - j0);
        for_each_vector<T>(k, [&](index i, auto n) {
            vec<T> block[lanes<T>];
            if (rows == lanes<T>) {
#pragma GCC unroll 16
                for (index j = 0; j < lanes<T>; ++j) block[j] = load_n(source + (j0 + j) * ld + i, n);
            } else {
                for (index j = 0; j < lanes<T>; ++j)
                    block[j] = j < rows ? load_n(source + (j0 + j) * ld + i, n) : vec<T>{};
            }
            transpose<T>(block);
            if constexpr (std::is_same_v<decltype(n), std::integral_constant<index, lanes<T>>>) {
#pragma GCC unroll 16
                for (index t = 0; t < lanes<T>; ++t) store(out + (i + t) * width + j0, block[t]);
            } else {
                for (index t = 0; t < n; ++t) store(out + (i + t) * width + j0, block[t]);
            }
        });
    }
}

}  // namespace

template <class T>
void pack_panel(const T* source, index ld, bool transposed, index k, index columns, T* packed) {
    (transposed ? pack_transposed<T> : pack_rows<T>)(source, ld, k, columns, packed);
}

template <class T>
void pack_panels(const T* source, index ld, bool transposed, index row, index k, index total, index n, T* packed) {
    const index panels = (n + panel_columns<T> - 1) / panel_columns<T>;
    const double bytes = static_cast<double>(k * n) * 2 * sizeof(T);
    parallel_for(panels, transposed ? 2 * bytes : bytes, [&](index panel, int) {
        const index first = panel * panel_columns<T>, columns = std::min(panel_columns<T>, n - first);
        pack_panel(source + (transposed ? first * ld : first), ld, transposed, k, columns,
                   packed + first * total + row * panel_width<T>(columns));
    });
}

#define INSTANTIATE(T)                                   \
    template void multiply_by_rows(const Tile<T>&);      \
    template void multiply_by_columns(const Tile<T>&);   \
    template void multiply_batch(const Batch<T>&);       \
    template void pack_panel(const T*, index, bool, index, index, T*); \
    template void pack_panels(const T*, index, bool, index, index, index, index, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
