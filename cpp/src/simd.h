// The vector type every kernel is written in: one register of the ISA level this file is compiled for.
//
// GNU vector extensions give + - * / comparisons and ?: on whole registers; GCC and Clang contract a * b + c to FMA.
// Intrinsics appear only where no expression exists (masked tails), each behind one named function below.
#pragma once

#include <cstring>
#include <type_traits>
#include <utility>

#include "vivace/common.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define VIVACE_INLINE inline __attribute__((always_inline))

namespace vivace {

#if defined(__AVX512F__)
inline constexpr index vector_bytes = 64;
inline constexpr int vector_registers = 32;
#elif defined(__AVX2__)
inline constexpr index vector_bytes = 32;
inline constexpr int vector_registers = 16;
#elif defined(__aarch64__)
inline constexpr index vector_bytes = 16;
inline constexpr int vector_registers = 32;
#else
inline constexpr index vector_bytes = 16;
inline constexpr int vector_registers = 16;
#endif

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(vector_bytes)));
    typedef T unaligned __attribute__((vector_size(vector_bytes), aligned(alignof(T)), may_alias));
};

template <class T>
using vec = typename VectorOf<T>::type;

// The signed integer type of T's width: comparisons of vec<T> give vec<int_of<T>>, all ones where true.
template <class T>
using int_of = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

template <class T>
inline constexpr index lanes = vector_bytes / static_cast<index>(sizeof(T));

// x - 0 is x for every x, -0 and NaN included (x + 0 is not), so the compiler reduces this to one broadcast.
template <class T>
VIVACE_INLINE vec<T> broadcast(T x) {
    return x - vec<T>{};
}

template <class T>
VIVACE_INLINE vec<T> load(const T* p) {
    return *reinterpret_cast<const typename VectorOf<T>::unaligned*>(p);
}

template <class T>
VIVACE_INLINE void store(T* p, vec<T> v) {
    *reinterpret_cast<typename VectorOf<T>::unaligned*>(p) = v;
}

// The compiler leaves loads before it before those behind it. No instruction.
VIVACE_INLINE void keep_order() { asm volatile("" ::: "memory"); }

#if defined(__AVX2__) && !defined(__AVX512F__)
// Ones in the first n lanes of a register of `lanes` integers.
template <class T>
VIVACE_INLINE __m256i first_lanes(index n) {
    static constexpr int_of<T> ones[2 * lanes<T>] = {-1, -1, -1, -1, lanes<T> > 4 ? -1 : 0, lanes<T> > 4 ? -1 : 0,
                                                     lanes<T> > 4 ? -1 : 0, lanes<T> > 4 ? -1 : 0};
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(ones + lanes<T> - n));
}
#endif

// The compiler computes addresses from p anew from here on, rather than keep a dozen of them in memory. No instruction.
template <class P>
VIVACE_INLINE void forget_address(P& p) {
    asm volatile("" : "+r"(p));
}

// The first n elements, 0 < n <= lanes; memory past them is not touched, lanes past them are 0.
template <class T>
VIVACE_INLINE vec<T> load_partial(const T* p, index n) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, float>)
        return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
    else
        return _mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1), p);
#elif defined(__AVX2__)
    if constexpr (std::is_same_v<T, float>)
        return _mm256_maskload_ps(p, first_lanes<T>(n));
    else
        return _mm256_maskload_pd(p, first_lanes<T>(n));
#else
    vec<T> v{};
    std::memcpy(&v, p, static_cast<std::size_t>(n) * sizeof(T));
    return v;
#endif
}

template <class T>
VIVACE_INLINE void store_partial(T* p, vec<T> v, index n) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, float>)
        _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), v);
    else
        _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1), v);
#elif defined(__AVX2__)
    if (n == lanes<T>) return store(p, v);
    // AVX2's masked store is slow on some processors: 16, 8 and 4 bytes instead.
    char* to = reinterpret_cast<char*>(p);
    __m128i rest = _mm256_castsi256_si128(reinterpret_cast<__m256i>(v));
    const index bytes = n * static_cast<index>(sizeof(T));
    if (bytes & 16) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), rest);
        rest = _mm256_extracti128_si256(reinterpret_cast<__m256i>(v), 1);
        to += 16;
    }
    if (bytes & 8) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to), rest);
        rest = _mm_unpackhi_epi64(rest, rest);
        to += 8;
    }
    if (bytes & 4) _mm_storeu_si32(to, rest);
