#include "vivace/optimizer.h"

#include <cmath>

#include "parallel.h"
#include "simd.h"

namespace vivace {
template <class T>
void sgd_update(index size, T* w, T* g, T* velocity, double learning_rate, double momentum, bool nesterov) {
    const T rate = static_cast<T>(learning_rate), mu = static_cast<T>(momentum);
    parallel_blocks(size, 8, [&](index first, index last) {
        for_each_vector<T>(last - first, [&](index offset, auto n) {
            const index i = first + offset;
            vec<T> step = load_n(g + i, n) * -rate;
            store_n(g + i, vec<T>{}, n);
            if (mu != T{0}) {
                const vec<T> v = load_n(velocity + i, n) * mu + step;
                store_n(velocity + i, v, n);
                step = nesterov ? v * mu + step : v;
            }
            store_n(w + i, load_n(w + i, n) + step, n);
        });
    });
}

template <class T>
void adam_update(index size, T* w, T* g, T* m, T* v, double learning_rate, double beta_1, double beta_2, double epsilon,
                 std::int64_t step) {
    const double t = static_cast<double>(step);
    const T rate = static_cast<T>(learning_rate * std::sqrt(1 - std::pow(beta_2, t)) / (1 - std::pow(beta_1, t)));
    const T new_1 = static_cast<T>(1 - beta_1), new_2 = static_cast<T>(1 - beta_2), eps = static_cast<T>(epsilon);
    parallel_blocks(size, 16, [&](index first, index last) {
        for_each_vector<T>(last - first, [&](index offset, auto n) {
            const index i = first + offset;
            const vec<T> gradient = load_n(g + i, n);
            store_n(g + i, vec<T>{}, n);
            vec<T> mean = load_n(m + i, n), square = load_n(v + i, n);
            mean += (gradient - mean) * new_1;
            square += (gradient * gradient - square) * new_2;
            store_n(m + i, mean, n);
            store_n(v + i, square, n);
            store_n(w + i, load_n(w + i, n) - mean * rate / (square_root<T>(square) + eps), n);
        });
    });
}

template <class T>
void moving_average_update(index size, T* average, const T* value, double momentum) {
    const T kept = static_cast<T>(momentum), taken = static_cast<T>(1 - momentum);
    parallel_blocks(size, 8, [&](index first, index last) {
        for_each_vector<T>(last - first, [&](index offset, auto n) {
            const index i = first + offset;
            store_n(average + i, load_n(average + i, n) * kept + load_n(value + i, n) * taken, n);
        });
    });
}

#define INSTANTIATE(T)                                                                    \
    template void sgd_update(index, T*, T*, T*, double, double, bool);                    \
    template void adam_update(index, T*, T*, T*, T*, double, double, double, double, std::int64_t); \
    template void moving_average_update(index, T*, const T*, double);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
