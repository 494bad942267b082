#include "vivace/activations.h"

#include "functions.h"

namespace vivace {
namespace {

// alpha again and again, so that few columns fill whole registers too: x is rows of `width` elements, the last perhaps
// shorter.
template <class T>
struct Repeated {
    index width;
    Scratch<T> alpha;
    Repeated(index columns, const T* once)
        : width(columns < 64 ? columns * lanes<T> : columns), alpha(width) {
        for (index first = 0; first < width; first += columns) std::copy_n(once, columns, alpha + first);
    }
};

}  // namespace

template <class T>
void function_forward(Function f, const Parameters& p, index size, const T* x, T* y) {
    with_function<T>(f, p, [&](auto function) {
        map(size, function.cost, y, [=](vec<T> v) { return function.value(v); }, x);
    });
}

template <class T>
void function_backward(Function f, const Parameters& p, index size, const T* x, const T* y, const T* dy, T* dx) {
    with_function<T>(f, p, [&](auto function) {
        map(size, function.cost, dx, [=](vec<T> v, vec<T> w, vec<T> d) { return d * function.slope(v, w); }, x, y, dy);
    });
}

template <class T>
void prelu_forward(index rows, index columns, const T* x, const T* alpha, T* y) {
    const index size = rows * columns;
    const Repeated<T> repeated(columns, alpha);
    const index width = repeated.width, group = std::max<index>(1, 16384 / width) * width;
    parallel_for((size + group - 1) / group, cheap * static_cast<double>(size), [&](index task, int) {
        const index end = std::min(size, (task + 1) * group);
        for (index first = task * group; first < end; first += width)
            for_each_vector<T>(std::min(width, end - first), [&](index i, auto n) {
                const vec<T> v = load_n(x + first + i, n), below = v * load_n(repeated.alpha + i, n);
                store_n(y + first + i, v > T{0} ? v : below, n);
            });
    });
}

template <class T>
void prelu_backward(index rows, index columns, const T* x, const T* alpha, const T* dy, T* dx, T* dalpha) {
    const index size = rows * columns;
    const Repeated<T> repeated(columns, alpha);
    // Each group of rows has sums of its own, which are added in order.
    const index width = repeated.width, group = std::max<index>(8, 32768 / width) * width;
    const index groups = (size + group - 1) / group;
    const Scratch<T> sums(groups * width);
    parallel_for(groups, cheap * static_cast<double>(size), [&](index task, int) {
        T* sum = sums + task * width;
        std::fill_n(sum, width, T{});
        const index end = std::min(size, (task + 1) * group);
        for (index first = task * group; first < end; first += width)
            for_each_vector<T>(std::min(width, end - first), [&](index i, auto n) {
                const vec<T> v = load_n(x + first + i, n), d = load_n(dy + first + i, n);
                const vec<T> share = d * v, below = d * load_n(repeated.alpha + i, n);
                store_n(sum + i, load_n(sum + i, n) + (v > T{0} ? vec<T>{} : share), n);
                if (dx) store_n(dx + first + i, v > T{0} ? d : below, n);
            });
    });
    for (index first = 0; first < groups * width; first += columns)
        for (index i = 0; i < columns; ++i) dalpha[i] += sums[first + i];
}

#define INSTANTIATE(T)                                                                                      \
    template void function_forward(Function, const Parameters&, index, const T*, T*);                       \
    template void function_backward(Function, const Parameters&, index, const T*, const T*, const T*, T*);  \
    template void prelu_forward(index, index, const T*, const T*, T*);                                      \
    template void prelu_backward(index, index, const T*, const T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
