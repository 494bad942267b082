// A test is a function; CHECK counts. No framework: the tests must build wherever the kernels do.
#pragma once

#include <cstdio>
#include <random>
#include <vector>

#include "vivace/common.h"

namespace vivace::tests {

struct Counts {
    int passed = 0, failed = 0;
};
inline Counts counts;

inline void check(bool good, const char* what, const char* file, int line, const char* context) {
    ++(good ? counts.passed : counts.failed);
    if (!good) std::printf("%s:%d: %s failed %s\n", file, line, what, context);
}
#define CHECK(condition) ::vivace::tests::check((condition), #condition, __FILE__, __LINE__, "")
#define CHECK_FOR(condition, context) ::vivace::tests::check((condition), #condition, __FILE__, __LINE__, context)

inline std::mt19937 rng(1);

inline index random_index(index low, index high) {
    return low + static_cast<index>(rng() % static_cast<unsigned>(high - low + 1));
}

// Small integers: sums of their products are exact, so results are compared without tolerance.
template <class T>
std::vector<T> integers(index size) {
    std::vector<T> v(static_cast<std::size_t>(size));
    for (T& x : v) x = static_cast<T>(static_cast<int>(rng() % 7) - 3);
    return v;
}

template <class T>
std::vector<T> reals(index size) {
    std::normal_distribution<double> normal;
    std::vector<T> v(static_cast<std::size_t>(size));
    for (T& x : v) x = static_cast<T>(normal(rng));
    return v;
}

void test_conv2d();
void test_conv2d_pool();
void test_gemm();
void test_pool2d();
void test_vmath();
void test_elementwise();
void test_rnn();

}  // namespace vivace::tests
