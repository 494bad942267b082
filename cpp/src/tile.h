// The one microkernel behind GEMM, dense layers and all three directions of convolution.
//
// A tile is a block of the product  C (rows, columns) = A B  small enough to stand in registers. B is a panel: its
// rows are contiguous runs of `vectors` registers, `ldb` apart. A is never copied into a column matrix: it is read in
// place, as `taps` runs of k steps, tap t starting offsets[t] elements after each row's start. That one freedom makes
// the same loop a matrix product (one tap) and an implicit-GEMM convolution (a tap per kernel row). A is read as
//
//   by_rows     A(m, t, i) = a[m][offsets[t] + i]            each row has its own pointer (pixels, matrix rows)
//   by_columns  A(m, t, i) = a[0][offsets[t] + i*a_step + m] rows are neighbours (transposed or packed A, gradients)
//
// Per step the tile issues rows*vectors FMAs for rows broadcasts and `vectors` loads: with 14 x 2 registers on AVX-512
// (6 x 2 where there are 16 registers) loads stay far below what a core can issue, so FMAs alone set the pace:
// measured 264-270 GFLOP/s of 270 possible on one Zen 5 core, whether A is read by rows or by columns.
#pragma once

#include <algorithm>

#include "parallel.h"
#include "simd.h"

namespace vivace {

inline constexpr int tile_rows = vector_registers == 32 ? 14 : 6;
inline constexpr int tile_vectors = 2;

template <class T>
inline constexpr index panel_columns = tile_vectors * lanes<T>;

template <class T>
struct Tile {
    const T* a[tile_rows];   // by columns: only a[0]
    const index* offsets;    // taps entries
    index taps, k, a_step;   // a_step: by columns only
    const T* b;
    index ldb;
    T* c[tile_rows];         // start of each output row
    index rows, columns;     // rows <= tile_rows; columns <= panel_columns, ragged at will (b is padded, c is not)
    const T* bias;           // `columns` values, or null
    bool accumulate;         // c += instead of c =
    bool relu;
    T* packed;               // by rows: where the panel's rows are stored one after the other while they pass, or null
};

template <class T>
void multiply_by_rows(const Tile<T>& tile);
template <class T>
void multiply_by_columns(const Tile<T>& tile);

// `count` small products in a row, C_e (rows, width) = A_e B_e over packed memory: rows of A are `lda` apart, B's and C's
// follow each other, `width` is one register or a whole panel. For products too short for Tile's generality.
template <class T>
struct Batch {
    index count, rows, k, width;
    const T* a;
    index lda, next_a;  // from one product's A to the next
    const T* b;
    index next_b;
    T* c;
    index next_c;
    bool accumulate;  // c += instead of c =
};

template <class T>
void multiply_batch(const Batch<T>& batch);

// Registers' worth of columns that a panel of so many columns takes when packed.
template <class T>
index panel_width(index columns) {
    return columns <= lanes<T> ? lanes<T> : panel_columns<T>;
}

// B as a sequence of panels of panel_columns (the last may be one register wide).
template <class T>
struct Panels {
    const T* data;
    index columns;        // of the whole matrix
    index panel_stride;   // from one panel's start to the next
    index row_stride;     // 0: packed, rows of a panel follow each other

    index count() const { return (columns + panel_columns<T> - 1) / panel_columns<T>; }
    // Points the tile at panel j.
    void select(index j, Tile<T>& tile) const {
        tile.columns = std::min(panel_columns<T>, columns - j * panel_columns<T>);
        tile.b = data + j * panel_stride;
        tile.ldb = row_stride ? row_stride : panel_width<T>(tile.columns);
    }
};

// Elements that k rows of n columns take when packed.
template <class T>
index packed_size(index k, index n) {
    return (n + lanes<T> - 1) / lanes<T> * lanes<T> * k;
}

// Packs a panel of k rows and up to panel_columns columns: element (i, j) is source[i*ld + j], or source[j*ld + i] when
// transposed. Columns are padded with zeros to panel_width.
template <class T>
void pack_panel(const T* source, index ld, bool transposed, index k, index columns, T* packed);

// Packs rows [row, row + k) of a matrix with `total` rows in all: element (i, j) is source[i*ld + j], or
// source[j*ld + i] when transposed. Columns are padded with zeros to whole registers. Runs on all threads.
template <class T>
void pack_panels(const T* source, index ld, bool transposed, index row, index k, index total, index n, T* packed);

template <class T>
Panels<T> packed_panels(const T* packed, index total, index n) {
    return {packed, n, total * panel_columns<T>, 0};
}

// [first, last) of part i when `size` is split into `parts` nearly equal parts.
struct Part {
    index first, last;
    Part(index size, index parts, index i) : first(size * i / parts), last(size * (i + 1) / parts) {}
    index size() const { return last - first; }
};

// C = A B over `m` gathered rows: fill(row, rows, tile.a, tile.c) sets the pointers of consecutive rows. `tile`
// carries offsets, taps, k, bias (of all columns), accumulate and relu; c pointers are those of column 0.
template <class T, class Fill>
void multiply_gathered(index m, const Panels<T>& b, const Tile<T>& prototype, Fill&& fill) {
    const index tiles = (m + tile_rows - 1) / tile_rows;
    // A task is a few tiles times all panels: enough work to be worth taking, small enough to share out evenly.
    const index tasks = std::max<index>(1, std::min(tiles, std::max<index>(16, tiles / 8)));
    const double flops = 2.0 * static_cast<double>(m * b.columns) * static_cast<double>(prototype.taps * prototype.k);
    // With few rows (dense layers at small batch) panels are shared out too.
    const index panel_tasks = tasks >= 8 ? 1 : b.count();
    parallel_for(tasks * panel_tasks, flops, [&](index task, int) {
        const Part mine(tiles, tasks, task % tasks);
        const Part panels(b.count(), panel_tasks, task / tasks);
        for (index j = panels.first; j < panels.last; ++j) {
            for (index i = mine.first; i < mine.last; ++i) {
                const Part rows(m, tiles, i);
                Tile<T> tile = prototype;
                tile.rows = rows.size();
                b.select(j, tile);
                fill(rows.first, tile.rows, tile.a, tile.c);
                for (index r = 0; r < tile.rows; ++r) tile.c[r] += j * panel_columns<T>;
                if (tile.bias) tile.bias += j * panel_columns<T>;
                multiply_by_rows(tile);
            }
        }
    });
}

}  // namespace vivace
