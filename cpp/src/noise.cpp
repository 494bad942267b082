// Compiled without FMA contraction: see noise.h.
#include "vivace/noise.h"

#include "map.h"
#include "philox.h"
#include "vmath.h"

namespace vivace {
namespace {

// Normal numbers that one call of Philox gives: two of each pair of uniform ones.
template <class T>
constexpr index per_call = 2 * lanes<T>;

// Numbers in (0, 1], their smallest 2^-32 or 2^-53.
VIVACE_INLINE vec<float> radius_share(vec<std::int32_t> word) {
    const vec<std::int32_t> upper = (word >> 1) & 0x7fffffff;
    return (__builtin_convertvector(upper, vec<float>) + 0.5f) * 0x1p-31f;
}

VIVACE_INLINE vec<double> radius_share(vec<std::int64_t> word) {
    const vec<std::int64_t> fraction = (word >> 12) & 0xfffffffffffff;
    return bit_cast<vec<double>>(fraction | bit_cast<std::int64_t>(1.0)) - (1 - 0x1p-53);
}

// Angles within a quarter of a circle, -pi/4 to pi/4, from all but the two highest bits.
VIVACE_INLINE vec<float> quarter_angle(vec<std::int32_t> word) {
    return __builtin_convertvector(word << 2, vec<float>) * static_cast<float>(0x1p-31 * 0.78539816339744831);
}

VIVACE_INLINE vec<double> quarter_angle(vec<std::int64_t> word) {
    const vec<std::int64_t> fraction = ((word << 2) >> 12) & 0xfffffffffffff;
    return (bit_cast<vec<double>>(fraction | bit_cast<std::int64_t>(1.0)) - 1.5) * 1.5707963267948966;
}

// Numbers i, i + 1, ..., of which i is the counter block's first.
template <class T>
VIVACE_INLINE void make_normals(std::uint64_t seed, std::uint64_t stream, std::uint64_t block, T (&out)[per_call<T>]) {
    using Int = vec<int_of<T>>;
    const Philox::Pairs made = Philox::pairs(seed, stream, block);
    const Int place = reinterpret_cast<Int>(made.second);
    vec<T> radius = square_root<T>(T{-2} * log<T>(radius_share(reinterpret_cast<Int>(made.first))));
    const Circle<T> point = circle<T>(quarter_angle(place));
    // The two bits left choose the quarter: one the other diagonal's, one the opposite point.
    const Int mirrored = (place << 1) < 0;
    radius = bit_cast<vec<T>>(bit_cast<Int>(radius) ^ (place & bit_cast<int_of<T>>(T(-0.0))));
    Philox::store_in_order(radius * (mirrored ? point.sine : point.cosine),
                           radius * (mirrored ? point.cosine : point.sine), out);
}

template <class T, class F>
void with_normals(index size, const T* x, std::uint64_t seed, std::uint64_t stream, T* y, F&& f) {
    constexpr index per_counter = 16 / static_cast<index>(sizeof(T));
    parallel_blocks(size, 2 * transcendental, [&](index first, index last) {
        T normals[per_call<T>];
        for (index i = first; i < last; i += per_call<T>) {
            make_normals(seed, stream, static_cast<std::uint64_t>(i / per_counter), normals);
            for_each_vector<T>(std::min(per_call<T>, last - i), [&](index j, auto n) {
                store_n(y + i + j, f(load_n(x + i + j, n), load_n(normals + j, n)), n);
            });
        }
    });
}

}  // namespace

template <class T>
void add_noise(index size, const T* x, double deviation, std::uint64_t seed, std::uint64_t stream, T* y) {
    const T scale = static_cast<T>(deviation);
    with_normals(size, x, seed, stream, y, [=](vec<T> v, vec<T> normal) { return v + scale * normal; });
}

template <class T>
void multiply_noise(index size, const T* x, double deviation, std::uint64_t seed, std::uint64_t stream, T* y) {
    const T scale = static_cast<T>(deviation);
    with_normals(size, x, seed, stream, y, [=](vec<T> v, vec<T> normal) { return v * (T{1} + scale * normal); });
}

#define INSTANTIATE(T)                                                                              \
    template void add_noise(index, const T*, double, std::uint64_t, std::uint64_t, T*);             \
    template void multiply_noise(index, const T*, double, std::uint64_t, std::uint64_t, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
