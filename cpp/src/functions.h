// The functions of activations.h on whole registers: `value`, and `slope`, the derivative, from x and y = value(x).
#pragma once

#include <cmath>
#include <limits>

#include "map.h"
#include "vivace/activations.h"
#include "vmath.h"

namespace vivace {

// v cut to [low, high]; NaN stays NaN.
template <class T>
VIVACE_INLINE vec<T> cut(vec<T> v, T low, T high) {
    v = v < low ? broadcast(low) : v;
    return v > high ? broadcast(high) : v;
}

// sigmoid(x) and sigmoid(-x), neither as 1 minus the other.
template <class T>
struct Sigmoids {
    vec<T> of, of_minus;
    VIVACE_INLINE explicit Sigmoids(vec<T> x) {
        const vec<T> e = exp<T>(-absolute<T>(x)), larger = T{1} / (e + T{1}), smaller = e * larger;
        of = x < T{0} ? smaller : larger;
        of_minus = x < T{0} ? larger : smaller;
    }
};

template <class T>
struct LeakyRelu {
    static constexpr double cost = cheap;
    T a, b, c;
    VIVACE_INLINE vec<T> value(vec<T> x) const {
        const vec<T> above = std::isinf(b) ? x : cut<T>(x, 0, b);
        const vec<T> below = a == 0 ? vec<T>{} : a * (x - c);  // 0 times infinity is not meant
        return x <= c ? below : above;
    }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const {
        const vec<T> inside = (x > T{0}) & (x < b) ? broadcast(T{1}) : vec<T>{};
        return x > c ? (std::isinf(b) ? broadcast(T{1}) : inside) : broadcast(a);
    }
};

template <class T>
struct Elu {
    static constexpr double cost = transcendental;
    T a, b, c;
    VIVACE_INLINE vec<T> value(vec<T> x) const {
        const vec<T> above = b * x, below = (a * b) * expm1<T>(c * x);
        return x > T{0} ? above : below;
    }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T> y) const {
        const vec<T> below = c * (y + a * b);
        return x > T{0} ? broadcast(b) : below;
    }
};

template <class T>
struct Clip {
    static constexpr double cost = cheap;
    T a, b, c;
    VIVACE_INLINE vec<T> value(vec<T> x) const { return cut<T>(a * x + b, c, 1); }
    VIVACE_INLINE vec<T> slope(vec<T>, vec<T> y) const {
        return (y > c) & (y < T{1}) ? broadcast(a) : vec<T>{};
    }
};

template <class T>
struct Gelu {
    static constexpr double cost = transcendental;
    VIVACE_INLINE vec<T> value(vec<T> x) const { return x * normal<T>(x).distribution; }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const {
        const Normal<T> n = normal<T>(x);
        return n.distribution + cut<T>(x, -50, 50) * n.density;  // 0 from there on, also at infinity
    }
};

// (1 + tanh(u)) / 2 is sigmoid(2 u).
template <class T>
struct GeluTanh {
    static constexpr double cost = transcendental;
    static constexpr T root = static_cast<T>(1.5957691216057307117597842397375), cubic = static_cast<T>(0.044715);
    VIVACE_INLINE vec<T> value(vec<T> x) const {
        return x * Sigmoids<T>(root * (x + cubic * (x * x * x))).of;
    }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const {
        const vec<T> v = cut<T>(x, -50, 50);
        const Sigmoids<T> s(root * (v + cubic * (v * v * v)));
        return s.of + v * (s.of * s.of_minus) * (root * (T{1} + 3 * cubic * (v * v)));
    }
};

template <class T>
struct Silu {
    static constexpr double cost = transcendental;
    VIVACE_INLINE vec<T> value(vec<T> x) const { return x * Sigmoids<T>(x).of; }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const {
        const Sigmoids<T> s(x);
        return s.of * (T{1} + cut<T>(x, -1000, 1000) * s.of_minus);
    }
};

// With e = exp(x) and n = e (e + 2): tanh(log(1 + e)) = n / (n + 2), which is 1 long before e^2 overflows.
template <class T>
struct Mish {
    static constexpr double cost = transcendental;
    static VIVACE_INLINE vec<T> exp_of(vec<T> x) {
        constexpr T is_one = 2 * ExpConstants<T>::tanh_is_one;
        return exp<T>(x > is_one ? broadcast(is_one) : x);
    }
    VIVACE_INLINE vec<T> value(vec<T> x) const {
        const vec<T> e = exp_of(x), n = e * (e + T{2});
        return x * (n / (n + T{2}));
    }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const {
        const vec<T> e = exp_of(x), n = e * (e + T{2}), r = T{1} / (n + T{2});
        return r * (n + cut<T>(x, -1000, 1000) * (T{4} * e * (e + T{1}) * r));
    }
};

