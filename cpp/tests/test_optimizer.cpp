#include <limits>

#include "check.h"
#include "vivace/optimizer.h"
#include "vivace/parallel.h"

namespace vivace::tests {
namespace {

using Reals = std::vector<double>;
constexpr int steps = 5;

template <class T>
Reals as_double(const std::vector<T>& v) {
    return Reals(v.begin(), v.end());
}

template <class T>
bool all_zero(const std::vector<T>& v) {
    return std::all_of(v.begin(), v.end(), [](T x) { return x == 0; });
}

// Several steps against the formulas in double; rounding of each step's T arithmetic adds up.
template <class T>
constexpr double tolerance = 8 * steps * static_cast<double>(std::numeric_limits<T>::epsilon());

template <class T>
void sgd(index size, double momentum, bool nesterov) {
    const double rate = 0.05;
    auto w = reals<T>(size), velocity = reals<T>(size);
    Reals expected_w = as_double(w), expected_v = as_double(velocity);
    const auto untouched = velocity;
    const std::string context = show(size, momentum, nesterov, sizeof(T));
    for (int step = 0; step < steps; ++step) {
        auto g = reals<T>(size);
        for (std::size_t i = 0; i < g.size(); ++i) {
            const double move = -rate * static_cast<double>(g[i]);
            if (momentum == 0) {
                expected_w[i] += move;
                continue;
            }
            expected_v[i] = momentum * expected_v[i] + move;
            expected_w[i] += nesterov ? momentum * expected_v[i] + move : expected_v[i];
        }
        sgd_update<T>(size, w.data(), g.data(), momentum == 0 && step % 2 ? nullptr : velocity.data(), rate, momentum,
                      nesterov);
        CHECK_FOR(all_zero(g), context);
    }
    CHECK_CLOSE(w, expected_w, tolerance<T>, tolerance<T>, context);
    if (momentum == 0)
        CHECK_FOR(same_bits(velocity, untouched), context);
    else
        CHECK_CLOSE(velocity, expected_v, tolerance<T>, tolerance<T>, context);
}

template <class T>
void adam(index size, double epsilon) {
    const double rate = 0.01, b1 = 0.9, b2 = 0.999;
    auto w = reals<T>(size);
    std::vector<T> m(w.size()), v(w.size());
    Reals expected_w = as_double(w), expected_m(w.size()), expected_v(w.size());
    const std::string context = show(size, epsilon, sizeof(T));
    for (int step = 1; step <= steps; ++step) {
        auto g = reals<T>(size);
        if (step < 3) g[0] = 0;  // no gradient yet: 0 / (sqrt(0) + epsilon) moves nothing
        const double start = expected_w[0];
        for (std::size_t i = 0; i < g.size(); ++i) {
            const double gi = static_cast<double>(g[i]);
            expected_m[i] = b1 * expected_m[i] + (1 - b1) * gi;
            expected_v[i] = b2 * expected_v[i] + (1 - b2) * gi * gi;
            expected_w[i] -= rate * std::sqrt(1 - std::pow(b2, step)) / (1 - std::pow(b1, step)) * expected_m[i] /
                             (std::sqrt(expected_v[i]) + epsilon);
        }
        adam_update<T>(size, w.data(), g.data(), m.data(), v.data(), rate, b1, b2, epsilon, step);
        CHECK_FOR(all_zero(g), context);
        if (step < 3) CHECK_FOR(static_cast<double>(w[0]) == start, context);
    }
    CHECK_CLOSE(w, expected_w, tolerance<T>, tolerance<T>, context);
    CHECK_CLOSE(m, expected_m, tolerance<T>, tolerance<T>, context);
    CHECK_CLOSE(v, expected_v, tolerance<T>, tolerance<T> / 100, context);
}

template <class T>
void moving_average(index size) {
    auto average = reals<T>(size);
    const auto value = reals<T>(size);
    auto expected = as_double(average);
    for (std::size_t i = 0; i < value.size(); ++i) expected[i] = 0.9 * expected[i] + 0.1 * static_cast<double>(value[i]);
    moving_average_update<T>(size, average.data(), value.data(), 0.9);
    CHECK_CLOSE(average, expected, tolerance<T>, tolerance<T>, show(size, sizeof(T)));
}

template <class T>
void all() {
    for (index size : {1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 35, 16384, 40001}) {
        sgd<T>(size, 0, false);
        sgd<T>(size, 0.9, false);
        sgd<T>(size, 0.9, true);
        adam<T>(size, 1e-7);
        moving_average<T>(size);
        adam<T>(size, 0.1);  // large enough to see where it stands
    }
}

void threads_agree() {
    const index size = 1000003;
    const auto w = reals<float>(size), g = reals<float>(size), v = reals<float>(size);
    std::vector<float> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        auto w1 = w, w2 = w, g1 = g, g2 = g, v1 = v, m2 = v;
        std::vector<float> v2(w.size(), 1);
        sgd_update<float>(size, w1.data(), g1.data(), v1.data(), 0.1, 0.9, true);
        adam_update<float>(size, w2.data(), g2.data(), m2.data(), v2.data(), 0.1, 0.9, 0.999, 1e-7, 3);
        auto average = w;
        moving_average_update<float>(size, average.data(), g.data(), 0.9);
        w1.insert(w1.end(), w2.begin(), w2.end());
        w1.insert(w1.end(), average.begin(), average.end());
        if (threads == 1) first = w1;
        CHECK_FOR(same_bits(w1, first) && all_zero(g1) && all_zero(g2), show(threads));
    }
}

}  // namespace

void test_optimizer() {
    const int threads = get_num_threads();
    all<float>();
    all<double>();
    threads_agree();
    set_num_threads(threads);
}

}  // namespace vivace::tests
