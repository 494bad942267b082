#include "check.h"
#include "philox.h"
#include "vivace/noise.h"
#include "vivace/parallel.h"
#include "vmath.h"

namespace vivace::tests {
namespace {

constexpr index sizes[] = {1, 2, 3, 5, 8, 15, 17, 33, 1000, 16385, 300007};

// Number i from the definition, with the C library's functions.
template <class T>
double normal(std::uint64_t seed, std::uint64_t stream, index i) {
    std::uint32_t words[Philox::words];
    const bool is_float = sizeof(T) == 4;
    const index per_counter = is_float ? 4 : 2;
    Philox::generate(seed, stream, static_cast<std::uint64_t>(i / per_counter), words);
    const auto whole = [&](int k) { return words[k] | static_cast<std::uint64_t>(words[k + 1]) << 32; };
    const index lane = i % per_counter % (per_counter / 2);
    double share, angle;
    std::uint64_t top;
    if (is_float) {
        const std::uint32_t a = words[lane], b = words[lane + 2];
        share = (static_cast<double>(a >> 1) + 0.5) * 0x1p-31;
        angle = static_cast<std::int32_t>(b << 2) * 0x1p-31 * std::atan(1.0);
        top = b >> 30;
    } else {
        const std::uint64_t a = whole(0), b = whole(2);
        share = static_cast<double>(a >> 12) * 0x1p-52 + 0x1p-53;
        angle = (static_cast<double>(b << 2 >> 12) * 0x1p-52 - 0.5) * 2 * std::atan(1.0);
        top = b >> 62;
    }
    const double radius = std::sqrt(-2 * std::log(share)) * (top & 2 ? -1 : 1);
    const bool sine = (i % per_counter >= per_counter / 2) != ((top & 1) != 0);
    return radius * (sine ? std::sin(angle) : std::cos(angle));
}

template <class T>
void matches_its_definition(index size) {
    const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    const auto x = reals<T>(size);
    auto y = unset<T>(size), z = y, in_place = x;
    add_noise(size, x.data(), 0.5, 3, 9, y.data());
    multiply_noise(size, x.data(), 0.25, 3, 9, z.data());
    std::vector<double> sum, product;
    for (index i = 0; i < size; ++i) {
        const double n = normal<T>(3, 9, i), v = static_cast<double>(x[static_cast<std::size_t>(i)]);
        sum.push_back(v + 0.5 * n);
        product.push_back(v * (1 + 0.25 * n));
    }
    CHECK_CLOSE(y, sum, 16 * epsilon, 16 * epsilon, show(size, sizeof(T)));
    CHECK_CLOSE(z, product, 16 * epsilon, 16 * epsilon, show(size, sizeof(T)));
    add_noise(size, in_place.data(), 0.5, 3, 9, in_place.data());
    CHECK_FOR(same_bits(in_place, y), show(size));
}

// Moments and tails within five standard deviations; neighbours and other streams do not go along.
template <class T>
void is_normal() {
    const index size = 1 << 21;
    const std::vector<T> zeros(static_cast<std::size_t>(size));
    auto y = unset<T>(size), other = y;
    add_noise(size, zeros.data(), 1, 11, 1, y.data());
    add_noise(size, zeros.data(), 1, 11, 2, other.data());
    double moments[5] = {}, next = 0, across = 0, beyond_two = 0, below_one = 0, largest = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        const double v = static_cast<double>(y[i]);
        for (int k = 1; k <= 4; ++k) moments[k] += std::pow(v, k);
        next += i > 0 ? v * static_cast<double>(y[i - 1]) : 0;
        across += v * static_cast<double>(other[i]);
        beyond_two += std::fabs(v) > 2;
        below_one += v < 1;
        largest = std::max(largest, std::fabs(v));
    }
    const double n = static_cast<double>(size), root = std::sqrt(n);
    const double spread[] = {0, 1, std::sqrt(2.0), std::sqrt(15.0), std::sqrt(96.0)}, expected[] = {0, 0, 1, 0, 3};
    for (int k = 1; k <= 4; ++k) CHECK_FOR(std::fabs(moments[k] / n - expected[k]) < 5 * spread[k] / root, show(k, moments[k] / n));
    CHECK_FOR(std::fabs(next) < 5 * root && std::fabs(across) < 5 * root, show(next, across));
    for (const auto& [count, share] : {std::pair{beyond_two, std::erfc(std::sqrt(2.0))}, {below_one, 1 - std::erfc(std::sqrt(0.5)) / 2}})
        CHECK_FOR(std::fabs(count / n - share) < 5 * std::sqrt(share * (1 - share) / n), show(count / n, share));
    CHECK_FOR(largest > 4.5 && largest < 6.5, show(largest));
}

// FNV-1a of the bits: the same at every level, whatever its registers and whether it has FMA.
template <class T>
std::uint64_t fingerprint() {
    std::vector<T> y(100003);
    add_noise(index{100003}, y.data(), 0.7, 5, 6, y.data());
    multiply_noise(index{100003}, y.data(), 0.3, 5, 7, y.data());
    std::uint64_t hash = 0xcbf29ce484222325;
    const auto* bytes = reinterpret_cast<const unsigned char*>(y.data());
    for (std::size_t i = 0; i < y.size() * sizeof(T); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

template <class T>
void all(std::uint64_t expected) {
    for (index size : sizes) matches_its_definition<T>(size);
    is_normal<T>();
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        CHECK_FOR(fingerprint<T>() == expected, show(std::hex, fingerprint<T>()));
    }
}

}  // namespace

void test_noise() {
    const int threads = get_num_threads();
    all<float>(0xa86b743c43a15a9e);
    all<double>(0x2ab09c6d61b7d438);
    set_num_threads(threads);
}

}  // namespace vivace::tests
