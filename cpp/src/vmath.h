// exp, expm1, log, sine and cosine, sigmoid, tanh, softplus and the normal distribution on whole registers.
//
// exp(x) = 2^n exp(r) with n = round(x / ln 2) and r = x - n ln 2, |r| <= ln(2)/2, where ln 2 is split in two so that
// n ln2_high is exact; exp(r) - 1 is its Taylor polynomial, whose remainder lies below a tenth of an ulp there.
// Largest errors measured over the range, either precision, in ulp: exp 0.9, expm1 1.6, sigmoid 1.6, tanh 2.0, softplus
// 2.6, the normal distribution function 5.7 and its density 2.7. NaN gives NaN; exp and expm1 overflow to infinity, and results
// below the smallest normal number may be flushed to zero.
#pragma once

#include <limits>

#include "simd.h"

namespace vivace {

template <class T>
constexpr T log2_e = static_cast<T>(1.44269504088896340736);

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    static constexpr float low = -104.0f, high = 89.0f;          // beyond: 0 and infinity
    static constexpr float round = 12582912.0f;                   // 1.5 * 2^23: adding it rounds to an integer
    static constexpr int mantissa = 23, bias = 127, degree = 7;
    static constexpr float tanh_is_one = 9.5f;
    // 2^f = 1 + f (power[0] + f (power[1] + ...)) for |f| <= 1/2: the least largest relative error, 2e-9.
    static constexpr float power[] = {6.931471825e-1f, 2.402264774e-1f, 5.550332367e-2f,
                                      9.618436918e-3f, 1.339887385e-3f, 1.535336196e-4f};
};

template <>
struct ExpConstants<double> {
    static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
    static constexpr double low = -746.0, high = 710.0;
    static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr int mantissa = 52, bias = 1023, degree = 13;
    static constexpr double tanh_is_one = 20.0;
    // Taylor's, (ln 2)^i / i!: what is left out is below 2e-17.
    static constexpr double power[] = {0.69314718055994529, 0.24022650695910072, 0.055504108664821583, 0.0096181291076284769,
                                        0.0013333558146428443, 0.00015403530393381609, 1.5252733804059841e-05, 1.321548679014431e-06,
                                        1.01780860092397e-07, 7.0549116208011234e-09, 4.4455382718708116e-10, 2.5678435993488206e-11,
                                        1.3691488853904128e-12};
};

template <class To, class From>
VIVACE_INLINE To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}

template <class T>
struct Reduced {
    vec<int_of<T>> n;  // exp(x) = 2^n (1 + p)
    vec<T> p;          // exp(r) - 1
};

template <class T>
VIVACE_INLINE Reduced<T> reduce_exp(vec<T> x) {
    using C = ExpConstants<T>;
    const vec<T> rounded = x * log2_e<T> + C::round;
    const vec<T> n = rounded - C::round;
    const vec<T> high = x - n * C::ln2_high;
    const vec<T> r = high - n * C::ln2_low;
    const vec<T> rest = (high - r) - n * C::ln2_low;  // what r was rounded by
    T factorial = 1;
    for (int i = 2; i <= C::degree; ++i) factorial *= static_cast<T>(i);
    // p = r + r^2/2! + ... by Horner's rule from the highest power.
    vec<T> p = broadcast(T{1} / factorial);
#pragma GCC unroll 16
    for (int i = C::degree - 1; i >= 2; --i) {
        factorial /= static_cast<T>(i + 1);
        p = p * r + T{1} / factorial;
    }
    p = (p * (r * r) + rest) + r;
    const vec<int_of<T>> bits = bit_cast<vec<int_of<T>>>(rounded) - bit_cast<int_of<T>>(C::round);
    return {bits, p};
}

// 2^n for n within the normal exponents.
template <class T>
VIVACE_INLINE vec<T> power_of_two(vec<int_of<T>> n) {
    using C = ExpConstants<T>;
    return bit_cast<vec<T>>((n + C::bias) << C::mantissa);
}

