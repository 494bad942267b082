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

// A positive one of x: |x|, or 1 where that is too small or too large. V: numbers of T, or registers of them.
template <class V, class T>
V normal_number(V x) {
    const V negated = -x, size = x < T{0} ? negated : x;
    const V large = size > std::numeric_limits<T>::max() ? V{} + T{1} : size;
    return large < std::numeric_limits<T>::min() ? V{} + T{1} : large;
}

// What has a stated bound.
template <class T>
struct Sweep {
    struct Row {
        const char* name;
        double bound;
        vec<T> (*function)(vec<T>);
        long double (*exact)(long double);
        Worst worst = {};
    };
    Row rows[11] = {
        {"exp", 1, exp<T>, [](long double v) { return std::exp(v); }},
        {"power of two", 1.3,
         [](vec<T> x) {
             vec<T> powers[1] = {x < T{0} ? x : -x};
             exp2_of_negative<T>(powers);
             return powers[0];
         },
         [](long double v) { return std::exp2(-std::fabs(v)); }},
        {"expm1", 2, expm1<T>, [](long double v) { return std::expm1(v); }},
        {"sigmoid", 2, sigmoid<T>, [](long double v) { return 1 / (1 + std::exp(-v)); }},
        {"tanh", 2, tanh<T>, [](long double v) { return std::tanh(v); }},
        {"softplus", 3, softplus<T>,
         [](long double v) { return std::fmax(v, 0.0L) + std::log1p(std::exp(-std::fabs(v))); }},
        {"normal distribution", 6, [](vec<T> x) { return normal<T>(x).distribution; },
         [](long double v) { return std::erfc(-v / std::sqrt(2.0L)) / 2; }},
        {"log", 3, [](vec<T> x) { return log<T>(normal_number<vec<T>, T>(x)); },
         [](long double v) { return std::log(normal_number<long double, T>(v)); }},
        {"cosine", 2, [](vec<T> x) { return circle<T>(x > static_cast<T>(0.785) || x < static_cast<T>(-0.785) ? vec<T>{} : x).cosine; },
         [](long double v) { return std::fabs(v) > static_cast<T>(0.785) ? 1 : std::cos(v); }},
        {"sine", 2, [](vec<T> x) { return circle<T>(x > static_cast<T>(0.785) || x < static_cast<T>(-0.785) ? vec<T>{} : x).sine; },
         [](long double v) { return std::fabs(v) > static_cast<T>(0.785) ? 0 : std::sin(v); }},
        {"normal density", 3, [](vec<T> x) { return normal<T>(x).density; },
         [](long double v) { return std::exp(-v * v / 2) / std::sqrt(2 * std::acos(-1.0L)); }},
    };

    void operator()(vec<T> x) {
        for (Row& row : rows) compare<T>(x, row.function(x), row.exact, row.worst);
    }
    void finish(const char* name) const {
        for (const Row& row : rows) {
            std::printf("largest error, %s %s: %.3f ulp at %.9g\n", name, row.name, row.worst.ulp, row.worst.at);
            CHECK_FOR(row.worst.ulp <= row.bound, show(name, row.name, row.worst.ulp, row.worst.at));
        }
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
    const auto m = [](T x) { return expm1<T>(broadcast(x))[0]; };
    const auto p = [](T x) { return softplus<T>(broadcast(x))[0]; };
    const auto n = [](T x) { return normal<T>(broadcast(x)).distribution[0]; };
    const auto d = [](T x) { return normal<T>(broadcast(x)).density[0]; };
    for (T nan : {std::numeric_limits<T>::quiet_NaN(), -std::numeric_limits<T>::quiet_NaN()})
        CHECK(std::isnan(m(nan)) && std::isnan(p(nan)) && std::isnan(n(nan)) && std::isnan(d(nan)));
    CHECK(m(infinity) == infinity && m(huge) == infinity && m(-infinity) == -1 && m(-huge) == -1 && m(0) == 0);
    CHECK(p(infinity) == infinity && p(huge) == huge && p(-infinity) == 0 && p(-huge) == 0);
    CHECK(n(infinity) == 1 && n(huge) == 1 && n(-infinity) == 0 && n(-huge) == 0 && n(0) == T(0.5));
    CHECK(d(infinity) == 0 && d(huge) == 0 && d(-infinity) == 0 && d(-huge) == 0);
    vec<T> powers[3] = {-vec<T>{}, broadcast(-infinity), broadcast(std::numeric_limits<T>::quiet_NaN())};
    exp2_of_negative<T>(powers);
    CHECK(powers[0][0] == 1 && powers[1][0] == 0 && std::isnan(powers[2][0]));
    // A NaN in one lane leaves the others alone.
    vec<T> mixed{};
    mixed[0] = std::numeric_limits<T>::quiet_NaN();
    CHECK(exp<T>(mixed)[1] == 1 && sigmoid<T>(mixed)[1] == T(0.5) && tanh<T>(mixed)[1] == 0);
    CHECK(expm1<T>(mixed)[1] == 0 && normal<T>(mixed).distribution[1] == T(0.5));
}

}  // namespace

void test_vmath() {
    sweep_floats();
    sweep_doubles();
    special_values<float>();
    special_values<double>();
}

}  // namespace vivace::tests
