#include "vivace/loss.h"

#include <cmath>

#include "map.h"
#include "rows.h"

namespace vivace {

template <class T>
void sparse_softmax_crossentropy_forward(index rows, index columns, const T* logits, const std::int64_t* labels,
                                         T* probabilities, T* losses) {
    parallel_rows(rows, columns, transcendental, [&](index r) {
        const T* z = logits + r * columns;
        const T of_label = z[labels[r]];  // read first: probabilities may alias logits
        const SoftmaxSums<T> s = softmax_row(columns, z, probabilities + r * columns);
        losses[r] = (s.maximum - of_label) + std::log(s.sum);
    });
}

template <class T>
void sparse_softmax_crossentropy_backward(index rows, index columns, const T* probabilities, const std::int64_t* labels,
                                          const T* scale, T* dlogits) {
    parallel_rows(rows, columns, cheap, [&](index r) {
        const T* p = probabilities + r * columns;
        T* out = dlogits + r * columns;
        const T of_label = p[labels[r]], w = scale[r];
        for_each_vector<T>(columns, [&](index i, auto n) { store_n(out + i, load_n(p + i, n) * w, n); });
        out[labels[r]] = (of_label - T{1}) * w;
    });
}

template <class T>
void softmax_crossentropy_forward(index rows, index columns, const T* logits, const T* targets, T* probabilities,
                                  T* losses) {
    parallel_rows(rows, columns, transcendental, [&](index r) {
        const T *z = logits + r * columns, *t = targets + r * columns;
        // sum_c t_c (log_sum - z_c), with the row's maximum taken out of both so that nothing large cancels.
        const T top = row_maximum(columns, z);
        vec<T> products{}, total{};
        for_each_vector<T>(columns, [&](index i, auto n) {
            const vec<T> target = load_n(t + i, n);
            products += target * (top - load_n(z + i, n));
            total += target;
        });
        const SoftmaxSums<T> s = softmax_row(columns, z, probabilities + r * columns);
        losses[r] = horizontal_sum<T>(products) + horizontal_sum<T>(total) * std::log(s.sum);
    });
}

template <class T>
void softmax_crossentropy_backward(index rows, index columns, const T* probabilities, const T* targets, const T* scale,
                                   T* dlogits) {
    parallel_rows(rows, columns, cheap, [&](index r) {
        const T *p = probabilities + r * columns, *t = targets + r * columns;
        T* out = dlogits + r * columns;
        vec<T> sums{};
        for_each_vector<T>(columns, [&](index i, auto n) { sums += load_n(t + i, n); });
        const T total = horizontal_sum<T>(sums), w = scale[r];
        for_each_vector<T>(columns, [&](index i, auto n) {
            store_n(out + i, (load_n(p + i, n) * total - load_n(t + i, n)) * w, n);
        });
    });
}

template <class T>
void sigmoid_crossentropy_forward(index rows, index columns, const T* logits, const T* targets, T* probabilities,
                                  T* losses) {
    parallel_rows(rows, columns, transcendental, [&](index r) {
        const T *z = logits + r * columns, *t = targets + r * columns;
        vec<T> sums{};
        for_each_vector<T>(columns, [&](index i, auto n) {
            const vec<T> logit = load_n(z + i, n), target = load_n(t + i, n);
            const vec<T> rest = softplus<T>(-absolute<T>(logit));  // log(1 + exp(-|z|))
            sums += fill_from<T>((maximum(vec<T>{}, logit) - logit * target) + rest, n, T{0});
            store_n(probabilities + r * columns + i, sigmoid<T>(logit), n);
        });
        losses[r] = horizontal_sum<T>(sums) / static_cast<T>(columns);
    });
}

template <class T>
void sigmoid_crossentropy_backward(index rows, index columns, const T* probabilities, const T* targets, const T* scale,
                                   T* dlogits) {
    parallel_rows(rows, columns, cheap, [&](index r) {
        const T w = scale[r] / static_cast<T>(columns);
        const index row = r * columns;
        for_each_vector<T>(columns, [&](index i, auto n) {
            store_n(dlogits + row + i, (load_n(probabilities + row + i, n) - load_n(targets + row + i, n)) * w, n);
        });
    });
}

template <class T>
void mean_squared_error_forward(index rows, index columns, const T* y, const T* targets, T* losses) {
    parallel_rows(rows, columns, cheap, [&](index r) {
        vec<T> sum{};
        for_each_vector<T>(columns, [&](index i, auto n) {
            const vec<T> d = load_n(y + r * columns + i, n) - load_n(targets + r * columns + i, n);
            sum += d * d;
        });
        losses[r] = horizontal_sum<T>(sum) / static_cast<T>(columns);
    });
}

template <class T>
void mean_squared_error_backward(index rows, index columns, const T* y, const T* targets, const T* scale, T* dy) {
    parallel_rows(rows, columns, cheap, [&](index r) {
        const T w = scale[r] * T{2} / static_cast<T>(columns);
        const index row = r * columns;
        for_each_vector<T>(columns, [&](index i, auto n) {
            store_n(dy + row + i, (load_n(y + row + i, n) - load_n(targets + row + i, n)) * w, n);
        });
    });
}

template <class T>
index count_correct(index rows, index columns, const T* y, const std::int64_t* labels) {
    index correct = 0;
    for (index r = 0; r < rows; ++r) {
        const T* p = y + r * columns;
        index best = 0;
        for (index i = 1; i < columns; ++i)
            if (p[i] > p[best]) best = i;
        correct += best == labels[r];
    }
    return correct;
}

template <class T>
double total(index size, const T* losses) {
    double sums[4] = {};  // four additions at a time
    for (index i = 0; i < size; ++i) sums[i % 4] += static_cast<double>(losses[i]);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

#define INSTANTIATE(T)                                                                                                \
    template void sparse_softmax_crossentropy_forward(index, index, const T*, const std::int64_t*, T*, T*);           \
    template void sparse_softmax_crossentropy_backward(index, index, const T*, const std::int64_t*, const T*, T*);    \
    template void softmax_crossentropy_forward(index, index, const T*, const T*, T*, T*);                             \
    template void softmax_crossentropy_backward(index, index, const T*, const T*, const T*, T*);                      \
    template void sigmoid_crossentropy_forward(index, index, const T*, const T*, T*, T*);                             \
    template void sigmoid_crossentropy_backward(index, index, const T*, const T*, const T*, T*);                      \
    template void mean_squared_error_forward(index, index, const T*, const T*, T*);                                   \
    template void mean_squared_error_backward(index, index, const T*, const T*, const T*, T*);                        \
    template index count_correct(index, index, const T*, const std::int64_t*);                                       \
    template double total(index, const T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
