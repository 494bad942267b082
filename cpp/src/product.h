// Products of matrices on one thread, within a task: the right side is packed into memory that the task has.
#pragma once

#include "tile.h"

namespace vivace {

inline constexpr index no_offset[1] = {0};

inline index blocks_of(index size, index block) { return (size + block - 1) / block; }

// c (m, b.columns) = a (m, k) b, or += ; with `transposed`, a is stored (k, m). One thread.
template <class T>
void multiply(index m, index k, const T* a, index lda, bool transposed, const Panels<T>& b, T* c, index ldc,
              bool accumulate) {
    Tile<T> tile{};
    tile.offsets = no_offset;
    tile.taps = 1;
    tile.k = k;
    tile.a_step = lda;
    tile.accumulate = accumulate;
    const index tiles = blocks_of(m, tile_rows), height = m / tiles, higher = m % tiles;
    for (index j = 0; j < b.count(); ++j) {
        b.select(j, tile);
        for (index first = 0; first < m; first += tile.rows) {
            tile.rows = first < higher * (height + 1) ? height + 1 : height;
            tile.a[0] = a + first;
            for (index r = 0; r < tile.rows; ++r) {
                if (!transposed) tile.a[r] = a + (first + r) * lda;
                tile.c[r] = c + (first + r) * ldc + j * panel_columns<T>;
            }
            if (transposed)
                multiply_by_columns(tile);
            else
                multiply_by_rows(tile);
        }
    }
}

// A part of a (rows, columns) matrix, packed as the right side of a product; with `transposed` it is stored (columns, rows).
template <class T>
Panels<T> pack(const T* source, index ld, bool transposed, index rows, index columns, T* packed) {
    for (index first = 0; first < columns; first += panel_columns<T>)
        pack_panel(source + (transposed ? first * ld : first), ld, transposed, rows,
                   std::min(panel_columns<T>, columns - first), packed + first * rows);
    return packed_panels<T>(packed, rows, columns);
}

}  // namespace vivace
