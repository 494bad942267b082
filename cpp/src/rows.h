// Work on the rows of a matrix, shared by softmax and the losses.
#pragma once

#include <limits>

#include "parallel.h"
#include "vmath.h"

namespace vivace {

// Runs f(row) for every row in parallel, in groups of rows large enough to be worth a task.
template <class F>
void parallel_rows(index rows, index columns, double cost_per_element, F&& f) {
    const index group = std::max<index>(1, 4096 / std::max<index>(1, columns));
    const index tasks = (rows + group - 1) / group;
    parallel_for(tasks, static_cast<double>(rows * columns) * cost_per_element, [&](index task, int) {
        const index last = std::min(rows, (task + 1) * group);
        for (index r = task * group; r < last; ++r) f(r);
    });
}

// v with the lanes from n on replaced.
template <class T, class N>
VIVACE_INLINE vec<T> fill_from(vec<T> v, N n, T value) {
    if constexpr (!std::is_same_v<N, std::integral_constant<index, lanes<T>>>)
        for (index i = n; i < lanes<T>; ++i) v[i] = value;
    return v;
}

template <class T>
VIVACE_INLINE T row_maximum(index columns, const T* x) {
    constexpr T lowest = -std::numeric_limits<T>::infinity();
    vec<T> best = broadcast(lowest);
    for_each_vector<T>(columns, [&](index i, auto n) { best = maximum(fill_from<T>(load_n(x + i, n), n, lowest), best); });
    T result = lowest;
    for (index i = 0; i < lanes<T>; ++i) result = best[i] > result ? best[i] : result;
    return result;
}

template <class T>
struct SoftmaxSums {
    T maximum, sum;  // log(sum(exp(x))) = maximum + log(sum)
};

// y = softmax(x); y may alias x.
template <class T>
VIVACE_INLINE SoftmaxSums<T> softmax_row(index columns, const T* x, T* y) {
    const T top = row_maximum(columns, x);
    vec<T> sums{};
    for_each_vector<T>(columns, [&](index i, auto n) {
        const vec<T> e = exp<T>(load_n(x + i, n) - top);
        sums += fill_from<T>(e, n, T{0});
        store_n(y + i, e, n);
    });
    const T sum = horizontal_sum<T>(sums);
    const T scale = T{1} / sum;
    for_each_vector<T>(columns, [&](index i, auto n) { store_n(y + i, load_n(y + i, n) * scale, n); });
    return {top, sum};
}

}  // namespace vivace
