// Element-wise loops over whole arrays.
#pragma once

#include "parallel.h"
#include "simd.h"

namespace vivace {

// Operations an element costs, for the choice of threads: memory traffic dominates the cheap ones.
inline constexpr double cheap = 4, transcendental = 24;

// y[i] = f(x[i], ...) on whole registers; y may be one of the inputs.
template <class T, class F, class... Inputs>
void map(index size, double cost, T* y, F&& f, const Inputs*... x) {
    parallel_blocks(size, cost, [&](index first, index last) {
        for_each_vector<T>(last - first, [&](index i, auto n) { store_n(y + first + i, f(load_n(x + first + i, n)...), n); });
    });
}

}  // namespace vivace
