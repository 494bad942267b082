#include <cmath>
#include <string>
#include <limits>

#include "../src/philox.h"
#include "../src/vmath.h"
#include "check.h"
#include "vivace/elementwise.h"
#include "vivace/gemm.h"
#include "vivace/reference.h"

namespace vivace::tests {
namespace {

template <class T>
void gemm_equals_reference(index m, index n, index k) {
    const auto a = integers<T>(m * k), b = integers<T>(k * n), start = integers<T>(m * n);
    for (int mode = 0; mode < 8; ++mode) {
        auto c = start, expected = start;
        gemm(m, n, k, a.data(), mode & 1, b.data(), mode & 2, c.data(), mode & 4);
        reference::gemm(m, n, k, a.data(), mode & 1, b.data(), mode & 2, expected.data(), mode & 4);
        CHECK_FOR(c == expected, (std::to_string(m) + " " + std::to_string(n) + " " + std::to_string(k)).c_str());
    }
}

template <class T, class Position>
void pooling_equals_reference(const Pool2DShape& s) {
    const auto x = integers<T>(s.input_size()), dy = integers<T>(s.output_size());
    std::vector<T> y(dy.size()), y2(dy.size()), dx(x.size(), 7), dx2(x.size(), 8);
    std::vector<Position> at(dy.size()), at2(dy.size());
    max_pool2d_forward(s, x.data(), y.data(), at.data());
    reference::max_pool2d_forward(s, x.data(), y2.data(), at2.data());
    max_pool2d_backward(s, dy.data(), at.data(), dx.data());
    reference::max_pool2d_backward(s, dy.data(), at2.data(), dx2.data());
    CHECK(y == y2 && at == at2 && dx == dx2);
    average_pool2d_forward(s, x.data(), y.data());
    reference::average_pool2d_forward(s, x.data(), y2.data());
    average_pool2d_backward(s, dy.data(), dx.data());
    reference::average_pool2d_backward(s, dy.data(), dx2.data());
    const T tolerance = 8 * std::numeric_limits<T>::epsilon();
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::fabs(y[i] - y2[i]) <= tolerance * 8);
    for (std::size_t i = 0; i < dx.size(); ++i) CHECK(std::fabs(dx[i] - dx2[i]) <= tolerance * 32);
}

// Largest error in units of the last place of the true value, over `values`.
template <class T, class F, class G>
double largest_error(const std::vector<T>& values, F&& ours, G&& exact) {
    double worst = 0;
    for (std::size_t i = 0; i + lanes<T> <= values.size(); i += lanes<T>) {
        const vec<T> y = ours(load(values.data() + i));
        for (index j = 0; j < lanes<T>; ++j) {
            const long double truth = exact(static_cast<long double>(values[i + static_cast<std::size_t>(j)]));
            if (std::fabs(truth) < std::numeric_limits<T>::min() || std::isinf(static_cast<T>(truth))) continue;
            const int exponent = std::ilogb(truth);
            const long double ulp = std::ldexp(static_cast<long double>(std::numeric_limits<T>::epsilon()), exponent);
            worst = std::max(worst, static_cast<double>(std::fabs(static_cast<long double>(y[j]) - truth) / ulp));
        }
    }
    return worst;
}

template <class T>
void math_is_accurate(T range) {
    std::vector<T> values;
    std::uniform_real_distribution<double> exponent(-30, std::log2(static_cast<double>(range)));
    for (int i = 0; i < 400000; ++i)
        values.push_back(static_cast<T>((i % 2 ? 1 : -1) * std::exp2(exponent(rng)) * (1 + 1e-3 * (i % 997))));
    using Long = long double;
    const double e = largest_error(values, [](vec<T> v) { return exp<T>(v); }, [](Long x) { return std::exp(x); });
    const double s =
        largest_error(values, [](vec<T> v) { return sigmoid<T>(v); }, [](Long x) { return 1 / (1 + std::exp(-x)); });
    const double t = largest_error(values, [](vec<T> v) { return tanh<T>(v); }, [](Long x) { return std::tanh(x); });
    std::printf("largest errors in ulp, %zu-byte numbers: exp %.2f, sigmoid %.2f, tanh %.2f\n", sizeof(T), e, s, t);
    CHECK(e <= 2 && s <= 3 && t <= 3);
    const T infinity = std::numeric_limits<T>::infinity();
    CHECK(exp<T>(broadcast(-infinity))[0] == 0 && exp<T>(broadcast(infinity))[0] == infinity);
    CHECK(std::isnan(exp<T>(broadcast(std::numeric_limits<T>::quiet_NaN()))[0]));
    CHECK(std::isnan(tanh<T>(broadcast(std::numeric_limits<T>::quiet_NaN()))[0]));
    CHECK(tanh<T>(broadcast(infinity))[0] == 1 && tanh<T>(broadcast(-infinity))[0] == -1);
    CHECK(std::signbit(tanh<T>(broadcast(T(-0.0)))[0]) && exp<T>(broadcast(T{0}))[0] == 1);
}

}  // namespace

void test_gemm() {
    for (index m : {1, 2, 15, 33})
        for (index n : {1, 16, 17, 35})
            for (index k : {1, 9, 40}) gemm_equals_reference<float>(m, n, k);
    gemm_equals_reference<float>(130, 100, 300);
    gemm_equals_reference<double>(97, 113, 260);
    gemm_equals_reference<float>(32, 160, 128);
}

void test_pool2d() {
    for (int i = 0; i < 60; ++i) {
        const index kh = random_index(1, 3), kw = random_index(1, 3);
        const Pool2DShape s = pool2d_shape({random_index(1, 3), random_index(3, 9), random_index(3, 9), random_index(1, 35)},
                                           {kh, kw}, {random_index(1, kh + 1), random_index(1, kw + 1)},
                                           {random_index(0, kh - 1), 0, random_index(0, kw - 1), 0});
        pooling_equals_reference<float, std::uint8_t>(s);
        pooling_equals_reference<double, std::uint32_t>(s);
    }
}

void test_vmath() {
    math_is_accurate<float>(87);
    math_is_accurate<double>(700);
}

void test_elementwise() {
    std::uint32_t words[Philox::words];
    Philox::generate(0, 0, 0, words);  // the known answer of Philox4x32-10 for counter and key 0
    CHECK(words[0] == 0x6627e8d5u && words[1] == 0xe169c58du && words[2] == 0xbc57ac4cu && words[3] == 0x9b00dbd8u);
    for (index size : {1, 15, 17, 20000}) {
        const auto x = reals<float>(size);
        std::vector<float> y(x.size()), dropped(x.size());
        activation_forward(Activation::relu, size, x.data(), y.data());
        bool good = true;
        for (std::size_t i = 0; i < x.size(); ++i) good &= y[i] == std::max(0.0f, x[i]);
        CHECK(good);
        dropout(size, x.data(), 0.5, 1, 2, dropped.data());
        for (std::size_t i = 0; i < x.size(); ++i) good &= dropped[i] == 0 || dropped[i] == 2 * x[i];
        CHECK(good);
        softmax_forward(index{1}, size, x.data(), y.data());
        double sum = 0;
        for (float v : y) sum += static_cast<double>(v);
        CHECK(std::fabs(sum - 1) < 1e-5);
    }
}

}  // namespace vivace::tests
