// What all benchmarks share: data, and timing of a result that was checked first.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "vivace/conv2d.h"

namespace vivace::bench {

// Arrays start on cache lines, as they do in Python.
template <class T>
struct Aligned {
    using value_type = T;
    Aligned() = default;
    template <class U>
    Aligned(const Aligned<U>&) {}
    T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{64})); }
    void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t{64}); }
    bool operator==(const Aligned&) const { return true; }
    bool operator!=(const Aligned&) const { return false; }
};
using Floats = std::vector<float, Aligned<float>>;

Floats random_floats(index size, unsigned seed);

// What this machine can do on so many threads, measured by this very run.
struct Machine {
    double flops;  // FMAs on registers alone, a second
    struct Level {
        const char* name;
        double size;       // bytes read again and again to measure it
        double bandwidth;  // bytes a second
    };
    std::vector<Level> levels;  // the nearest first

    explicit Machine(int threads);
    // Seconds that so much work takes at the least, if every byte comes once from the nearest level that holds them all.
    double floor(double work_flops, double bytes) const;
};
extern std::unique_ptr<Machine> machine;

// Useful operations (padding is not counted; a direct sum's, whatever the method), and the bytes of all arrays.
struct Work {
    double flops, bytes;
    Work(double operations, index elements) : flops(operations), bytes(4 * static_cast<double>(elements)) {}
};

// Times run(output) after comparing its output with that of `trusted`.
void add(const std::string& name, Work work, index output_size, std::function<void(float*)> run,
         std::function<void(float*)> trusted);

void add_recurrent_layers();
void add_attention_layers();

// The peers' rows, where they were found: nothing otherwise.
void add_openblas(const std::string& prefix, index m, index n, index k, const Floats& a, bool transpose_a,
                  const Floats& b, bool transpose_b, const std::function<void(float*)>& trusted);
struct Trusted {
    std::function<void(float*)> forward, input_gradient, weight_gradient;
};
void add_onednn(const std::string& prefix, const Conv2DShape& s, const Floats& x, const Floats& w, const Floats& b,
                const Floats& dy, const Trusted& trusted);

}  // namespace vivace::bench
