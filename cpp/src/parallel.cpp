#include "parallel.h"

#include <omp.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace vivace {
namespace {

// What the cgroup lets this process use, in CPUs; a huge number when there is no limit.
double cgroup_cpus() {
    double cpus = 1e9;
    if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        double quota, period;  // "max 100000" without a limit: then nothing is read
        if (std::fscanf(file, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) cpus = quota / period;
        std::fclose(file);
    }
    return cpus;
}

int default_threads() {
    // omp_get_max_threads() respects the affinity mask and OMP_NUM_THREADS.
    const double cpus = cgroup_cpus() + 0.5;
    const int quota = cpus < max_threads ? static_cast<int>(cpus) : max_threads;
    return std::clamp(std::min(omp_get_max_threads(), quota), 1, max_threads);
}

std::atomic<int>& thread_count() {
    static std::atomic<int> count{default_threads()};
    return count;
}

std::atomic<bool> forked_child{false};
std::atomic<bool> threads_were_used{false};

void watch_for_forks() {
#if defined(__unix__) || defined(__APPLE__)
    static const int registered = pthread_atfork(nullptr, nullptr, [] {
        if (threads_were_used.load(std::memory_order_relaxed)) forked_child.store(true, std::memory_order_relaxed);
    });
    (void)registered;
#endif
}

// Grow-only stack of scratch: a request that does not fit goes to the heap, and once everything is given back the
// block grows to the largest total seen.
struct ScratchStack {
    char* block = nullptr;
    std::size_t capacity = 0, used = 0, wanted = 0;
    int live = 0;
    ~ScratchStack() { std::free(block); }
};
thread_local ScratchStack scratch_stack;

std::size_t round_up(std::size_t bytes) { return (bytes + 127) & ~std::size_t{63}; }  // at least one spare line

// Large blocks in large pages, where the system has them: a packed matrix of 16 MB has more small ones than the processor
// keeps in mind, and a product of 2048 rows takes 5 % longer for it.
void* aligned(std::size_t bytes) {
    constexpr std::size_t line = 64, large_page = std::size_t{1} << 21;
    const bool large = bytes >= 2 * large_page;
    void* p = nullptr;
    if (posix_memalign(&p, large ? large_page : line, bytes) != 0) throw std::bad_alloc();
#if defined(__linux__)
    if (large) madvise(p, bytes, MADV_HUGEPAGE);  // a wish: it may be denied
#endif
    return p;
}

// When another process keeps a core busy, the thread on it is away for whole time slices of milliseconds, and a region of
// microseconds waits for it. Then the kernels do without other threads for a while, and try again: for a millisecond, since a
// thread may be late once for no reason that lasts, and twice as long each time that it is late soon after.
using Clock = std::chrono::steady_clock;
constexpr auto long_wait = std::chrono::microseconds(300);
constexpr Clock::duration soon = std::chrono::milliseconds(30), shortest_alone = std::chrono::milliseconds(1),
                          longest_alone = std::chrono::milliseconds(64);
std::atomic<Clock::rep> alone_until{0};           // of the clock; 0: not alone
std::atomic<Clock::rep> last_return{0}, time_alone{0};  // when it was over last; how long it was

bool alone() {
    const Clock::rep until = alone_until.load(std::memory_order_relaxed);
    if (until == 0) return false;
    if (Clock::now().time_since_epoch().count() < until) return true;
    last_return.store(until, std::memory_order_relaxed);
    alone_until.store(0, std::memory_order_relaxed);
    return false;
}

std::atomic<Clock::rep> last_end{0};  // of a parallel region

void note_wait(Clock::time_point start, Clock::time_point own_end, Clock::time_point end) {
    // Threads that have gone to sleep take long to wake, whoever else is there.
    constexpr auto still_awake = std::chrono::milliseconds(2);
    const Clock::time_point before(Clock::duration(last_end.exchange(end.time_since_epoch().count(), std::memory_order_relaxed)));
    if (start - before > still_awake) return;
    // Shares of unequal size make a thread wait too, but not for much longer than it worked.
    if (end - own_end <= long_wait || end - own_end <= 2 * (own_end - start)) return;
    const Clock::time_point returned(Clock::duration(last_return.load(std::memory_order_relaxed)));
    const Clock::duration before_that(time_alone.load(std::memory_order_relaxed));
    const Clock::duration alone = end - returned < soon ? std::min(2 * before_that, longest_alone) : shortest_alone;
    time_alone.store(alone.count(), std::memory_order_relaxed);
    alone_until.store((end + alone).time_since_epoch().count(), std::memory_order_relaxed);
}

}  // namespace

void set_num_threads(int threads) { thread_count().store(std::clamp(threads, 1, max_threads)); }
int get_num_threads() { return thread_count().load(); }

int threads_for(index tasks, double cost, int most) {
    // A team that still spins starts in half a microsecond, one that sleeps in tens: below some ten microseconds of work
    // a second thread gains little and may lose much.
    constexpr double worth_a_thread = 1e6;
    // What takes many time slices by itself need not fear to wait for one.
    constexpr double long_work = 1e9;
    const double wanted = cost / worth_a_thread;
    if (tasks <= 1 || wanted < 2 || (cost < long_work && alone())) return 1;
    const int useful = wanted < most ? static_cast<int>(wanted) : most;
    return static_cast<int>(std::min<index>(useful, tasks));
}

void run_threads(int threads, void (*body)(void*, int), void* context) {
    if (forked_child.load(std::memory_order_relaxed) || omp_in_parallel()) {
        for (int t = 0; t < threads; ++t) body(context, t);
        return;
    }
    watch_for_forks();
    threads_were_used.store(true, std::memory_order_relaxed);
    const Clock::time_point start = Clock::now();
    Clock::time_point own_end;
#pragma omp parallel num_threads(threads)
    {
        // The runtime may grant fewer threads than asked for; shares are taken by number, so none is left undone.
        body(context, omp_get_thread_num());
        if (omp_get_thread_num() == 0) own_end = Clock::now();
    }
    note_wait(start, own_end, Clock::now());
}

ScratchBytes::ScratchBytes(std::size_t bytes) : bytes_(round_up(bytes)), overflow_(false) {
    ScratchStack& s = scratch_stack;
    if (s.live == 0 && s.wanted > s.capacity) {
        std::free(s.block);
        s.block = nullptr;
        s.capacity = 0;
        s.block = static_cast<char*>(aligned(s.wanted));
        s.capacity = s.wanted;
    }
    if (s.used + bytes_ <= s.capacity) {
        data_ = s.block + s.used;
    } else {
        data_ = aligned(bytes_);
        overflow_ = true;
    }
    s.used += bytes_;
    s.wanted = std::max(s.wanted, s.used);
    ++s.live;
}

ScratchBytes::~ScratchBytes() {
    ScratchStack& s = scratch_stack;
    s.used -= bytes_;
    --s.live;
    if (overflow_) std::free(data_);
}

}  // namespace vivace