template <class T>
VIVACE_INLINE vec<T> exp(vec<T> x) {
    using C = ExpConstants<T>;
    x = x < C::low ? broadcast(C::low) : x;
    x = x > C::high ? broadcast(C::high) : x;
    const Reduced<T> e = reduce_exp<T>(x);
    const vec<int_of<T>> half = e.n >> 1;  // 2^n itself may leave the range where the product does not
    return (e.p + T{1}) * power_of_two<T>(half) * power_of_two<T>(e.n - half);
}

// x = 2^x for x <= 0, and 0 where that lies below the normal numbers: the exponentials of a softmax, whose scores come in
// units of ln 2. Half the work of `exp`, and of several registers side by side: one alone waits for each operation's result,
// longer than the processor looks ahead. 2^0 is 1; errors below 0.9 ulp (1.2 without FMA); NaN gives NaN.
template <class T, int n>
VIVACE_INLINE void exp2_of_negative(vec<T> (&x)[n]) {
    using C = ExpConstants<T>;
    constexpr int terms = sizeof(C::power) / sizeof(T);
    vec<T> rounded[n], p[n];
#define VIVACE_EACH _Pragma("GCC unroll 8") for (int i = 0; i < n; ++i)
    VIVACE_EACH x[i] = maximum(broadcast(T{-C::bias}), x[i]);  // has the exponent of 0, which multiplies by 0; NaN stays
    VIVACE_EACH rounded[i] = x[i] + (C::round + C::bias);  // the lowest bits are x's integer with the exponent's bias
    VIVACE_EACH x[i] -= rounded[i] - (C::round + C::bias);
    VIVACE_EACH p[i] = broadcast(C::power[terms - 1]);
#pragma GCC unroll 16
    for (int term = terms - 2; term >= 0; --term) VIVACE_EACH p[i] = p[i] * x[i] + C::power[term];
    VIVACE_EACH p[i] = p[i] * x[i] + T{1};
    VIVACE_EACH x[i] = p[i] * bit_cast<vec<T>>(bit_cast<vec<int_of<T>>>(rounded[i]) << C::mantissa);
#undef VIVACE_EACH
}

// (a + b) - sum, exactly, where sum is a + b rounded (Dekker 1971).
template <class T>
VIVACE_INLINE vec<T> sum_error(vec<T> a, T b, vec<T> sum) {
    return a < b ? a - (sum - b) : b - (sum - a);
}

template <class T>
VIVACE_INLINE vec<T> sigmoid(vec<T> x) {
    const vec<T> e = exp<T>(-x), divisor = e + T{1}, y = T{1} / divisor;
    // What the divisor was rounded by moves y in its last place; y is 1 / divisor. (Infinity has nothing to add.)
    const vec<T> rounded = e < T{1} / std::numeric_limits<T>::min() ? sum_error<T>(e, T{1}, divisor) : vec<T>{};
    return y - y * y * rounded;
}

// tanh|x| = E / (E + 2) with E = exp(2|x|) - 1 = 2^n p + (2^n - 1), which loses nothing near 0.
template <class T>
VIVACE_INLINE vec<T> tanh(vec<T> x) {
    using C = ExpConstants<T>;
    const vec<T> negated = -x;
    vec<T> a = x < T{0} ? negated : x;
    a = a > C::tanh_is_one ? broadcast(C::tanh_is_one) : a;
    const Reduced<T> e = reduce_exp<T>(a + a);
    const vec<T> scale = power_of_two<T>(e.n);
    const vec<T> expm1 = scale * e.p + (scale - T{1});
    const vec<T> divisor = expm1 + T{2};
    const vec<T> quotient = expm1 / divisor;
    // What the divisor was rounded by moves the quotient in its last place. 1 / divisor is (1 - quotient) / 2.
    const vec<T> rounded = sum_error<T>(expm1, T{2}, divisor);
    const vec<T> y = quotient - quotient * rounded * (T{0.5} - T{0.5} * quotient);
    // The sign bit is x's, so that tanh(-0) is -0.
    const vec<int_of<T>> sign = bit_cast<vec<int_of<T>>>(x) & bit_cast<int_of<T>>(T(-0.0));
    return bit_cast<vec<T>>(bit_cast<vec<int_of<T>>>(y) | sign);
}

