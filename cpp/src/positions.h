// Maxima and their positions: integers of T's width in registers, bytes (or 32 bits) in memory.
#pragma once

#include "simd.h"

namespace vivace {

template <class T, class Position>
struct Narrow {
    typedef Position type __attribute__((vector_size(lanes<T> * sizeof(Position))));
};
template <class T, class Position>
using PositionVector = typename Narrow<T, Position>::type;

// Where bytes are concerned, GCC 12 would take the lanes of a register out or put them in one by one: hence the intrinsics.
template <class T, class Position, class N>
VIVACE_INLINE void store_positions(Position* p, vec<int_of<T>> positions, N n) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    if constexpr (sizeof(Position) == 1) {
        const __m256i wide = reinterpret_cast<__m256i>(positions);
        const __m256i lowest = sizeof(T) == 4 ? _mm256_set1_epi32(0x0c080400) : _mm256_set1_epi32(0x08000800);
        const __m256i bytes = _mm256_shuffle_epi8(wide, lowest);  // of each half's lanes, again and again
        const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
        const __m128i both = sizeof(T) == 4 ? _mm_unpacklo_epi32(low, high) : _mm_unpacklo_epi16(low, high);
        std::memcpy(p, &both, static_cast<std::size_t>(n));
        return;
    }
#endif
    const auto narrow = __builtin_convertvector(positions, PositionVector<T, Position>);
    std::memcpy(p, &narrow, static_cast<std::size_t>(n) * sizeof(Position));
}

// Of several registers, side by side; the last has n.
template <class T, int vectors, class Position, class N>
VIVACE_INLINE void store_positions(Position* p, const vec<int_of<T>> (&positions)[vectors], N n) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    if constexpr (sizeof(T) == 4 && sizeof(Position) == 1 && vectors == 2 && std::is_same_v<N, std::integral_constant<index, lanes<T>>>) {
        const __m256i halves = _mm256_packs_epi32(reinterpret_cast<__m256i>(positions[0]), reinterpret_cast<__m256i>(positions[1]));
        const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_shuffle_epi32(bytes, 0xd8));
        return;
    }
#endif
    for (int v = 0; v < vectors - 1; ++v)
        store_positions<T>(p + v * lanes<T>, positions[v], std::integral_constant<index, lanes<T>>());
    store_positions<T>(p + (vectors - 1) * lanes<T>, positions[vectors - 1], n);
}

template <class T, class Position, class N>
VIVACE_INLINE vec<int_of<T>> load_positions(const Position* p, N n) {
    PositionVector<T, Position> narrow{};
    std::memcpy(&narrow, p, static_cast<std::size_t>(n) * sizeof(Position));
#if defined(__AVX2__)
    if constexpr (sizeof(Position) == 1) {
        __m128i bytes = _mm_setzero_si128();
        std::memcpy(&bytes, &narrow, sizeof narrow);
#if defined(__AVX512F__)
        const __m512i wide = sizeof(T) == 4 ? _mm512_cvtepu8_epi32(bytes) : _mm512_cvtepu8_epi64(bytes);
#else
        const __m256i wide = sizeof(T) == 4 ? _mm256_cvtepu8_epi32(bytes) : _mm256_cvtepu8_epi64(bytes);
#endif
        return reinterpret_cast<vec<int_of<T>>>(wide);
    }
#endif
    return __builtin_convertvector(narrow, vec<int_of<T>>);
}

// The largest value met so far and where; the first of equals wins, the last NaN over all.
template <class T>
struct Winner {
    vec<T> value;
    vec<int_of<T>> position{};

    explicit Winner(vec<T> first) : value(first) {}
    Winner(vec<T> first, index at) : value(first), position(vec<int_of<T>>{} + static_cast<int_of<T>>(at)) {}
    VIVACE_INLINE void meet(vec<T> v, index at) { meet(Winner(v, at)); }
    VIVACE_INLINE void meet(const Winner& later) {
        const vec<int_of<T>> stays = ~(later.value > value) & (later.value == later.value);
        value = stays ? value : later.value;
        position = stays ? position : later.position;
    }
};

// Of the four pixels of a 2x2 window, none of them NaN. The largest first, then its position by equality: comparisons and
// choices compete with products for a core's units.
template <class T>
VIVACE_INLINE Winner<T> winner_of_four_numbers(vec<T> a, vec<T> b, vec<T> c, vec<T> d) {
    Winner<T> winner(maximum(maximum(a, b), maximum(c, d)));
    const vec<T>& best = winner.value;
    winner.position = ~(a == best) & (1 + (~(b == best) & (2 + (c == best))));  // a comparison that holds is -1
    return winner;
}

// Of the four pixels of a 2x2 window.
template <class T>
VIVACE_INLINE Winner<T> winner_of_four(vec<T> a, vec<T> b, vec<T> c, vec<T> d) {
    Winner<T> top(a), bottom(c, 2);  // two short chains instead of one long one
    top.meet(b, 1);
    bottom.meet(d, 3);
    top.meet(bottom);
    return top;
}

// Runs f(careful, sum), which pools windows and adds all that stands in them to `sum`: without care for NaN, and again with
// care if the sum says that there was one (or infinities of both signs).
template <class T, class F>
VIVACE_INLINE void pool_with_care(F&& f) {
    vec<T> sum{};
    f(std::false_type(), sum);
    if (__builtin_expect(bits<T>(sum != sum) != 0, 0)) f(std::true_type(), sum);
}

// Of the four pixels of a 2x2 window, which are added to `sum`.
template <bool careful, class T>
VIVACE_INLINE Winner<T> winner_of_four(vec<T> a, vec<T> b, vec<T> c, vec<T> d, vec<T>& sum) {
    sum += (a + b) + (c + d);
    return careful ? winner_of_four<T>(a, b, c, d) : winner_of_four_numbers<T>(a, b, c, d);
}

}  // namespace vivace
