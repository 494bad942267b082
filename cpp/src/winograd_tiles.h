// Tiles of outputs and the transforms of Winograd's minimal filtering (see winograd.h), a register of channels or filters at
// a time.
//
// Products of polynomials are found from their values at some points and put together again by interpolation. A tile of
// 2 outputs takes the points 0, 1, -1 and infinity, by which nothing is multiplied but by a half. A tile of 4 takes 0, +-p,
// +-q and infinity. p = 3/4, q = 3/2 have exact squares and products, and of all such pairs of small fractions tried the
// smallest error: half that of the usual 1 and 2, whose powers are further apart.
#pragma once

#include "padded.h"
#include "simd.h"

namespace vivace::winograd {

inline constexpr double p = 0.75, q = 1.5, pp = p * p, qq = q * q;

// In one dimension: `outputs` of a tile, for which it needs two inputs more.
template <int outputs>
struct Line;

template <>
struct Line<2> {
    template <class T>
    VIVACE_INLINE static void input(vec<T> (&d)[4]) {
        const vec<T> a = d[0] - d[2], b = d[1] + d[2], c = d[2] - d[1], e = d[1] - d[3];
        d[0] = a, d[1] = b, d[2] = c, d[3] = e;
    }
    template <class T>
    VIVACE_INLINE static void kernel(const vec<T> (&g)[3], vec<T> (&u)[4]) {
        const vec<T> outer = T(0.5) * (g[0] + g[2]), inner = T(0.5) * g[1];
        u[0] = g[0], u[1] = outer + inner, u[2] = outer - inner, u[3] = g[2];
    }
    template <class T>
    VIVACE_INLINE static void output(const vec<T> (&m)[4], vec<T> (&y)[2]) {
        y[0] = m[0] + (m[1] + m[2]);
        y[1] = (m[1] - m[2]) - m[3];
    }
};

template <>
struct Line<4> {
    // The inverse products of each point's distances from the others.
    static constexpr double at_0 = 1 / (pp * qq), at_p = 1 / (2 * pp * (pp - qq)), at_q = 1 / (2 * qq * (qq - pp));