template <class T>
struct Softplus {
    static constexpr double cost = transcendental;
    T a;
    VIVACE_INLINE vec<T> value(vec<T> x) const { return a * softplus<T>(a * x); }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const { return sigmoid<T>(a * x); }
};

template <class T>
struct Softsign {
    static constexpr double cost = cheap;
    VIVACE_INLINE vec<T> value(vec<T> x) const { return x / (absolute<T>(x) + T{1}); }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const {
        const vec<T> r = T{1} / (absolute<T>(x) + T{1});
        return r * r;
    }
};

template <class T>
struct Exponential {
    static constexpr double cost = transcendental;
    VIVACE_INLINE vec<T> value(vec<T> x) const { return exp<T>(x); }
    VIVACE_INLINE vec<T> slope(vec<T>, vec<T> y) const { return y; }
};

template <class T>
struct HardSilu {
    static constexpr double cost = cheap;
    static constexpr T sixth = T{1} / T{6}, third = T{1} / T{3};
    VIVACE_INLINE vec<T> value(vec<T> x) const { return x * cut<T>(sixth * x + T{0.5}, 0, 1); }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const {
        const vec<T> outside = x < T{3} ? vec<T>{} : broadcast(T{1}), inside = third * x + T{0.5};
        return absolute<T>(x) < T{3} ? inside : outside;
    }
};

template <class T>
struct Squareplus {
    static constexpr double cost = cheap;
    T a;
    VIVACE_INLINE vec<T> value(vec<T> x) const {
        const vec<T> root = square_root<T>(x * x + a);
        const vec<T> positive = T{0.5} * (x + root), negative = T{0.5} * a / (root - x);  // the same, without cancelling
        return x < T{0} ? negative : positive;
    }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T> y) const { return y / square_root<T>(x * x + a); }
};

template <class T>
struct SoftShrink {
    static constexpr double cost = cheap;
    T a;
    VIVACE_INLINE vec<T> value(vec<T> x) const { return x - cut<T>(x, -a, a); }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const {
        return absolute<T>(x) > a ? broadcast(T{1}) : vec<T>{};
    }
};

template <class T>
struct HardShrink : SoftShrink<T> {
    VIVACE_INLINE vec<T> value(vec<T> x) const { return absolute<T>(x) <= this->a ? vec<T>{} : x; }
};

template <class T>
struct TanhShrink {
    static constexpr double cost = transcendental;
    VIVACE_INLINE vec<T> value(vec<T> x) const { return x - tanh<T>(x); }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const {
        const vec<T> t = tanh<T>(x);
        return t * t;
    }
};

template <class T>
struct SparsePlus {
    static constexpr double cost = cheap;
    VIVACE_INLINE vec<T> value(vec<T> x) const {
        const vec<T> root = maximum(vec<T>{}, x + T{1}), square = T{0.25} * (root * root);
        return x < T{1} ? square : x;
    }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const { return cut<T>(T{0.5} * (x + T{1}), 0, 1); }
};

template <class T>
struct Threshold {
    static constexpr double cost = cheap;
    T a, b;
    VIVACE_INLINE vec<T> value(vec<T> x) const { return x > a ? x : broadcast(b); }
    VIVACE_INLINE vec<T> slope(vec<T> x, vec<T>) const { return x > a ? broadcast(T{1}) : vec<T>{}; }
};

// Calls run(the function).
template <class T, class Run>
void with_function(Function f, const Parameters& p, Run&& run) {
    const T a = static_cast<T>(p.a), b = static_cast<T>(p.b), c = static_cast<T>(p.c);
    switch (f) {
        case Function::leaky_relu: return run(LeakyRelu<T>{a, b, c});
        case Function::elu: return run(Elu<T>{a, b, c});
        case Function::clip: return run(Clip<T>{a, b, c});
        case Function::gelu: return run(Gelu<T>{});
        case Function::gelu_tanh: return run(GeluTanh<T>{});
        case Function::silu: return run(Silu<T>{});
        case Function::mish: return run(Mish<T>{});
        case Function::softplus: return run(Softplus<T>{a});
        case Function::softsign: return run(Softsign<T>{});
        case Function::exponential: return run(Exponential<T>{});
        case Function::hard_silu: return run(HardSilu<T>{});
        case Function::squareplus: return run(Squareplus<T>{a});
        case Function::soft_shrink: return run(SoftShrink<T>{a});
        case Function::hard_shrink: return run(HardShrink<T>{{a}});
        case Function::tanh_shrink: return run(TanhShrink<T>{});
        case Function::sparse_plus: return run(SparsePlus<T>{});
        case Function::threshold: return run(Threshold<T>{a, b});
    }
}

}  // namespace vivace
