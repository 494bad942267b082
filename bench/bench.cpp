#include "bench.h"

#include <chrono>
#include <cmath>
#include <random>

#include "../src/parallel.h"
#include "../src/simd.h"

namespace vivace::bench {
namespace {

double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Largest difference, relative to the largest value.
double difference(const Floats& a, const Floats& b) {
    double most = 0, scale = 1e-30;
    for (std::size_t i = 0; i < a.size(); ++i) {
        most = std::max(most, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
        scale = std::max(scale, std::fabs(static_cast<double>(b[i])));
    }
    return most / scale;
}

}  // namespace

double peak = 0;

double peak_flops(int threads) {
    constexpr int chains = vector_registers == 32 ? 16 : 12;  // with two operands they fill the registers, and none spills
    constexpr long steps = 4000000;
    double best = 0;
    std::vector<float> sink(static_cast<std::size_t>(threads));
    struct Context {
        float* sink;
    } context{sink.data()};
    for (int repeat = 0; repeat < 5; ++repeat) {
        const double start = seconds();
        run_threads(
            threads,
            [](void* pointer, int thread) {
                vec<float> sums[chains];
                for (int i = 0; i < chains; ++i) sums[i] = broadcast(0.3f + static_cast<float>(i));
                const vec<float> a = broadcast(0.999f), b = broadcast(1e-4f);
                for (long step = 0; step < steps; ++step) {
#pragma GCC unroll 16
                    for (int i = 0; i < chains; ++i) sums[i] = sums[i] * a + b;
                }
                for (int i = 1; i < chains; ++i) sums[0] += sums[i];
                static_cast<Context*>(pointer)->sink[thread] = horizontal_sum<float>(sums[0]);
            },
            &context);
        const double flops = 2.0 * chains * steps * static_cast<double>(lanes<float>) * threads;
        best = std::max(best, flops / (seconds() - start));
    }
    return best;
}
Floats random_floats(index size, unsigned seed) {
    std::mt19937 rng(seed);
    std::uniform_real_distribution<float> uniform(-1, 1);
    Floats v(static_cast<std::size_t>(size));
    for (float& x : v) x = uniform(rng);
    return v;
}

void add(const std::string& name, double flops, index output_size, std::function<void(float*)> run,
         std::function<void(float*)> trusted) {
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
        Floats got(static_cast<std::size_t>(output_size)), expected(got.size());
        run(got.data());
        trusted(expected.data());
        if (!(difference(got, expected) < 1e-4)) {
            state.SkipWithError("wrong result");
            return;
        }
        for (auto _ : state) {
            run(got.data());
            benchmark::ClobberMemory();
        }
        const double done = flops * static_cast<double>(state.iterations());
        state.counters["GFLOP/s"] = benchmark::Counter(done / 1e9, benchmark::Counter::kIsRate);
        state.counters["peak %"] = benchmark::Counter(done / peak * 100, benchmark::Counter::kIsRate);
    })->UseRealTime()->Unit(benchmark::kMicrosecond);
}

}  // namespace vivace::bench
