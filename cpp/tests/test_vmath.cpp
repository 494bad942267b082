#include <cstdint>
#include <limits>

#include "check.h"
#include "vmath.h"

namespace vivace::tests {
namespace {

// The largest error seen, in units of the last place of the true value, and where.
struct Worst {
    double ulp = 0, at = 0;
};

// Compares one register of results with the C library's long double ones. What is not a normal number may be flushed.
template <class T, class Exact>
void compare(vec<T> x, vec<T> y, Exact&& exact, Worst& worst) {
    constexpr T smallest = std::numeric_limits<T>::min(), largest = std::numeric_limits<T>::max();
    for (index i = 0; i < lanes<T>; ++i) {
        const long double truth = exact(static_cast<long double>(x[i]));
        const long double size = std::fabs(truth);
        double ulp = 1e9;  // for a wrong infinity or NaN
        if (size > largest) {
            // Half an ulp past the largest number the right answer is infinity; around there both are.
            if (std::isinf(y[i]) || (size < 1.000001L * largest && y[i] == largest)) ulp = 0;
        } else if (size < smallest) {
            if (std::fabs(y[i]) <= 2 * smallest) ulp = 0;
        } else if (std::isfinite(y[i])) {
            const long double unit =
                std::ldexp(static_cast<long double>(std::numeric_limits<T>::epsilon()), std::ilogb(size));
            ulp = static_cast<double>(std::fabs(static_cast<long double>(y[i]) - truth) / unit);
        }
        if (ulp > worst.ulp) worst = {ulp, static_cast<double>(x[i])};
    }
}

template <class T>
struct Sweep {
    Worst exp_worst, exp2_worst, sigmoid_worst, tanh_worst;

    void operator()(vec<T> x) {
        compare<T>(x, exp<T>(x), [](long double v) { return std::exp(v); }, exp_worst);
        const vec<T> below = x < T{0} ? x : -x;
        vec<T> powers[1] = {below};
        exp2_of_negative<T>(powers);
        compare<T>(below, powers[0], [](long double v) { return std::exp2(v); }, exp2_worst);
        compare<T>(x, sigmoid<T>(x), [](long double v) { return 1 / (1 + std::exp(-v)); }, sigmoid_worst);
        compare<T>(x, tanh<T>(x), [](long double v) { return std::tanh(v); }, tanh_worst);
    }
    void finish(const char* name) const {
        std::printf("largest errors, %s: exp %.3f ulp at %.9g, exp2 %.3f at %.9g, sigmoid %.3f at %.9g, tanh %.3f at %.9g\n",
                    name, exp_worst.ulp, exp_worst.at, exp2_worst.ulp, exp2_worst.at, sigmoid_worst.ulp, sigmoid_worst.at, tanh_worst.ulp, tanh_worst.at);
        CHECK_FOR(exp_worst.ulp <= 1, show(name, exp_worst.ulp, exp_worst.at));
        CHECK_FOR(exp2_worst.ulp <= 1.3, show(name, exp2_worst.ulp, exp2_worst.at));
        CHECK_FOR(sigmoid_worst.ulp <= 2, show(name, sigmoid_worst.ulp, sigmoid_worst.at));
        CHECK_FOR(tanh_worst.ulp <= 2, show(name, tanh_worst.ulp, tanh_worst.at));
    }
};

// Every float, but for a stride through the bit patterns: all exponents, both signs.
void sweep_floats() {
    Sweep<float> sweep;
    vec<float> x{};
    index n = 0;
    for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 4999) {
        const float v = bit_cast<float>(static_cast<std::uint32_t>(bits));
        if (std::isnan(v)) continue;
        x[n++ % lanes<float>] = v;
        if (n % lanes<float> == 0) sweep(x);
    }
    sweep.finish("float");
}

// Doubles: dense where the functions change, and of every exponent.
void sweep_doubles() {
    Sweep<double> sweep;
    vec<double> x{};
    std::mt19937_64 bits(7);
    for (double range : {1e-3, 0.1, 0.7, 1.0, 5.0, 22.0, 40.0, 708.0, 750.0}) {
        std::uniform_real_distribution<double> uniform(-range, range);
        for (int i = 0; i < 60000; i += static_cast<int>(lanes<double>)) {
            for (index j = 0; j < lanes<double>; ++j) x[j] = uniform(bits);
            sweep(x);
        }
    }
    for (int i = 0; i < 200000; i += static_cast<int>(lanes<double>)) {
        for (index j = 0; j < lanes<double>; ++j) {
            const double v = bit_cast<double>(static_cast<std::uint64_t>(bits()));
            x[j] = std::isnan(v) ? 0 : v;
        }
        sweep(x);
    }
    sweep.finish("double");
}

template <class T>
void special_values() {
    const T infinity = std::numeric_limits<T>::infinity(), huge = std::numeric_limits<T>::max();
    const auto e = [](T x) { return exp<T>(broadcast(x))[0]; };
    const auto s = [](T x) { return sigmoid<T>(broadcast(x))[lanes<T> - 1]; };
    const auto t = [](T x) { return tanh<T>(broadcast(x))[lanes<T> / 2]; };
    for (T nan : {std::numeric_limits<T>::quiet_NaN(), -std::numeric_limits<T>::quiet_NaN()})
        CHECK(std::isnan(e(nan)) && std::isnan(s(nan)) && std::isnan(t(nan)));
    CHECK(e(infinity) == infinity && e(huge) == infinity && e(-infinity) == 0 && e(-huge) == 0);
    CHECK(!std::signbit(e(-infinity)));
    CHECK(e(0) == 1 && e(T(-0.0)) == 1);
    CHECK(s(infinity) == 1 && s(huge) == 1 && s(-infinity) == 0 && s(-huge) == 0);
    CHECK(s(0) == T(0.5) && s(T(-0.0)) == T(0.5));
    CHECK(t(infinity) == 1 && t(huge) == 1 && t(-infinity) == -1 && t(-huge) == -1);
    CHECK(t(0) == 0 && !std::signbit(t(0)) && t(T(-0.0)) == 0 && std::signbit(t(T(-0.0))));
    vec<T> powers[3] = {-vec<T>{}, broadcast(-infinity), broadcast(std::numeric_limits<T>::quiet_NaN())};
    exp2_of_negative<T>(powers);
    CHECK(powers[0][0] == 1 && powers[1][0] == 0 && std::isnan(powers[2][0]));
    // A NaN in one lane leaves the others alone.
    vec<T> mixed{};
    mixed[0] = std::numeric_limits<T>::quiet_NaN();
    CHECK(exp<T>(mixed)[1] == 1 && sigmoid<T>(mixed)[1] == T(0.5) && tanh<T>(mixed)[1] == 0);
}

}  // namespace

void test_vmath() {
    sweep_floats();
    sweep_doubles();
    special_values<float>();
    special_values<double>();
}

}  // namespace vivace::tests
