#include "vivace/activations.h"

#include <cmath>
#include <limits>

#include "map.h"
#include "vmath.h"

namespace vivace {
namespace {

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

// The functions: `value` and `slope`, the derivative, from x and y.

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

// alpha again and again, so that few columns fill whole registers too: x is rows of `width` elements, the last perhaps
// shorter.
template <class T>
struct Repeated {
    index width;
    Scratch<T> alpha;
    Repeated(index columns, const T* once)
        : width(columns < 64 ? columns * lanes<T> : columns), alpha(width) {
        for (index first = 0; first < width; first += columns) std::copy_n(once, columns, alpha + first);
    }
};

}  // namespace

template <class T>
void function_forward(Function f, const Parameters& p, index size, const T* x, T* y) {
    with_function<T>(f, p, [&](auto function) {
        map(size, function.cost, y, [=](vec<T> v) { return function.value(v); }, x);
    });
}

template <class T>
void function_backward(Function f, const Parameters& p, index size, const T* x, const T* y, const T* dy, T* dx) {
    with_function<T>(f, p, [&](auto function) {
        map(size, function.cost, dx, [=](vec<T> v, vec<T> w, vec<T> d) { return d * function.slope(v, w); }, x, y, dy);
    });
}

template <class T>
void prelu_forward(index rows, index columns, const T* x, const T* alpha, T* y) {
    const index size = rows * columns;
    const Repeated<T> repeated(columns, alpha);
    const index width = repeated.width, group = std::max<index>(1, 16384 / width) * width;
    parallel_for((size + group - 1) / group, cheap * static_cast<double>(size), [&](index task, int) {
        const index end = std::min(size, (task + 1) * group);
        for (index first = task * group; first < end; first += width)
            for_each_vector<T>(std::min(width, end - first), [&](index i, auto n) {
                const vec<T> v = load_n(x + first + i, n), below = v * load_n(repeated.alpha + i, n);
                store_n(y + first + i, v > T{0} ? v : below, n);
            });
    });
}

template <class T>
void prelu_backward(index rows, index columns, const T* x, const T* alpha, const T* dy, T* dx, T* dalpha) {
    const index size = rows * columns;
    const Repeated<T> repeated(columns, alpha);
    // Each group of rows has sums of its own, which are added in order.
    const index width = repeated.width, group = std::max<index>(8, 32768 / width) * width;
    const index groups = (size + group - 1) / group;
    const Scratch<T> sums(groups * width);
    parallel_for(groups, cheap * static_cast<double>(size), [&](index task, int) {
        T* sum = sums + task * width;
        std::fill_n(sum, width, T{});
        const index end = std::min(size, (task + 1) * group);
        for (index first = task * group; first < end; first += width)
            for_each_vector<T>(std::min(width, end - first), [&](index i, auto n) {
                const vec<T> v = load_n(x + first + i, n), d = load_n(dy + first + i, n);
                const vec<T> share = d * v, below = d * load_n(repeated.alpha + i, n);
                store_n(sum + i, load_n(sum + i, n) + (v > T{0} ? vec<T>{} : share), n);
                if (dx) store_n(dx + first + i, v > T{0} ? d : below, n);
            });
    });
    for (index first = 0; first < groups * width; first += columns)
        for (index i = 0; i < columns; ++i) dalpha[i] += sums[first + i];
}

#define INSTANTIATE(T)                                                                                      \
    template void function_forward(Function, const Parameters&, index, const T*, T*);                       \
    template void function_backward(Function, const Parameters&, index, const T*, const T*, const T*, T*);  \
    template void prelu_forward(index, index, const T*, const T*, T*);                                      \
    template void prelu_backward(index, index, const T*, const T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