#else
    std::memcpy(p, &v, static_cast<std::size_t>(n) * sizeof(T));
#endif
}

#if defined(__AVX2__) && !defined(__AVX512F__)
struct SetBits {
    std::uint8_t of[256][8] = {};
    constexpr SetBits() {
        for (int byte = 0; byte < 256; ++byte)
            for (int bit = 0, count = 0; bit < 8; ++bit)
                if (byte >> bit & 1) of[byte][count++] = static_cast<std::uint8_t>(bit);
    }
    constexpr const std::uint8_t* operator[](std::uint32_t byte) const { return of[byte]; }
};
inline constexpr SetBits set_bits;  // the numbers of a byte's ones
#endif

// The larger; b where either is NaN. GCC makes two instructions of the expression.
template <class V>
VIVACE_INLINE V maximum(V a, V b) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<V, vec<float>>) return _mm512_max_ps(a, b);
    if constexpr (std::is_same_v<V, vec<double>>) return _mm512_max_pd(a, b);
#elif defined(__AVX2__)
    if constexpr (std::is_same_v<V, vec<float>>) return _mm256_max_ps(a, b);
    if constexpr (std::is_same_v<V, vec<double>>) return _mm256_max_pd(a, b);
#endif
    return a > b ? a : b;
}

template <class T>
VIVACE_INLINE vec<T> square_root(vec<T> x) {
    constexpr bool is_float = std::is_same_v<T, float>;
#if defined(__AVX512F__)
    if constexpr (is_float) return _mm512_sqrt_ps(x);
    else return _mm512_sqrt_pd(x);
#elif defined(__AVX2__)
    if constexpr (is_float) return _mm256_sqrt_ps(x);
    else return _mm256_sqrt_pd(x);
#elif defined(__SSE2__)
    if constexpr (is_float) return _mm_sqrt_ps(x);
    else return _mm_sqrt_pd(x);
#else
    for (index i = 0; i < lanes<T>; ++i) x[i] = is_float ? __builtin_sqrtf(x[i]) : __builtin_sqrt(x[i]);
    return x;
#endif
}

// Whole numbers not above x.
VIVACE_INLINE vec<double> floor(vec<double> x) {
#if defined(__AVX512F__)
    return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
    return _mm256_floor_pd(x);
#elif defined(__SSE4_1__)
    return _mm_floor_pd(x);
#else
    for (index i = 0; i < lanes<double>; ++i) x[i] = __builtin_floor(x[i]);
    return x;
#endif
}

// Bit i is lane i of a comparison's result.
template <class T>
VIVACE_INLINE std::uint32_t bits(vec<int_of<T>> comparison) {
    [[maybe_unused]] constexpr bool is_float = std::is_same_v<T, float>;
#if defined(__AVX512F__)
    if constexpr (is_float) return _mm512_movepi32_mask(reinterpret_cast<__m512i>(comparison));
    else return _mm512_movepi64_mask(reinterpret_cast<__m512i>(comparison));
#elif defined(__AVX2__)
    if constexpr (is_float) return static_cast<std::uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(comparison)));
    else return static_cast<std::uint32_t>(_mm256_movemask_pd(reinterpret_cast<__m256d>(comparison)));
#elif defined(__SSE2__)
    if constexpr (is_float) return static_cast<std::uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(comparison)));
    else return static_cast<std::uint32_t>(_mm_movemask_pd(reinterpret_cast<__m128d>(comparison)));
#else
    std::uint32_t result = 0;
    for (index i = 0; i < lanes<T>; ++i) result |= static_cast<std::uint32_t>(comparison[i] != 0) << i;
    return result;
#endif
}

// The lanes of v whose bit is set, in their order, in front; what stands behind them is of no use.
template <class T>
VIVACE_INLINE vec<T> compress(vec<T> v, std::uint32_t bits) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return reinterpret_cast<vec<T>>(_mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), reinterpret_cast<__m512i>(v)));
    else
        return reinterpret_cast<vec<T>>(_mm512_maskz_compress_epi64(static_cast<__mmask8>(bits), reinterpret_cast<__m512i>(v)));
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) {
        const __m256i from = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(set_bits[bits])));
        return reinterpret_cast<vec<T>>(_mm256_permutevar8x32_epi32(reinterpret_cast<__m256i>(v), from));
    }
