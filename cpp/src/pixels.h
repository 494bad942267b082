// Loops over pixels of a few channels.
#pragma once

#include <numeric>

#include "simd.h"

namespace vivace {

// Runs f(std::integral_constant) with the number of channels if it is small and common, so that their loop is unrolled; with
// 0 otherwise.
template <class F>
VIVACE_INLINE void with_few(index channels, F&& f) {
    if (channels == 1) return f(std::integral_constant<index, 1>{});
    if (channels == 3) return f(std::integral_constant<index, 3>{});
    f(std::integral_constant<index, 0>{});
}

// How many elements values of `channels` channels take that are repeated until they fill whole registers.
template <class T>
index repeated_size(index channels) {
    return channels / std::gcd(channels, lanes<T>) * lanes<T>;
}

// Repeats the first `channels` of so many values.
template <class T>
VIVACE_INLINE void repeat(index channels, index size, T* values) {
    for (index i = channels; i < size; ++i) values[i] = values[i - channels];
}

// Runs f(i, j, n) for each whole or partial register of `size` elements of pixels: i is the first's place among them and j
// its place among values that are repeated.
template <class T, class F>
VIVACE_INLINE void for_each_in_pixels(index size, index repeated, F&& f) {
    if (size == 0) return;  // there may be no channels to repeat
    index first = 0;
    for (; first + repeated <= size; first += repeated)
        for (index j = 0; j < repeated; j += lanes<T>) f(first + j, j, std::integral_constant<index, lanes<T>>{});
    for_each_vector<T>(size - first, [&](index j, auto n) { f(first + j, j, n); });
}

}  // namespace vivace
