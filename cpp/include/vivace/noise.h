// Normal noise. Number i depends on (seed, stream, i) and the precision alone, bit for bit, whatever the threads and the ISA
// level: Philox4x32-10 makes pairs of uniform numbers, and of them pairs of normal ones (G. Box and M. Muller, 1958).
#pragma once

#include "vivace/common.h"

namespace vivace {

// y = x + deviation n, n of mean 0 and variance 1. y may alias x.
template <class T>
void add_noise(index size, const T* x, double deviation, std::uint64_t seed, std::uint64_t stream, T* y);

// y = x (1 + deviation n). The same call on dy is the backward pass. y may alias x.
template <class T>
void multiply_noise(index size, const T* x, double deviation, std::uint64_t seed, std::uint64_t stream, T* y);

}  // namespace vivace
