// What all benchmarks share: data, and timing of a result that was checked first.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <string>
#include <vector>

#include "vivace/common.h"

namespace vivace::bench {

using Floats = std::vector<float>;

Floats random_floats(index size, unsigned seed);

// FMAs on registers alone, in FLOP/s; main measures it once and leaves it in `peak`.
double peak_flops(int threads);
extern double peak;

// Times run(output) after comparing its output with that of `trusted`.
void add(const std::string& name, double flops, index output_size, std::function<void(float*)> run,
         std::function<void(float*)> trusted);

void add_recurrent_layers();

}  // namespace vivace::bench
