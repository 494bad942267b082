// Philox4x32-10, a counter-based generator: word i depends on (seed, stream, i) and nothing else, so any thread can make
// any part of a stream. J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include "simd.h"

namespace vivace {

class Philox {
    static constexpr index blocks = vector_bytes / 8;  // counters advanced together, one in each 64-bit lane
    using Lanes = std::uint64_t __attribute__((vector_size(vector_bytes)));

public:
    static constexpr index words = 4 * blocks;  // made by one call

    // Of the counters block, block + 1, ..., one in each lane: the first two words and the last two, the earlier one in the
    // low half.
    struct Pairs {
        Lanes first, second;
    };

    static VIVACE_INLINE Pairs pairs(std::uint64_t seed, std::uint64_t stream, std::uint64_t block) {
        // Words stand in the lanes' low halves. What the high halves gather is never read.
        constexpr std::uint64_t low = 0xffffffff;
        Lanes counter;
        for (index i = 0; i < blocks; ++i) counter[i] = block + static_cast<std::uint64_t>(i);
        Lanes c0 = counter, c1 = counter >> 32, c2 = Lanes{} + stream, c3 = Lanes{} + (stream >> 32);
        Lanes k0 = Lanes{} + seed, k1 = Lanes{} + (seed >> 32);
        for (int round = 0; round < 10; ++round) {
            const Lanes a = multiply(c0, 0xD2511F53u), b = multiply(c2, 0xCD9E8D57u);
            c0 = (b >> 32) ^ c1 ^ k0;
            c1 = b;
            c2 = (a >> 32) ^ c3 ^ k1;
            c3 = a;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        return {(c0 & low) | c1 << 32, (c2 & low) | c3 << 32};
    }

    // The words of these counters: four each, in order.
    static void generate(std::uint64_t seed, std::uint64_t stream, std::uint64_t block, std::uint32_t (&out)[words]) {
        const Pairs made = pairs(seed, stream, block);
        store_in_order(made.first, made.second, out);
    }

    // Two registers of pairs, a pair of each in turn. V: of vector_bytes; out: room for both.
    template <class V, class To>
    static VIVACE_INLINE void store_in_order(V first, V second, To* out) {
        vec<double> low, high;  // moved as they are, whatever they hold
        interleave<double>(low, high, reinterpret_cast<vec<double>>(first), reinterpret_cast<vec<double>>(second),
                           std::make_index_sequence<static_cast<std::size_t>(lanes<double>)>());
        std::memcpy(out, &low, sizeof(low));
        std::memcpy(reinterpret_cast<char*>(out) + sizeof(low), &high, sizeof(high));
    }

private:
    // Of the lanes' low halves, 32 x 32 -> 64 bits: one instruction, where the product of whole lanes takes a dozen.
    static VIVACE_INLINE Lanes multiply(Lanes lanes, std::uint32_t factor) {
#if defined(__AVX512F__)
        // The masked form, since GCC 12 warns of what its plain one is made of.
        return reinterpret_cast<Lanes>(
            _mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(lanes), _mm512_set1_epi64(factor)));
#elif defined(__AVX2__)
        return reinterpret_cast<Lanes>(_mm256_mul_epu32(reinterpret_cast<__m256i>(lanes), _mm256_set1_epi64x(factor)));
#elif defined(__x86_64__)
        return reinterpret_cast<Lanes>(_mm_mul_epu32(reinterpret_cast<__m128i>(lanes), _mm_set1_epi64x(factor)));
#else
        return (lanes & 0xffffffff) * factor;
#endif
    }
};

// Calls f(row, u) for each of the rows, with four numbers in [0, 1) of its own: those of the counter `row`.
template <class F>
void for_each_draw(std::uint64_t seed, std::uint64_t stream, index rows, F&& f) {
    std::uint32_t words[Philox::words];
    for (index row = 0; row < rows; ++row) {
        const index i = row % (Philox::words / 4) * 4;
        if (i == 0) Philox::generate(seed, stream, static_cast<std::uint64_t>(row), words);
        double u[4];
        for (int k = 0; k < 4; ++k) u[k] = words[i + k] * 0x1p-32;
        f(row, u);
    }
}

// Dropout's factors of Philox::words elements: 1 / (1 - rate) for those that stay, 0 for the others.
template <class T>
VIVACE_INLINE void dropout_factors(double rate, std::uint64_t seed, std::uint64_t stream, std::uint64_t block,
                                   T (&factors)[Philox::words]) {
    const T scale = static_cast<T>(1 / (1 - rate));
    const auto threshold = static_cast<std::uint32_t>(rate * 4294967296.0);
    std::uint32_t words[Philox::words];
    Philox::generate(seed, stream, block, words);
    if constexpr (sizeof(T) == 4) {
        using Words = std::uint32_t __attribute__((vector_size(vector_bytes)));
        for (index i = 0; i < Philox::words; i += lanes<T>) {
            Words own;
            std::memcpy(&own, words + i, sizeof(own));
            store(factors + i, own >= threshold ? vec<T>{} + scale : vec<T>{});
        }
    } else {
        for (index i = 0; i < Philox::words; ++i) factors[i] = scale * static_cast<T>(words[i] >= threshold);
    }
}

}  // namespace vivace
