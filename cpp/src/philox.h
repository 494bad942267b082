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

    // Words of the counters block, block + 1, ...: four each, in order.
    static void generate(std::uint64_t seed, std::uint64_t stream, std::uint64_t block, std::uint32_t (&out)[words]) {
        constexpr std::uint64_t low = 0xffffffff;
        Lanes counter;
        for (index i = 0; i < blocks; ++i) counter[i] = block + static_cast<std::uint64_t>(i);
        Lanes c0 = counter & low, c1 = counter >> 32;
        Lanes c2 = Lanes{} + (stream & low), c3 = Lanes{} + (stream >> 32);
        std::uint64_t k0 = seed & low, k1 = seed >> 32;
        for (int round = 0; round < 10; ++round) {
            const Lanes a = c0 * 0xD2511F53u, b = c2 * 0xCD9E8D57u;  // 32 x 32 -> 64 bits
            c0 = (b >> 32) ^ c1 ^ k0;
            c1 = b & low;
            c2 = (a >> 32) ^ c3 ^ k1;
            c3 = a & low;
            k0 = (k0 + 0x9E3779B9u) & low;
            k1 = (k1 + 0xBB67AE85u) & low;
        }
        for (index i = 0; i < blocks; ++i) {
            out[4 * i] = static_cast<std::uint32_t>(c0[i]);
            out[4 * i + 1] = static_cast<std::uint32_t>(c1[i]);
            out[4 * i + 2] = static_cast<std::uint32_t>(c2[i]);
            out[4 * i + 3] = static_cast<std::uint32_t>(c3[i]);
        }
    }
};

}  // namespace vivace
