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

std::unique_ptr<Machine> machine;

namespace {

// The best of a few runs of body(pointer, thread) on all threads, in seconds.
double best_time(int threads, void (*body)(void*, int), void* context) {
    double best = 1e9;
    for (int repeat = 0; repeat < 5; ++repeat) {
        const double start = seconds();
        run_threads(threads, body, context);
        best = std::min(best, seconds() - start);
    }
    return best;
}

double peak_flops(int threads) {
    // With two operands the sums fill the registers, and none is spilled.
    constexpr int chains = vector_registers == 32 ? 16 : 12;
    constexpr long steps = 4000000;
    std::vector<float> sink(static_cast<std::size_t>(threads));
    const double time = best_time(
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
            static_cast<float*>(pointer)[thread] = horizontal_sum<float>(sums[0]);
        },
        sink.data());
    return 2.0 * chains * steps * static_cast<double>(lanes<float>) * threads / time;
}

// Reads of `bytes` in all, shared out to the threads, each of which reads its part again and again.
double bandwidth(double bytes, int threads) {
    struct Context {
        Floats data, sink;
        index part, repeats;
    } context;
    context.part = static_cast<index>(bytes) / 4 / threads / 64 * 64;
    context.repeats = std::max<index>(1, static_cast<index>(2e8 / bytes));
    context.data.assign(static_cast<std::size_t>(context.part * threads), 1);
    context.sink.resize(static_cast<std::size_t>(threads));
    const double time = best_time(
        threads,
        [](void* pointer, int thread) {
            Context& c = *static_cast<Context*>(pointer);
            vec<float> sums[8] = {};
            for (index repeat = 0; repeat < c.repeats; ++repeat) {
                const float* p = c.data.data() + thread * c.part;
                for (index i = 0; i < c.part; i += 8 * lanes<float>)
#pragma GCC unroll 8
                    for (int v = 0; v < 8; ++v) sums[v] += load(p + i + v * lanes<float>);
                keep_order();
            }
            for (int i = 1; i < 8; ++i) sums[0] += sums[i];
            c.sink[static_cast<std::size_t>(thread)] = horizontal_sum<float>(sums[0]);
        },
        &context);
    return 4.0 * static_cast<double>(context.part * threads * context.repeats) / time;
}

}  // namespace

Machine::Machine(int threads) : flops(peak_flops(threads)) {
    const double kib = 1024;
    for (auto [name, size] : {std::pair("L1", 16 * kib * threads), std::pair("L2", 256 * kib * threads),
                              std::pair("L3", 8 * kib * kib), std::pair("memory", 256 * kib * kib)})
        levels.push_back({name, size, bandwidth(size, threads)});
}

double Machine::floor(double work_flops, double bytes) const {
    std::size_t level = 0;
    while (level + 1 < levels.size() && levels[level].size < bytes) ++level;
    return std::max(work_flops / flops, bytes / levels[level].bandwidth);
}

Floats random_floats(index size, unsigned seed) {
    std::mt19937 rng(seed);
    std::uniform_real_distribution<float> uniform(-1, 1);
    Floats v(static_cast<std::size_t>(size));
    for (float& x : v) x = uniform(rng);
    return v;
}

void add(const std::string& name, Work work, index output_size, std::function<void(float*)> run,
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
        const double times = static_cast<double>(state.iterations());
        const auto rate = [&](double amount) { return benchmark::Counter(times * amount, benchmark::Counter::kIsRate); };
        state.counters["GFLOP/s"] = rate(work.flops / 1e9);
        state.counters["peak %"] = rate(100 * work.flops / machine->flops);
        state.counters["roofline %"] = rate(100 * machine->floor(work.flops, work.bytes));
    })->UseRealTime()->Unit(benchmark::kMicrosecond);
}

}  // namespace vivace::bench
