#include "vivace/merge.h"

#include "map.h"
#include "rows.h"

namespace vivace {
namespace {

template <class T, Merge merge>
VIVACE_INLINE vec<T> combined(vec<T> a, vec<T> b) {
    switch (merge) {
        case Merge::subtract: return a - b;
        case Merge::multiply: return a * b;
        case Merge::maximum: return (a > b) | (a != a) ? a : b;
        case Merge::minimum: return (a < b) | (a != a) ? a : b;
        default: return a + b;
    }
}

// Calls f(operation, count): the operation as a constant, and the number of inputs too if there are two, as most often.
template <class F>
void with_constants(Merge merge, index count, F&& f) {
    const auto counted = [&](auto operation) {
        if (count == 2) return f(operation, std::integral_constant<index, 2>{});
        f(operation, count);
    };
    switch (merge) {
        case Merge::add: return counted(std::integral_constant<Merge, Merge::add>{});
        case Merge::subtract: return counted(std::integral_constant<Merge, Merge::subtract>{});
        case Merge::multiply: return counted(std::integral_constant<Merge, Merge::multiply>{});
        case Merge::average: return counted(std::integral_constant<Merge, Merge::average>{});
        case Merge::maximum: return counted(std::integral_constant<Merge, Merge::maximum>{});
        case Merge::minimum: return counted(std::integral_constant<Merge, Merge::minimum>{});
    }
}

// Pointers to so many arrays; two stay in registers.
template <class T, class Count>
struct Pointers {
    T* const* all;
    Pointers(Count, T* const* pointers) : all(pointers) {}
    VIVACE_INLINE T* operator[](index k) const { return all[k]; }
};
template <class T>
struct Pointers<T, std::integral_constant<index, 2>> {
    T *first, *second;
    Pointers(std::integral_constant<index, 2>, T* const* pointers) : first(pointers[0]), second(pointers[1]) {}
    VIVACE_INLINE T* operator[](index k) const { return k ? second : first; }
};

// Calls f(element, lanes) for all vectors in parallel.
template <class T, class F>
void for_each_element(index size, index arrays, F&& f) {
    parallel_blocks(size, cheap / 2 * static_cast<double>(arrays), [&](index first, index last) {
        for_each_vector<T>(last - first, [&](index i, auto n) { f(first + i, n); });
    });
}

// The part of the gradient that an input gets against what the others have come to, if the extremum of both is `chosen`.
template <class T>
VIVACE_INLINE vec<T> share_of(vec<T> input, vec<T> others, vec<T> chosen) {
    const vec<T> one = broadcast(T{1}), half = broadcast(T{0.5});
    return chosen == input ? (chosen == others ? half : one) : vec<T>{};
}

// A call for a few elements would take longer than these.
template <class T>
VIVACE_INLINE void copy(const T* from, index count, T* to) {
    if (count > 16) return static_cast<void>(std::copy_n(from, count, to));
    for (index i = 0; i < count; ++i) to[i] = from[i];
}

// Calls f(i, first element in part i, first element in the whole) for each part of each row.
template <class T, class F>
void for_each_part(index rows, index count, const index* columns, F&& f) {
    index width = 0;
    for (index i = 0; i < count; ++i) width += columns[i];
    parallel_rows(rows, width, cheap / 2 * sizeof(T), [&](index r) {
        index at = r * width;
        for (index i = 0; i < count; at += columns[i], ++i) f(i, r * columns[i], at);
    });
}

}  // namespace

template <class T>
void merge_forward(Merge merge, index count, index size, const T* const* x, T* y) {
    const T share = T{1} / static_cast<T>(count);
    with_constants(merge, count, [&](auto constant, auto inputs) {
        const Pointers<const T, decltype(inputs)> in(inputs, x);
        for_each_element<T>(size, count + 1, [&](index i, auto n) {
            vec<T> sum = load_n(in[0] + i, n);
            for (index k = 1; k < inputs; ++k) sum = combined<T, constant.value>(sum, load_n(in[k] + i, n));
            store_n(y + i, constant.value == Merge::average ? sum * share : sum, n);
        });
    });
}

template <class T>
void merge_backward(Merge merge, index count, index size, const T* const* x, const T* dy, T* const* dx) {
    if (merge == Merge::add)
        return parallel_blocks(size, cheap / 2 * static_cast<double>(count + 1), [&](index first, index last) {
            for (index k = 0; k < count; ++k)
                if (dx[k] != dy) copy(dy + first, last - first, dx[k] + first);
        });
    const T share = T{1} / static_cast<T>(count);
    with_constants(merge, count, [&](auto constant, auto inputs) {
        constexpr Merge operation = constant.value;
        const Pointers<const T, decltype(inputs)> in(inputs, x);
        const Pointers<T, decltype(inputs)> out(inputs, dx);
        // Where dy is the first input's gradient as it is, there may be nothing to do for that.
        const index first = operation == Merge::subtract && dx[0] == dy ? 1 : 0;
        for_each_element<T>(size, 2 * count + 1, [&](index i, auto n) {
            vec<T> d = load_n(dy + i, n);
            if constexpr (operation == Merge::maximum || operation == Merge::minimum) {
                // The gradients' memory first holds what the inputs up to each have come to.
                vec<T> chosen = load_n(in[0] + i, n);
                for (index k = 0;; chosen = combined<T, operation>(chosen, load_n(in[k] + i, n))) {
                    store_n(out[k] + i, chosen, n);
                    if (++k == inputs) break;
                }
                for (index k = inputs - 1; k > 0; --k) {
                    const vec<T> others = load_n(out[k - 1] + i, n);
                    const vec<T> part = share_of<T>(load_n(in[k] + i, n), others, chosen);
                    store_n(out[k] + i, d * part, n);
                    d *= T{1} - part;
                    chosen = others;
                }
                store_n(out[0] + i, d, n);
            } else {
                for (index k = inputs - 1; k >= first; --k) {
                    vec<T> part = operation == Merge::average ? d * share : operation == Merge::subtract && k > 0 ? -d : d;
                    if constexpr (operation == Merge::multiply)
                        for (index other = 0; other < inputs; ++other)
                            if (other != k) part *= load_n(in[other] + i, n);
                    store_n(out[k] + i, part, n);
                }
            }
        });
    });
}

template <class T>
void concatenate(index rows, index count, const index* columns, const T* const* x, T* y) {
    for_each_part<T>(rows, count, columns, [&](index i, index from, index to) { copy(x[i] + from, columns[i], y + to); });
}

template <class T>
void split(index rows, index count, const index* columns, const T* y, T* const* x) {
    for_each_part<T>(rows, count, columns, [&](index i, index to, index from) { copy(y + from, columns[i], x[i] + to); });
}

#define INSTANTIATE(T)                                                                     \
    template void merge_forward(Merge, index, index, const T* const*, T*);                 \
    template void merge_backward(Merge, index, index, const T* const*, const T*, T* const*); \
    template void concatenate(index, index, const index*, const T* const*, T*);            \
    template void split(index, index, const index*, const T*, T* const*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