#endif
    vec<T> chosen{};
    for (index i = 0; bits; bits &= bits - 1) chosen[i++] = v[__builtin_ctz(bits)];
    return chosen;
}

// Each lane's choice among the four values of its own group of four lanes: out[i] = table[i - i % 4 + choice[i]], choice in
// 0 ... 3.
VIVACE_INLINE vec<float> choose_of_four(vec<float> table, vec<std::int32_t> choice) {
#if defined(__AVX512F__)
    return _mm512_permutevar_ps(table, reinterpret_cast<__m512i>(choice));
#elif defined(__AVX2__)
    return _mm256_permutevar_ps(table, reinterpret_cast<__m256i>(choice));
#elif defined(__clang__)  // has no shuffle by a variable
    vec<float> chosen{};
    for (index i = 0; i < lanes<float>; ++i) chosen[i] = table[choice[i]];
    return chosen;
#else
    static_assert(lanes<float> == 4);
    return __builtin_shuffle(table, choice);
#endif
}

// Four values, again and again.
VIVACE_INLINE vec<float> broadcast_four(const float* p) {
#if defined(__AVX512F__)
    return _mm512_broadcast_f32x4(_mm_loadu_ps(p));
#elif defined(__AVX2__)
    return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
#else
    return load(p);
#endif
}

template <class T, std::size_t... i>
VIVACE_INLINE void interleave(vec<T>& low, vec<T>& high, vec<T> a, vec<T> b, std::index_sequence<i...>) {
    constexpr std::size_t n = sizeof...(i);
#if defined(__clang__)
    low = __builtin_shufflevector(a, b, (i / 2 + i % 2 * n)...);
    high = __builtin_shufflevector(a, b, (n / 2 + i / 2 + i % 2 * n)...);
#else  // GCC has had the other's name since version 12 only
    low = __builtin_shuffle(a, b, vec<int_of<T>>{static_cast<int_of<T>>(i / 2 + i % 2 * n)...});
    high = __builtin_shuffle(a, b, vec<int_of<T>>{static_cast<int_of<T>>(n / 2 + i / 2 + i % 2 * n)...});
#endif
}

// A square of as many registers as a register has lanes: rows become columns.
template <class T>
VIVACE_INLINE void transpose(vec<T> (&rows)[lanes<T>]) {
    constexpr index n = lanes<T>;
#pragma GCC unroll 4
    for (index done = 1; done < n; done *= 2) {
        vec<T> mixed[n];
#pragma GCC unroll 8
        for (index i = 0; i < n / 2; ++i)
            interleave<T>(mixed[2 * i], mixed[2 * i + 1], rows[i], rows[i + n / 2],
                          std::make_index_sequence<static_cast<std::size_t>(n)>());
#pragma GCC unroll 16
        for (index i = 0; i < n; ++i) rows[i] = mixed[i];
    }
}

// Sum of all lanes, pairwise: the order is fixed, so the bits are.
template <class T>
VIVACE_INLINE T horizontal_sum(vec<T> v) {
    T a[lanes<T>];
    store(a, v);
    for (index half = lanes<T> / 2; half > 0; half /= 2)
        for (index i = 0; i < half; ++i) a[i] += a[i + half];
    return a[0];
}

// Runs f(i, n) for each whole or partial register of `size` elements: n == lanes, except for a shorter last one.
// With load_n and store_n below, one body serves both; the compiler drops the masks from the whole registers.
template <class T, class F>
VIVACE_INLINE void for_each_vector(index size, F&& f) {
    index i = 0;
    for (; i + lanes<T> <= size; i += lanes<T>) f(i, std::integral_constant<index, lanes<T>>{});
    if (i < size) f(i, size - i);
}

template <class T, class N>
VIVACE_INLINE vec<T> load_n(const T* p, N n) {
    if constexpr (std::is_same_v<N, std::integral_constant<index, lanes<T>>>)
        return load(p);
    else
        return load_partial(p, n);
}

template <class T, class N>
VIVACE_INLINE void store_n(T* p, vec<T> v, N n) {
    if constexpr (std::is_same_v<N, std::integral_constant<index, lanes<T>>>)
        store(p, v);
    else
        store_partial(p, v, n);
}

}  // namespace vivace