template <class T>
VIVACE_INLINE vec<T> absolute(vec<T> x) {
    return bit_cast<vec<T>>(bit_cast<vec<int_of<T>>>(x) & ~bit_cast<int_of<T>>(T(-0.0)));
}

// 2^n p + (2^n - 1), of which half is computed, since 2^n itself may overflow where the result does not.
template <class T>
VIVACE_INLINE vec<T> expm1(vec<T> x) {
    using C = ExpConstants<T>;
    x = x < -2 * C::tanh_is_one ? broadcast(-2 * C::tanh_is_one) : x;  // -1 from there on
    x = x > C::high ? broadcast(C::high) : x;
    const Reduced<T> e = reduce_exp<T>(x);
    const vec<T> scale = power_of_two<T>(e.n - 1);
    const vec<T> half = scale * e.p + (scale - T{0.5});
    return half + half;
}

// c[0] + c[1] x + ... by Horner's rule.
template <class T, std::size_t n>
VIVACE_INLINE vec<T> polynomial(const T (&c)[n], vec<T> x) {
    vec<T> p = broadcast(c[n - 1]);
#pragma GCC unroll 32
    for (int i = static_cast<int>(n) - 2; i >= 0; --i) p = p * x + c[i];
    return p;
}

// Minimax polynomials, fitted for the least relative error of what they are a factor of.
template <class T>
struct Fits;

template <>
struct Fits<float> {
    static constexpr float atanh[] = {0.333333201683f, 0.200037803225f, 0.141183099027f, 0.134257490114f};
    static constexpr float tail[] = {0.75528513851f,     -0.607896606074f,   0.387136679795f,     -0.186523005897f,
                                     0.0604064697483f,   -0.00752721291168f, -0.00352357405635f,  0.00156931364509f,
                                     0.000194801851142f, -0.000122983157005f};
    static constexpr float tail_is_zero = 14.5f;
    static constexpr std::int32_t upper_half = ~0xfff;
};

template <>
struct Fits<double> {
    static constexpr double atanh[] = {0.33333333333333329281,  0.20000000000007291337,  0.14285714283554378581,
                                       0.11111111358713931495,  0.090908947180664290846, 0.076927850324793115517,
                                       0.066570721048274680752, 0.060005364047953562676, 0.044003692430723369411,
                                       0.080820228059717661105};
    static constexpr double tail[] = {
        0.75528513041575147989,     -0.60789664197189175887,    0.3871374007422188786,     -0.18652185795969416326,
        0.060396574890699464128,    -0.0075401889655930590206,  -0.0034796923622425333441, 0.0016308184418903595964,
        0.00013334425401904911618,  -0.00023109481831937621135, -1.9078665316613574344e-6, 0.00003514418115776097273,
        7.1500559592160986612e-7,   -5.9188927317632364472e-6,  -6.2513210404786801933e-7, 1.0198048518135172659e-6,
        2.6368248576407625062e-7,   -1.5426320536771073947e-7,  -7.6380820534904503495e-8, 1.4578593347036459717e-8,
        1.3924023993501710103e-8,   7.2695454790266894559e-11,  -9.6534254202285046694e-10};
    static constexpr double tail_is_zero = 39.0;
    static constexpr std::int64_t upper_half = ~std::int64_t{0x7ffffff};
};

