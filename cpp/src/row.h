// The product of a single row and a matrix, a B.
//
// Here it is B's way from the second-level cache that sets the pace, and one sequential stream comes 1.5 times as fast
// (210 GB/s on a Zen 5 core) as several panels side by side. So B is packed in blocks of columns that the row's
// accumulators can hold, each block one run from its first row to its last. The columns may consist of `parts` equal
// parts (the gates of a recurrent cell); a block then holds the same columns of every part, so that what combines them
// can do so in registers, while the next block is already on its way.
#pragma once

#include <algorithm>

#include "simd.h"

namespace vivace {

// Registers per part and block: enough accumulators not to wait for each other's FMAs, few enough to stay in registers.
template <int parts>
inline constexpr int block_vectors = parts == 1 ? 8 : parts == 2 ? 4 : 2;

// The width of the block that starts with `vectors` registers of columns left: a power of two.
template <int parts>
constexpr int block_width(index vectors) {
    int width = block_vectors<parts>;
    while (width > vectors) width /= 2;
    return width;
}

template <class T, int parts>
index packed_blocks_size(index k, index columns) {
    return parts * k * ((columns + lanes<T> - 1) / lanes<T> * lanes<T>);
}

// Both below work on columns [first, last) of every part: all of them, or a share that begins and ends with a block.

// Packs k rows of parts * columns columns; element (i, j) is source[i * ld + j], or source[j * ld + i] when transposed.
template <class T, int parts>
void pack_blocks(const T* source, index ld, bool transposed, index k, index columns, index first, index last, T* blocks) {
    for (T* packed = blocks + first * parts * k; first < last;) {
        const index width = block_width<parts>((last - first + lanes<T> - 1) / lanes<T>) * lanes<T>;
        const index n = std::min(width, last - first);
        for (index i = 0; i < k; ++i) {
            for (index part = 0; part < parts; ++part, packed += width) {
                const index column = part * columns + first;
                if (transposed)
                    for (index j = 0; j < n; ++j) packed[j] = source[(column + j) * ld + i];
                else
                    std::copy_n(source + i * ld + column, n, packed);
                std::fill(packed + n, packed + width, T{});
            }
        }
        first += width;
    }
}

// Calls f(j, n, sums, stride) for every block, n columns from j on: sums[part * stride + i] = (a B)(part, j + i). Sums run
// over k in the order of a tile's (tile.h), so the bits are the same.
template <class T, int parts, int width = block_vectors<parts>, class F>
VIVACE_INLINE void multiply_row(index k, index first, index last, const T* a, const T* blocks, F&& f) {
    constexpr index stride = width * lanes<T>;
    constexpr int registers = parts * width;
    for (; first + stride - lanes<T> < last; first += stride) {
        vec<T> sum[registers] = {};
        const T* b = blocks + first * parts * k;
        for (index i = 0; i < k; ++i, b += parts * stride) {
            const vec<T> x = broadcast(a[i]);
#pragma GCC unroll 8
            for (int v = 0; v < registers; ++v) {
                sum[v] += x * load(b + v * lanes<T>);
                keep_order();  // a shuffled stream is a third slower: the prefetcher wants it in sequence
            }
        }
        alignas(vector_bytes) T sums[registers * lanes<T>];
#pragma GCC unroll 8
        for (int v = 0; v < registers; ++v) store(sums + v * lanes<T>, sum[v]);
        f(first, std::min(stride, last - first), static_cast<const T*>(sums), stride);
    }
    if constexpr (width > 1) {
        if (first < last) multiply_row<T, parts, width / 2>(k, first, last, a, blocks, f);
    }
}

}  // namespace vivace
