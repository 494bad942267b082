// A test is a function; checks count. No framework: the tests must build wherever the kernels do.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "vivace/common.h"

namespace vivace::tests {

struct Counts {
    int passed = 0, failed = 0;
};
inline Counts counts;

inline void check(bool good, const std::string& what, const char* file, int line, const std::string& context) {
    ++(good ? counts.passed : counts.failed);
    if (!good && counts.failed <= 50) std::printf("%s:%d: %s failed%s\n", file, line, what.c_str(), context.c_str());
}

// All elements differ by at most absolute + relative * |expected|; NaN equals NaN. A failure names the first that does
// not. With tolerances of 0 this is ==.
template <class T, class U>
void check_close(const std::vector<T>& got, const std::vector<U>& expected, double relative, double absolute,
                 const char* what, const char* file, int line, const std::string& context) {
    std::ostringstream out;
    out.precision(17);
    bool good = got.size() == expected.size();
    if (!good) out << " sizes " << got.size() << ", " << expected.size();
    for (std::size_t i = 0; good && i < got.size(); ++i) {
        const double a = static_cast<double>(got[i]), b = static_cast<double>(expected[i]);
        good = a == b || (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) <= absolute + relative * std::fabs(b);
        if (!good) out << " [" << i << "] of " << got.size() << ": got " << a << ", expected " << b;
    }
    check(good, what, file, line, good ? context : out.str() + context);
}

#define CHECK_FOR(condition, context) ::vivace::tests::check((condition), #condition, __FILE__, __LINE__, context)
#define CHECK(condition) CHECK_FOR(condition, "")
#define CHECK_CLOSE(got, expected, relative, absolute, context) \
    ::vivace::tests::check_close(got, expected, relative, absolute, #got " close to " #expected, __FILE__, __LINE__, context)
#define CHECK_EQUAL(got, expected, context) \
    ::vivace::tests::check_close(got, expected, 0, 0, #got " == " #expected, __FILE__, __LINE__, context)

// " 1 2 3": what a check was about
template <class... Values>
std::string show(const Values&... values) {
    std::ostringstream out;
    ((out << ' ' << values), ...);
    return out.str();
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

inline std::mt19937 rng(1);

inline index random_index(index low, index high) {
    return low + static_cast<index>(rng() % static_cast<unsigned>(high - low + 1));
}

// Small integers: sums of their products are exact, so results are compared without tolerance.
template <class T>
std::vector<T> integers(index size) {
    std::vector<T> v(static_cast<std::size_t>(size));
    for (T& x : v) x = static_cast<T>(static_cast<int>(rng() % 7) - 3);
    return v;
}

template <class T>
std::vector<T> reals(index size, double deviation = 1) {
    std::normal_distribution<double> normal(0, deviation);
    std::vector<T> v(static_cast<std::size_t>(size));
    for (T& x : v) x = static_cast<T>(normal(rng));
    return v;
}

// An output array whose every element a kernel must overwrite.
template <class T>
std::vector<T> unset(index size) {
    return std::vector<T>(static_cast<std::size_t>(size), static_cast<T>(NAN));
}

// `size` elements behind which the memory ends: a kernel that reads or writes one more does not survive it. (The address
// sanitizer does not see masked loads and stores.)
template <class T>
class AtTheEnd {
public:
    explicit AtTheEnd(index size) : size_(size) {
        const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t wanted = static_cast<std::size_t>(size) * sizeof(T), pages = (wanted + page - 1) / page * page;
        bytes_ = pages + page;
        memory_ = static_cast<char*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (memory_ == MAP_FAILED || mprotect(memory_ + pages, page, PROT_NONE) != 0) std::abort();
        data_ = reinterpret_cast<T*>(memory_ + pages - wanted);
    }
    ~AtTheEnd() { munmap(memory_, bytes_); }
    AtTheEnd(const AtTheEnd&) = delete;
    AtTheEnd& operator=(const AtTheEnd&) = delete;

    T* data() { return data_; }
    index size() const { return size_; }
    T& operator[](index i) { return data_[i]; }

private:
    index size_;
    std::size_t bytes_;
    char* memory_;
    T* data_;
};

void test_simd();
void test_tile();
void test_parallel();
void test_conv2d();
void test_conv2d_pool();
void test_conv3d();
void test_gemm();
void test_einsum();
void test_pool2d();
void test_pool3d();
void test_vmath();
void test_elementwise();
void test_activations();
void test_images();
void test_noise();
void test_resample();
void test_loss();
void test_merge();
void test_optimizer();
void test_rnn();
void test_normalization();
void test_depthwise2d();
void test_attention();

}  // namespace vivace::tests
