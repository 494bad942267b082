#include "padded.h"
#include "tile.h"
#include "vivace/gemm.h"
#include "winograd.h"
#include "winograd_tiles.h"

namespace vivace::winograd {
namespace {

constexpr int size = 4;
constexpr index elements = size * size;  // of a transformed tile

// A 2x2 tile of the output's gradient A y A', one element after the other.
template <class T>
VIVACE_INLINE void transform_gradient(const vec<T> (&y)[2][2], vec<T> (&d)[size][size]) {
    vec<T> t[size][2];
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) t[0][j] = y[0][j], t[1][j] = y[0][j] + y[1][j], t[2][j] = y[0][j] - y[1][j], t[3][j] = -y[1][j];
#pragma GCC unroll 4
    for (int i = 0; i < size; ++i)
        d[i][0] = t[i][0], d[i][1] = t[i][0] + t[i][1], d[i][2] = t[i][0] - t[i][1], d[i][3] = -t[i][1];
}

// The 3x3 gradient G' m G of a kernel; element e stands at m + e * stride.
template <class T, class N>
VIVACE_INLINE void transform_sums(const T* m, index stride, vec<T> (&g)[3][3], N width) {
    vec<T> t[3][size];
    const T half = T(0.5);
#pragma GCC unroll 4
    for (int j = 0; j < size; ++j) {
        const vec<T> b = load_n(m + (size + j) * stride, width), c = load_n(m + (2 * size + j) * stride, width);
        t[0][j] = load_n(m + j * stride, width) + half * (b + c);
        t[1][j] = half * (b - c);
        t[2][j] = half * (b + c) + load_n(m + (3 * size + j) * stride, width);
    }
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
        g[i][0] = t[i][0] + half * (t[i][1] + t[i][2]);
        g[i][1] = half * (t[i][1] - t[i][2]);
        g[i][2] = half * (t[i][1] + t[i][2]) + t[i][3];
    }
}

}  // namespace

// The forward transforms transposed: dw = G' [sum over tiles of (B' d B) . (A dy A')] G. The sum over tiles is the inner
// dimension of 16 matrix products, taken a chunk of tiles at a time: all threads transform it, then share the products.
template <class T>
void conv2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db) {
    static constexpr index no_offset[1] = {0};
    constexpr index chunk = 160;
    const Padded<T> in(x, s.n, s.h, s.w, s.c, s.pad_top, s.pad_bottom + s.p % 2, s.pad_left, s.pad_right + s.q % 2);
    const Padded<T> grad(dy, s.n, s.p, s.q, s.o, 0, s.p % 2, 0, s.q % 2);
    const Area tiles{2, 2, 0, 0, s.n, (s.p + 1) / 2, (s.q + 1) / 2};
    const index chunks = (tiles.count() + chunk - 1) / chunk, panels = (s.o + panel_columns<T> - 1) / panel_columns<T>;
    // A row of inputs more than their channels: rows a power of two apart would share the same few lines of L1.
    const index input_row = s.c + lanes<T>, row_tiles = (s.c + tile_rows - 1) / tile_rows;
    Scratch<T> inputs(elements * chunk * input_row + tile_rows), sums(elements * s.c * s.o);
    Scratch<T> gradients(elements * panels * chunk * panel_columns<T>);  // element, panel, tile, filter
    for (index i = 0; i < chunks; ++i) {
        const Part part(tiles.count(), chunks, i);
        parallel_for((part.size() + 7) / 8, static_cast<double>(16 * elements * part.size() * (s.c + s.o)) / 4, [&](index task, int) {
            for (index t = task * 8; t < std::min(part.size(), task * 8 + 8); ++t) {
                const index tile = part.first + t;
                const T* start = tiles.start(in, tile);
                for_each_vector<T>(s.c, [&](index c, auto width) {
                    T* to = inputs + t * input_row + c;
                    transform_input<T, 2, 2>(
                        [&](int k, int l) { return load_n(start + c + k * in.row_stride() + l * s.c, width); },
                        [&](int k, int l, vec<T> d) { store_n(to + (k * size + l) * chunk * input_row, d, width); });
                });
                const T* corner = tiles.start(grad, tile);
                for_each_vector<T>(s.o, [&](index o, auto width) {
                    vec<T> y[2][2], d[size][size];
#pragma GCC unroll 4
                    for (int k = 0; k < 4; ++k) y[k / 2][k % 2] = load_n(corner + o + k / 2 * grad.row_stride() + k % 2 * s.o, width);
                    transform_gradient<T>(y, d);
                    const index panel = o / panel_columns<T>;
#pragma GCC unroll 16
                    for (int e = 0; e < elements; ++e)
                        store(gradients + ((e * panels + panel) * chunk + t) * panel_columns<T> + o % panel_columns<T>,
                              d[e / 4][e % 4]);
                });
            }
        });
        const double flops = 2.0 * static_cast<double>(elements * part.size() * s.c * s.o);
        parallel_for(elements * panels, flops, [&](index task, int) {
            const index e = task / panels, first = task % panels * panel_columns<T>;
            Tile<T> tile{};
            tile.offsets = no_offset;
            tile.taps = 1;
            tile.k = part.size();
            tile.a_step = input_row;
            tile.b = gradients + task * chunk * panel_columns<T>;
            tile.ldb = panel_columns<T>;
            tile.columns = std::min(panel_columns<T>, s.o - first);
            tile.accumulate = i > 0;
            for (index m = 0; m < row_tiles; ++m) {
                const Part rows(s.c, row_tiles, m);
                tile.rows = rows.size();
                tile.a[0] = inputs + e * chunk * input_row + rows.first;
                for (index r = 0; r < tile.rows; ++r) tile.c[r] = sums + (e * s.c + rows.first + r) * s.o + first;
                multiply_by_columns(tile);
            }
        });
    }
    parallel_for(s.c, static_cast<double>(32 * s.c * s.o), [&](index c, int) {
        for_each_vector<T>(s.o, [&](index o, auto width) {
            vec<T> g[3][3];
            transform_sums<T>(sums + c * s.o + o, s.c * s.o, g, width);
            for (index tap = 0; tap < 9; ++tap) {
                T* to = dw + (tap * s.c + c) * s.o + o;
                store_n(to, load_n(to, width) + g[tap / 3][tap % 3], width);
            }
        });
    });
    if (db) add_column_sums(s.n * s.p * s.q, s.o, dy, s.o, db);
}

template void conv2d_weight_gradient(const Conv2DShape&, const float*, const float*, float*, float*);
template void conv2d_weight_gradient(const Conv2DShape&, const double*, const double*, double*, double*);

}  // namespace vivace::winograd
