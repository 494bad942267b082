// exp, sigmoid and tanh on whole registers.
//
// exp(x) = 2^n exp(r) with n = round(x / ln 2) and r = x - n ln 2, |r| <= ln(2)/2, where ln 2 is split in two so that
// n ln2_high is exact; exp(r) - 1 is its Taylor polynomial, whose remainder lies below a tenth of an ulp there.
// Largest errors measured over the range, either precision, in ulp: exp 0.9, sigmoid 1.6, tanh 2.0. NaN gives NaN; exp
// overflows to infinity, and results below the smallest normal number may be flushed to zero.
#pragma once

#include <limits>

#include "simd.h"

namespace vivace {

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, log2_e = 1.44269504f;
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
    static constexpr double log2_e = 1.44269504088896340736, low = -746.0, high = 710.0;
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
    const vec<T> rounded = x * C::log2_e + C::round;
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

}  // namespace vivace