    template <class T>
    VIVACE_INLINE static void input(vec<T> (&d)[6]) {
        const vec<T> even_p = d[4] - T(qq) * d[2], odd_p = d[3] - T(qq) * d[1];
        const vec<T> even_q = d[4] - T(pp) * d[2], odd_q = d[3] - T(pp) * d[1];
        d[0] = T(pp * qq) * d[0] + (d[4] - T(pp + qq) * d[2]);
        d[5] = T(pp * qq) * d[1] + (d[5] - T(pp + qq) * d[3]);
        d[1] = even_p + T(p) * odd_p, d[2] = even_p - T(p) * odd_p;
        d[3] = even_q + T(q) * odd_q, d[4] = even_q - T(q) * odd_q;
    }
    template <class T>
    VIVACE_INLINE static void kernel(const vec<T> (&g)[3], vec<T> (&u)[6]) {
        const vec<T> even_p = T(at_p) * g[0] + T(at_p * pp) * g[2], odd_p = T(at_p * p) * g[1];
        const vec<T> even_q = T(at_q) * g[0] + T(at_q * qq) * g[2], odd_q = T(at_q * q) * g[1];
        u[0] = T(at_0) * g[0];
        u[1] = even_p + odd_p, u[2] = even_p - odd_p;
        u[3] = even_q + odd_q, u[4] = even_q - odd_q;
        u[5] = g[2];
    }
    template <class T>
    VIVACE_INLINE static void output(const vec<T> (&m)[6], vec<T> (&y)[4]) {
        const vec<T> even_p = m[1] + m[2], odd_p = m[1] - m[2], even_q = m[3] + m[4], odd_q = m[3] - m[4];
        y[0] = m[0] + (even_p + even_q);
        y[1] = T(p) * odd_p + T(q) * odd_q;
        y[2] = T(pp) * even_p + T(qq) * even_q;
        y[3] = T(p * pp) * odd_p + (T(q * qq) * odd_q + m[5]);
    }
    // For the kernel's gradient the outputs' takes the kernel's place: four elements instead of three, ...
    template <class T>
    VIVACE_INLINE static void output_gradient(const vec<T> (&g)[4], vec<T> (&u)[6]) {
        const vec<T> even_p = T(at_p) * g[0] + T(at_p * pp) * g[2], odd_p = T(at_p * p) * g[1] + T(at_p * p * pp) * g[3];
        const vec<T> even_q = T(at_q) * g[0] + T(at_q * qq) * g[2], odd_q = T(at_q * q) * g[1] + T(at_q * q * qq) * g[3];
        u[0] = T(at_0) * g[0];
        u[1] = even_p + odd_p, u[2] = even_p - odd_p;
        u[3] = even_q + odd_q, u[4] = even_q - odd_q;
        u[5] = g[3];
    }
    // ... and the kernel's gradient the outputs'.
    template <class T>
    VIVACE_INLINE static void kernel_gradient(const vec<T> (&m)[6], vec<T> (&g)[3]) {
        const vec<T> even_p = m[1] + m[2], even_q = m[3] + m[4];
        g[0] = m[0] + (even_p + even_q);
        g[1] = T(p) * (m[1] - m[2]) + T(q) * (m[3] - m[4]);
        g[2] = T(pp) * even_p + (T(qq) * even_q + m[5]);
    }
};

// A tile of inputs for rows x columns outputs, B' d B: from load(i, j), one line after the other, to store(i, j, value). What
// does not fit into registers passes through memory once.
template <class T, int rows, int columns, class Load, class Store>
VIVACE_INLINE void transform_input(Load&& load, Store&& store) {
    vec<T> t[rows + 2][columns + 2];
#pragma GCC unroll 6
    for (int j = 0; j < columns + 2; ++j) {
        vec<T> line[rows + 2];
#pragma GCC unroll 6
        for (int i = 0; i < rows + 2; ++i) line[i] = load(i, j);
        Line<rows>::template input<T>(line);
#pragma GCC unroll 6
        for (int i = 0; i < rows + 2; ++i) t[i][j] = line[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows + 2; ++i) {
        Line<columns>::template input<T>(t[i]);
#pragma GCC unroll 6
        for (int j = 0; j < columns + 2; ++j) store(i, j, t[i][j]);
    }
}

// A 3x3 kernel, G g G', likewise.
template <class T, int rows, int columns, class Load, class Store>
VIVACE_INLINE void transform_kernel(Load&& load, Store&& store) {
    vec<T> t[rows + 2][3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
        const vec<T> line[3] = {load(0, j), load(1, j), load(2, j)};
        vec<T> values[rows + 2];
        Line<rows>::template kernel<T>(line, values);
#pragma GCC unroll 6
        for (int i = 0; i < rows + 2; ++i) t[i][j] = values[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows + 2; ++i) {
        vec<T> values[columns + 2];
        Line<columns>::template kernel<T>(t[i], values);
#pragma GCC unroll 6
        for (int j = 0; j < columns + 2; ++j) store(i, j, values[j]);
    }
}

// The outputs A' m A of a tile's products; element e, row by row, stands at m + e * stride.
template <class T, int rows, int columns>
VIVACE_INLINE void transform_output(const T* m, index stride, vec<T> (&y)[rows][columns]) {
    vec<T> t[rows][columns + 2];
#pragma GCC unroll 6
    for (int j = 0; j < columns + 2; ++j) {
        vec<T> line[rows + 2], values[rows];
#pragma GCC unroll 6
        for (int i = 0; i < rows + 2; ++i) line[i] = load(m + (i * (columns + 2) + j) * stride);
        Line<rows>::template output<T>(line, values);
#pragma GCC unroll 4
        for (int i = 0; i < rows; ++i) t[i][j] = values[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) Line<columns>::template output<T>(t[i], y[i]);
}

// Tiles of one size, which cover some of the outputs of n images.
struct Area {
    int tile_rows, tile_columns;   // outputs of a tile
    index row, column;             // of the first tile's first output
    index n, rows, columns;        // tiles

    index elements() const { return (tile_rows + 2) * (tile_columns + 2); }
    index count() const { return n * rows * columns; }
    index image(index tile) const { return tile / columns / rows; }
    index first_row(index tile) const { return row + tile / columns % rows * tile_rows; }
    index first_column(index tile) const { return column + tile % columns * tile_columns; }
    // The first input of a tile: a pixel of `in` for each output's first.
    template <class T>
    const T* start(const Padded<T>& in, index tile) const {
        return in.data + image(tile) * in.image_stride() + first_row(tile) * in.row_stride() + first_column(tile) * in.channels;
    }
};

}  // namespace vivace::winograd
