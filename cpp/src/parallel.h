// Threads and scratch memory. The only file (with parallel.cpp) that knows OpenMP.
#pragma once

#include <algorithm>
#include <atomic>
#include <new>
#include <utility>

#include "vivace/common.h"
#include "vivace/parallel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vivace {

inline constexpr int max_threads = 256;

// Denormals cost up to 50 times a normal operation: they are flushed to zero inside kernels, and only there.
class FlushDenormals {
public:
#if defined(__x86_64__)
    FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }  // flush to zero, denormals are zero
    ~FlushDenormals() { _mm_setcsr(saved_); }

private:
    unsigned saved_;
#elif defined(__aarch64__)
    FlushDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(saved_));
        asm volatile("msr fpcr, %0" ::"r"(saved_ | (std::uint64_t{1} << 24)));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }

private:
    std::uint64_t saved_;
#endif
public:
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;
};

// Tells the core that it waits in a loop.
inline void pause_briefly() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Threads worth waking for `tasks` pieces of `cost` operations in all (a FLOP, or a byte moved, counts as one), `most` at
// most.
int threads_for(index tasks, double cost, int most = get_num_threads());

// Calls body(context, thread) on `threads` threads and waits. Inside a forked child it runs them one after another,
// because the parent's OpenMP threads do not exist there.
void run_threads(int threads, void (*body)(void* context, int thread), void* context);

// Runs f(task, thread) once for every task. A thread first takes its own contiguous share (caches), then helps the
// others (a core that something else keeps busy delays nobody). Tasks must be independent, so that who runs what
// cannot change a bit of the result. f must not throw.
//
// Who has scratch memory for each thread asks get_num_threads() once and says the answer here too, as `most`: another
// thread of the program may change the number in between.
template <class F>
void parallel_for(index tasks, double cost, int most, F&& f) {
    const int threads = threads_for(tasks, cost, most);
    if (threads <= 1) {
        FlushDenormals guard;
        for (index task = 0; task < tasks; ++task) f(task, 0);
        return;
    }
    struct alignas(64) Share {
        std::atomic<index> next;
        index end;
    };
    struct Context {
        Share shares[max_threads];
        int threads;
        F* f;
    } context;
    context.threads = threads;
    context.f = &f;
    for (int t = 0; t < threads; ++t) {
        context.shares[t].next.store(tasks * t / threads, std::memory_order_relaxed);
        context.shares[t].end = tasks * (t + 1) / threads;
    }
    run_threads(
        threads,
        [](void* pointer, int thread) {
            Context& c = *static_cast<Context*>(pointer);
            FlushDenormals guard;
            for (int i = 0; i < c.threads; ++i) {
                Share& share = c.shares[(thread + i) % c.threads];
                for (index task; (task = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;)
                    (*c.f)(task, thread);
            }
        },
        &context);
}

template <class F>
void parallel_for(index tasks, double cost, F&& f) {
    parallel_for(tasks, cost, get_num_threads(), std::forward<F>(f));
}

// Splits `size` elements into fixed blocks (a multiple of 64 elements, so of every vector) and runs f(begin, end)
// over them in parallel.
template <class F>
void parallel_blocks(index size, double cost_per_element, F&& f) {
    constexpr index block = 16384;
    const index blocks = (size + block - 1) / block;
    parallel_for(blocks, static_cast<double>(size) * cost_per_element,
                 [&](index i, int) { f(i * block, std::min(size, (i + 1) * block)); });
}

// `count` elements of uninitialised 64-byte aligned memory from the calling thread's stack of scratch, given back
// at the end of the scope. In steady state it neither allocates nor touches a new page. Throws std::bad_alloc: take it
// outside parallel_for, with room for every thread.
class ScratchBytes {
public:
    explicit ScratchBytes(std::size_t bytes);
    ~ScratchBytes();
    ScratchBytes(const ScratchBytes&) = delete;
    ScratchBytes& operator=(const ScratchBytes&) = delete;

protected:
    void* data_;

private:
    std::size_t bytes_;
    bool overflow_;
};

template <class T>
class Scratch : ScratchBytes {
public:
    explicit Scratch(index count) : ScratchBytes(static_cast<std::size_t>(count) * sizeof(T)) {}
    T* get() const { return static_cast<T*>(data_); }
    operator T*() const { return get(); }
};

// Runs f(step, share) for every share of every step; a step begins when all shares of the one before are done. A thread
// keeps its share from step to step (caches). One that is late, asleep or kept away by another process delays nobody:
// the others do its share of a step that it has not begun. f must not throw.
template <class F>
void parallel_steps(index steps, int shares, F&& f) {
    if (shares <= 1) {
        FlushDenormals guard;
        for (index step = 0; step < steps; ++step) f(step, 0);
        return;
    }
    // A line of its own for each: only its thread writes there, the others read it once it is done.
    struct alignas(64) Share {
        std::atomic<bool> begun{false}, done{false};
    };
    Scratch<Share> board(steps * shares);
    for (index i = 0; i < steps * shares; ++i) new (board + i) Share;
    struct Context {
        Share* board;
        index steps;
        int shares;
        F* f;
        void offer(index step, int share) const {
            Share& mine = board[step * shares + share];
            if (mine.begun.exchange(true, std::memory_order_relaxed)) return;
            (*f)(step, share);
            mine.done.store(true, std::memory_order_release);
        }
    } context{board, steps, shares, &f};
    run_threads(
        shares,
        [](void* pointer, int thread) {
            const Context& c = *static_cast<const Context*>(pointer);
            FlushDenormals guard;
            for (index step = 0; step < c.steps; ++step) {
                c.offer(step, thread);
                for (int other = 0; other < c.shares; ++other) {  // its own too: somebody else may be at it
                    // Patience of about a microsecond: taking over means fetching the other's data.
                    for (int spins = 0; !c.board[step * c.shares + other].done.load(std::memory_order_acquire); ++spins) {
                        pause_briefly();
                        if (spins == 50) c.offer(step, other);
                    }
                }
            }
        },
        &context);
}

}  // namespace vivace