// log(1 + exp(x)) = max(x, 0) + log(1 + e) with e = exp(-|x|); and log(1 + e) = 2 atanh(w) with w = e / (2 + e), where
// w^2 <= 1/9.
template <class T>
VIVACE_INLINE vec<T> softplus(vec<T> x) {
    const vec<T> e = exp<T>(-absolute<T>(x));
    const vec<T> w = e / (e + T{2}), square = w * w, twice = w + w;
    return maximum(vec<T>{}, x) + (twice + twice * (square * polynomial<T>(Fits<T>::atanh, square)));
}

// log(x) = e ln 2 + 2 atanh(w) with w = (m - 1) / (m + 1), of positive normal numbers x = 2^e m, sqrt(1/2) <= m < sqrt(2).
template <class T>
VIVACE_INLINE vec<T> log(vec<T> x) {
    using C = ExpConstants<T>;
    const vec<int_of<T>> bits = bit_cast<vec<int_of<T>>>(x);
    const vec<int_of<T>> n = (bits - bit_cast<int_of<T>>(static_cast<T>(0.70710678118654752))) >> C::mantissa;
    const vec<T> e = bit_cast<vec<T>>(n + bit_cast<int_of<T>>(C::round)) - C::round;
    const vec<T> m = bit_cast<vec<T>>(bits - (n << C::mantissa));
    const vec<T> w = (m - T{1}) / (m + T{1}), square = w * w, twice = w + w;
    return e * C::ln2_high + (twice + (twice * (square * polynomial<T>(Fits<T>::atanh, square)) + e * C::ln2_low));
}

template <class T>
struct Circle {
    vec<T> cosine, sine;
};

// Taylor's coefficients of cos(x) = 1 + x^2 c[0] + ... and sin(x) = x (1 + x^2 s[0] + ...), as many as leave out less than
// half an ulp for |x| <= pi/4.
template <class T>
struct CircleSeries {
    static constexpr int terms = sizeof(T) == 4 ? 4 : 8;
    T cosine[terms] = {}, sine[terms] = {};
    constexpr CircleSeries() {
        double term = 1;
        for (int k = 0; k < terms; ++k) {
            term /= -(2 * k + 1) * (2 * k + 2);
            cosine[k] = static_cast<T>(term);
            sine[k] = static_cast<T>(term / (2 * k + 3));
        }
    }
};

// The point of the unit circle at an angle of at most pi/4, either way.
template <class T>
VIVACE_INLINE Circle<T> circle(vec<T> angle) {
    static constexpr CircleSeries<T> series;
    const vec<T> square = angle * angle;
    return {T{1} + square * polynomial<T>(series.cosine, square),
            angle + angle * (square * polynomial<T>(series.sine, square))};
}

template <class T>
struct Normal {
    vec<T> distribution, density;
};

// The normal distribution function at x and its density, exp(-x^2 / 2) / sqrt(2 pi). With a = |x|, what lies beyond a is
// exp(-a^2 / 2) r P(t), r = 1 / (a + 4) and t = (a - 4) r: the change of variable of Shepherd and Laframboise (1981).
template <class T>
VIVACE_INLINE Normal<T> normal(vec<T> x) {
    using F = Fits<T>;
    vec<T> a = absolute<T>(x);
    a = a > F::tail_is_zero ? broadcast(F::tail_is_zero) : a;
    // What a^2 is rounded by counts in its exponential: products of half as many digits are exact (Dekker 1971).
    const vec<T> square = a * a;
    const vec<T> upper = bit_cast<vec<T>>(bit_cast<vec<int_of<T>>>(a) & F::upper_half), lower = a - upper;
    const vec<T> rest = ((upper * upper - square) + (upper + upper) * lower) + lower * lower;
    const vec<T> power = exp<T>(T{-0.5} * square), e = power - power * (T{0.5} * rest);
    const vec<T> r = T{1} / (a + T{4});
    const vec<T> tail = e * (r * polynomial<T>(F::tail, (a - T{4}) * r));
    const vec<T> below = T{1} - tail;
    return {x > T{0} ? below : tail, e * static_cast<T>(0.398942280401432677939946)};
}

}  // namespace vivace
