// AVX-512 on processors without it: included before everything else (-include), it makes the kernels take their AVX-512
// paths, registers of 64 bytes and all, of which the compiler makes two of AVX2. So the tests of that level run everywhere,
// slowly. Only the intrinsics that the kernels use are here, each by its definition.
#pragma once

#include <immintrin.h>

#include <cmath>

#if !defined(__AVX2__) || defined(__AVX512F__)
#error "avx512_emulated.h is for builds with AVX2 and without AVX-512"
#endif
#define __AVX512F__ 1
#define EMULATED __attribute__((noinline, unused)) static  // else they take minutes to compile

namespace avx512_emulated {

template <class V>
inline constexpr unsigned size = sizeof(V) / sizeof(V{}[0]);

// f(lane) in every lane.
template <class V, class F>
inline V lanes(F f) {
    V v{};
    for (unsigned i = 0; i < size<V>; ++i) v[i] = f(i);
    return v;
}

template <class V, class T>
inline void store(T* p, unsigned mask, V v) {
    for (unsigned i = 0; i < size<V>; ++i)
        if (mask >> i & 1) p[i] = v[i];
}

template <class V>
inline V compress(unsigned mask, V v) {
    V to{};
    for (unsigned i = 0, n = 0; i < size<V>; ++i)
        if (mask >> i & 1) to[n++] = v[i];
    return to;
}

template <class V>
inline unsigned negative(V v) {
    unsigned mask = 0;
    for (unsigned i = 0; i < size<V>; ++i) mask |= (v[i] < 0 ? 1u : 0u) << i;
    return mask;
}

using Ints = int __attribute__((vector_size(64)));
using Longs = long long __attribute__((vector_size(64)));
using Bytes = unsigned char __attribute__((vector_size(16)));

EMULATED __m512 maskz_loadu_ps(unsigned mask, const float* p) {
    return lanes<__m512>([&](unsigned i) { return mask >> i & 1 ? p[i] : 0; });
}
EMULATED __m512d maskz_loadu_pd(unsigned mask, const double* p) {
    return lanes<__m512d>([&](unsigned i) { return mask >> i & 1 ? p[i] : 0; });
}
EMULATED void mask_storeu_ps(float* p, unsigned mask, __m512 v) { store(p, mask, v); }
EMULATED void mask_storeu_pd(double* p, unsigned mask, __m512d v) { store(p, mask, v); }
EMULATED __m512 max_ps(__m512 a, __m512 b) { return a > b ? a : b; }
EMULATED __m512d max_pd(__m512d a, __m512d b) { return a > b ? a : b; }
EMULATED __m512 sqrt_ps(__m512 v) {
    return lanes<__m512>([&](unsigned i) { return std::sqrt(v[i]); });
}
EMULATED __m512d sqrt_pd(__m512d v) {
    return lanes<__m512d>([&](unsigned i) { return std::sqrt(v[i]); });
}
template <int how>
EMULATED __m512d roundscale_pd(__m512d v) {
    static_assert(how == (_MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
    return lanes<__m512d>([&](unsigned i) { return std::floor(v[i]); });
}
EMULATED unsigned movepi32_mask(__m512i v) { return negative(reinterpret_cast<Ints>(v)); }
EMULATED unsigned movepi64_mask(__m512i v) { return negative(reinterpret_cast<Longs>(v)); }
EMULATED __m512i maskz_compress_epi32(unsigned mask, __m512i v) {
    return reinterpret_cast<__m512i>(compress(mask, reinterpret_cast<Ints>(v)));
}
EMULATED __m512i maskz_compress_epi64(unsigned mask, __m512i v) { return reinterpret_cast<__m512i>(compress(mask, v)); }
EMULATED __m512 permutevar_ps(__m512 v, __m512i choice) {
    const Ints from = reinterpret_cast<Ints>(choice);
    return lanes<__m512>([&](unsigned i) { return v[i / 4 * 4 + (static_cast<unsigned>(from[i]) & 3)]; });
}
EMULATED __m512 broadcast_f32x4(__m128 v) {
    return lanes<__m512>([&](unsigned i) { return v[i % 4]; });
}
EMULATED __m512i cvtepu8_epi32(__m128i bytes) {
    const Bytes from = reinterpret_cast<Bytes>(bytes);
    return reinterpret_cast<__m512i>(lanes<Ints>([&](unsigned i) { return from[i]; }));
}
EMULATED __m512i cvtepu8_epi64(__m128i bytes) {
    const Bytes from = reinterpret_cast<Bytes>(bytes);
    return reinterpret_cast<__m512i>(lanes<Longs>([&](unsigned i) { return from[i]; }));
}
EMULATED __m512i set1_epi64(long long x) {
    return reinterpret_cast<__m512i>(lanes<Longs>([&](unsigned) { return x; }));
}
EMULATED __m512i maskz_mul_epu32(unsigned mask, __m512i a, __m512i b) {
    return reinterpret_cast<__m512i>(lanes<Longs>([&](unsigned i) {
        const unsigned long long low_a = static_cast<unsigned>(a[i]), low_b = static_cast<unsigned>(b[i]);
        return static_cast<long long>(mask >> i & 1 ? low_a * low_b : 0);
    }));
}

#undef EMULATED

}  // namespace avx512_emulated

#define _mm512_maskz_loadu_ps avx512_emulated::maskz_loadu_ps
#define _mm512_maskz_loadu_pd avx512_emulated::maskz_loadu_pd
#define _mm512_mask_storeu_ps avx512_emulated::mask_storeu_ps
#define _mm512_mask_storeu_pd avx512_emulated::mask_storeu_pd
#define _mm512_max_ps avx512_emulated::max_ps
#define _mm512_max_pd avx512_emulated::max_pd
#define _mm512_sqrt_ps avx512_emulated::sqrt_ps
#define _mm512_sqrt_pd avx512_emulated::sqrt_pd
#undef _mm512_roundscale_pd
#define _mm512_roundscale_pd(v, how) avx512_emulated::roundscale_pd<how>(v)
#define _mm512_movepi32_mask avx512_emulated::movepi32_mask
#define _mm512_movepi64_mask avx512_emulated::movepi64_mask
#define _mm512_maskz_compress_epi32 avx512_emulated::maskz_compress_epi32
#define _mm512_maskz_compress_epi64 avx512_emulated::maskz_compress_epi64
#undef _mm512_permutevar_ps
#define _mm512_permutevar_ps avx512_emulated::permutevar_ps
#define _mm512_broadcast_f32x4 avx512_emulated::broadcast_f32x4
#define _mm512_cvtepu8_epi32 avx512_emulated::cvtepu8_epi32
#define _mm512_cvtepu8_epi64 avx512_emulated::cvtepu8_epi64
#define _mm512_set1_epi64 avx512_emulated::set1_epi64
#define _mm512_maskz_mul_epu32 avx512_emulated::maskz_mul_epu32
