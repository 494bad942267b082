#include <limits>
#include <numeric>

#include "check.h"
#include "philox.h"
#include "vivace/elementwise.h"
#include "vivace/parallel.h"

namespace vivace::tests {
namespace {

constexpr index sizes[] = {1, 3, 4, 7, 8, 9, 15, 16, 17, 35, 1000, 16384, 16385, 200003};

template <class T>
constexpr double small_tolerance = 4 * static_cast<double>(std::numeric_limits<T>::epsilon());

template <class T>
void activations(index size) {
    const auto x = reals<T>(size, 3), dy = reals<T>(size);
    for (Activation a : {Activation::linear, Activation::relu, Activation::sigmoid, Activation::tanh}) {
        std::vector<double> expected;
        for (T value : x) {
            const double v = static_cast<double>(value);
            expected.push_back(a == Activation::linear    ? v
                               : a == Activation::relu    ? std::max(0.0, v)
                               : a == Activation::sigmoid ? 1 / (1 + std::exp(-v))
                                                          : std::tanh(v));
        }
        const std::string context = show(static_cast<int>(a), size, sizeof(T));
        const bool exact = a == Activation::linear || a == Activation::relu;
        const double tolerance = exact ? 0 : small_tolerance<T>;
        auto y = unset<T>(size), in_place = x;
        activation_forward(a, size, x.data(), y.data());
        activation_forward(a, size, in_place.data(), in_place.data());
        CHECK_CLOSE(y, expected, tolerance, 0, context);
        CHECK_FOR(same_bits(in_place, y), context);

        for (std::size_t i = 0; i < x.size(); ++i) {
            const double v = static_cast<double>(y[i]), d = static_cast<double>(dy[i]);
            expected[i] = a == Activation::linear    ? d
                          : a == Activation::relu    ? (x[i] > 0 ? d : 0)
                          : a == Activation::sigmoid ? d * v * (1 - v)
                                                     : d * (1 - v * v);
        }
        auto dx = unset<T>(size);
        in_place = dy;
        activation_backward(a, size, y.data(), dy.data(), dx.data());
        activation_backward(a, size, y.data(), in_place.data(), in_place.data());
        CHECK_CLOSE(dx, expected, tolerance, exact ? 0 : small_tolerance<T>, context);
        CHECK_FOR(same_bits(in_place, dx), context);
    }
}

template <class T>
void nan_stays_nan() {
    for (Activation a : {Activation::linear, Activation::relu, Activation::sigmoid, Activation::tanh}) {
        std::vector<T> x(19, static_cast<T>(NAN)), y(19);
        activation_forward(a, index{19}, x.data(), y.data());
        CHECK_EQUAL(y, x, show(static_cast<int>(a)));
    }
}

std::vector<double> exact_softmax(index rows, index columns, const std::vector<double>& x) {
    std::vector<double> y;
    for (index r = 0; r < rows; ++r) {
        const double *first = x.data() + r * columns, *last = first + columns;
        const long double top = *std::max_element(first, last);
        long double sum = 0;
        for (const double* v = first; v < last; ++v) sum += std::exp(static_cast<long double>(*v) - top);
        for (const double* v = first; v < last; ++v)
            y.push_back(static_cast<double>(std::exp(static_cast<long double>(*v) - top) / sum));
    }
    return y;
}

template <class T>
void softmax(index rows, index columns, double deviation) {
    auto x = reals<T>(rows * columns, deviation);
    // Some classes ruled out (never a row's first), some rows far from zero: neither may disturb the rest.
    for (std::size_t i = 0; i < x.size(); ++i) {
        const index r = static_cast<index>(i) / columns, c = static_cast<index>(i) % columns;
        if (r % 4 == 1 && c > 0 && rng() % 3 == 0) x[i] = -std::numeric_limits<T>::infinity();
        if (r % 4 == 2 && c == columns / 2) x[i] = static_cast<T>(1e30);
        if (r % 4 == 3) x[i] -= 1000;
    }
    const auto expected = exact_softmax(rows, columns, std::vector<double>(x.begin(), x.end()));
    const std::string context = show(rows, columns, deviation, sizeof(T));
    const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    auto y = unset<T>(rows * columns);
    softmax_forward(rows, columns, x.data(), y.data());
    // The sum's rounding grows with the columns, that of x - max with its size.
    CHECK_CLOSE(y, expected, epsilon * (8 + static_cast<double>(columns) / 8 + 10 * deviation), 2e-38, context);
    for (std::size_t i = 0; i < x.size(); ++i)
        if (std::isinf(x[i])) CHECK_FOR(y[i] == 0, context);
    auto in_place = x;
    softmax_forward(rows, columns, in_place.data(), in_place.data());
    CHECK_FOR(same_bits(in_place, y), context);

    const auto dy = reals<T>(rows * columns);
    std::vector<double> gradient;
    for (index r = 0; r < rows; ++r) {
        double dot = 0;
        const std::size_t row = static_cast<std::size_t>(r * columns), n = static_cast<std::size_t>(columns);
        for (std::size_t i = row; i < row + n; ++i) dot += static_cast<double>(y[i]) * static_cast<double>(dy[i]);
        for (std::size_t i = row; i < row + n; ++i)
            gradient.push_back(static_cast<double>(y[i]) * (static_cast<double>(dy[i]) - dot));
    }
    auto dx = unset<T>(rows * columns);
    in_place = dy;
    softmax_backward(rows, columns, y.data(), dy.data(), dx.data());
    softmax_backward(rows, columns, y.data(), in_place.data(), in_place.data());
    CHECK_CLOSE(dx, gradient, epsilon * 8, epsilon * 8, context);
    CHECK_FOR(same_bits(in_place, dx), context);
}

// One counter at a time, as the paper writes it.
void philox_block(std::uint64_t seed, std::uint64_t stream, std::uint64_t block, std::uint32_t (&c)[4]) {
    const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
    const auto high = [](std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); };
    std::uint32_t k[2] = {low(seed), high(seed)};
    c[0] = low(block), c[1] = high(block), c[2] = low(stream), c[3] = high(stream);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = std::uint64_t{0xD2511F53} * c[0], b = std::uint64_t{0xCD9E8D57} * c[2];
        const std::uint32_t next[4] = {high(b) ^ c[1] ^ k[0], low(b), high(a) ^ c[3] ^ k[1], low(a)};
        std::copy_n(next, 4, c);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
}

void philox() {
    struct Known {
        std::uint64_t seed, stream, block;
        std::uint32_t words[4];
    };
    constexpr std::uint64_t ones = ~std::uint64_t{0};
    const Known known[] = {  // the known answers that Random123 publishes for philox4x32-10
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {ones, ones, ones, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    std::uint32_t words[Philox::words], expected[4];
    for (const Known& k : known) {
        Philox::generate(k.seed, k.stream, k.block, words);
        CHECK_FOR(std::equal(k.words, k.words + 4, words), show(std::hex, k.seed, words[0], words[1], words[2], words[3]));
    }
    // Every block of a call, also where the counter's low word carries.
    for (std::uint64_t block : {std::uint64_t{0}, std::uint64_t{5}, std::uint64_t{0xfffffffd}}) {
        Philox::generate(0x123456789abcdef0, 0xfedcba9876543210, block, words);
        for (index i = 0; i < Philox::words / 4; ++i) {
            philox_block(0x123456789abcdef0, 0xfedcba9876543210, block + static_cast<std::uint64_t>(i), expected);
            CHECK_FOR(std::equal(expected, expected + 4, words + 4 * i), show(block, i));
        }
    }
}

template <class T>
void dropout_keeps_what_it_should() {
    const index size = 200003;
    const auto x = reals<T>(size);
    const std::vector<T> one(x.size(), 1);
    for (double rate : {0.0, 0.1, 0.3, 0.5, 0.9}) {
        auto y = unset<T>(size);
        dropout(size, x.data(), rate, 11, 5, y.data());
        const T scale = static_cast<T>(1 / (1 - rate));
        const auto threshold = static_cast<std::uint32_t>(rate * 4294967296.0);
        std::vector<T> expected(x.size());
        index kept = 0, kept_pairs = 0;
        bool previous = false;
        for (std::size_t i = 0; i < x.size(); ++i) {
            std::uint32_t words[4];
            philox_block(11, 5, i / 4, words);
            const bool keep = words[i % 4] >= threshold;
            expected[i] = keep ? x[i] * scale : T{0};
        }
        CHECK_EQUAL(y, expected, show(rate));
        std::vector<T> mask(x.size());
        dropout(size, one.data(), rate, 11, 5, mask.data());
        for (T m : mask) {
            kept += m != 0;
            kept_pairs += m != 0 && previous;
            previous = m != 0;
        }
        // Five standard deviations of the binomial; neighbours are independent.
        const double n = static_cast<double>(size), keep = 1 - rate;
        CHECK_FOR(std::fabs(static_cast<double>(kept) / n - keep) <= 5 * std::sqrt(keep * rate / n), show(rate, kept));
        CHECK_FOR(std::fabs(static_cast<double>(kept_pairs) / n - keep * keep) <= 0.01 * (rate > 0) + 2 / n,
                  show(rate, kept_pairs));
        // An element's fate depends on its number alone.
        for (index part : {1, 15, 16, 17, 1000, 16384, 20001}) {
            auto some = unset<T>(part);
            dropout(part, x.data(), rate, 11, 5, some.data());
            CHECK_EQUAL(some, std::vector<T>(y.begin(), y.begin() + part), show(rate, part));
        }
        auto in_place = x;
        dropout(size, in_place.data(), rate, 11, 5, in_place.data());
        CHECK_FOR(same_bits(in_place, y), show(rate));
    }
    // Other seeds and streams, in either word, decide independently: two masks agree half of the time.
    const auto mask = [&](std::uint64_t seed, std::uint64_t stream) {
        std::vector<T> y(one.size());
        dropout(size, one.data(), 0.5, seed, stream, y.data());
        return y;
    };
    const auto base = mask(11, 5);
    for (const auto& other : {mask(12, 5), mask(11, 6), mask(11 + (std::uint64_t{1} << 32), 5),
                              mask(11, 5 + (std::uint64_t{1} << 32))}) {
        index same = 0;
        for (std::size_t i = 0; i < base.size(); ++i) same += base[i] == other[i];
        CHECK_FOR(std::fabs(static_cast<double>(same) / static_cast<double>(size) - 0.5) < 0.006, show(same));
    }
}

void rows_move() {
    for (index row_bytes : {1, 3, 64, 1000, 40000})
        for (index count : {0, 1, 7, 300}) {
            const index available = 9;
            std::vector<unsigned char> source(static_cast<std::size_t>(available * row_bytes)), expected;
            for (auto& byte : source) byte = static_cast<unsigned char>(rng());
            std::vector<std::int64_t> rows(static_cast<std::size_t>(count));
            for (auto& r : rows) r = random_index(0, available - 1);
            std::vector<unsigned char> out(static_cast<std::size_t>(count * row_bytes));
            for (std::int64_t r : rows)
                expected.insert(expected.end(), source.begin() + r * row_bytes, source.begin() + (r + 1) * row_bytes);
            gather_rows(count, row_bytes, source.data(), rows.data(), out.data());
            CHECK_FOR(out == expected, show(count, row_bytes));
        }
}

template <class T>
void rows_add_up(index count, index columns) {
    const index available = 6;  // fewer than count: rows repeat
    const auto dy = integers<T>(count * columns);
    auto table = integers<T>(available * columns), expected = table;
    std::vector<std::int64_t> rows(static_cast<std::size_t>(count));
    for (auto& r : rows) r = random_index(0, available - 1);
    for (index i = 0; i < count; ++i)
        for (index c = 0; c < columns; ++c)
            expected[static_cast<std::size_t>(rows[static_cast<std::size_t>(i)] * columns + c)] +=
                dy[static_cast<std::size_t>(i * columns + c)];
    scatter_add_rows(count, columns, dy.data(), rows.data(), table.data());
    CHECK_EQUAL(table, expected, show(count, columns));
}

// Whether dropout keeps an element, told by what it makes of ones.
std::vector<double> kept(index size, double rate) {
    std::vector<double> y(static_cast<std::size_t>(size), 1);
    dropout(size, y.data(), rate, 11, 5, y.data());
    for (double& v : y) v = v != 0;
    return y;
}

template <class T>
void spatial(index outer, index steps, index channels) {
    const index size = outer * steps * channels;
    auto x = reals<T>(size);
    for (double rate : {0.4, 1.0}) {
        const auto keep = rate < 1 ? kept(outer * channels, rate) : std::vector<double>(static_cast<std::size_t>(outer * channels));
        const T scale = rate < 1 ? static_cast<T>(1 / (1 - rate)) : T{};
        auto expected = x, y = x;
        for (index i = 0; i < size; ++i)
            expected[static_cast<std::size_t>(i)] *=
                keep[static_cast<std::size_t>(i / (steps * channels) * channels + i % channels)] != 0 ? scale : T{};
        spatial_dropout(outer, steps, channels, y.data(), rate, 11, 5, y.data());
        CHECK_EQUAL(y, expected, show(outer, steps, channels, rate));
    }
}

template <class T>
void alpha(double rate) {
    const double lowest = -1.0507009873554805 * 1.6732632423543772, epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    const double a = 1 / std::sqrt((1 - rate) * (1 + rate * lowest * lowest)), b = -a * rate * lowest;
    const index size = 1003;
    const auto x = reals<T>(size);
    const auto keep = kept(size, rate);
    std::vector<double> expected, slope;
    for (std::size_t i = 0; i < x.size(); ++i) {
        expected.push_back(a * (keep[i] != 0 ? static_cast<double>(x[i]) : lowest) + b);
        slope.push_back(keep[i] * a * static_cast<double>(x[i]));
    }
    auto y = x, dx = x;
    alpha_dropout_forward(size, y.data(), rate, 11, 5, y.data());
    alpha_dropout_backward(size, dx.data(), rate, 11, 5, dx.data());
    CHECK_CLOSE(y, expected, 4 * epsilon, 4 * epsilon, show(rate));
    CHECK_CLOSE(dx, slope, 4 * epsilon, 0, show(rate));
}

template <class T>
void numbers_for_channels(index outer, index channels, index inner) {
    const auto x = integers<T>(outer * channels * inner), b = integers<T>(channels);
    auto a = integers<T>(channels), y = unset<T>(outer * channels * inner), expected = y;
    for (T& divisor : a) divisor = divisor == T{0} ? T{2} : divisor;
    for (bool standardized : {false, true})
        for (const T* added : {b.data(), static_cast<const T*>(nullptr)}) {
            for (std::size_t i = 0; i < x.size(); ++i) {
                const std::size_t c = i / static_cast<std::size_t>(inner) % a.size();
                const T own = added ? added[c] : T{0};
                expected[i] = standardized ? (x[i] - own) / a[c] : x[i] * a[c] + own;
            }
            const auto f = standardized ? standardize_channels<T> : scale_channels<T>;
            f(outer, channels, inner, x.data(), a.data(), added, y.data());
            CHECK_EQUAL(y, expected, show(outer, channels, inner, standardized, added != nullptr));
        }
}

template <class T>
void threads_agree() {
    const index rows = 9000, columns = 130, lookups = 36000;  // enough work for three threads
    const auto x = reals<T>(rows * columns), dy = reals<T>(rows * columns);
    auto many = dy;
    for (index i = 1; i < lookups / rows; ++i) many.insert(many.end(), dy.begin(), dy.end());
    std::vector<std::int64_t> numbers(lookups);
    for (auto& r : numbers) r = random_index(0, 40);
    std::vector<T> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<T> y(x.size()), dx(x.size()), s(x.size()), ds(x.size()), dropped(x.size()), table(41 * columns);
        activation_forward(Activation::tanh, rows * columns, x.data(), y.data());
        activation_backward(Activation::tanh, rows * columns, y.data(), dy.data(), dx.data());
        softmax_forward(rows, columns, x.data(), s.data());
        softmax_backward(rows, columns, s.data(), dy.data(), ds.data());
        dropout(rows * columns, x.data(), 0.4, 3, 4, dropped.data());
        scatter_add_rows(lookups, columns, many.data(), numbers.data(), table.data());
        for (const auto& part : {dx, s, ds, dropped, table}) y.insert(y.end(), part.begin(), part.end());
        if (threads == 1) first = y;
        CHECK_FOR(same_bits(y, first), show(threads));
    }
}

template <class T>
void all() {
    for (index size : sizes) activations<T>(size);
    nan_stays_nan<T>();
    for (index columns : {1, 2, 7, 8, 9, 10, 15, 16, 17, 1000})
        for (double deviation : {0.0, 1.0, 30.0}) softmax<T>(columns == 10 ? 900 : 9, columns, deviation);
    softmax<T>(1, 20000, 1);
    dropout_keeps_what_it_should<T>();
    for (index channels : {1, 2, 3, 8, 17, 64})
        for (index steps : {1, 2, 7, 100}) spatial<T>(3, steps, channels);
    for (double rate : {0.1, 0.5}) alpha<T>(rate);
    for (index channels : {1, 3, 5, 16, 40})
        for (index inner : {1, 2, 19}) numbers_for_channels<T>(29, channels, inner);
    numbers_for_channels<T>(20000, 3, 1);
    for (index columns : {1, 5, 8, 16, 19, 64, 200})
        for (index count : {0, 1, 50}) rows_add_up<T>(count, columns);
    threads_agree<T>();
}

template <class T>
void penalties(index size) {
    const auto x = integers<T>(size), start = integers<T>(size);
    double expected = 0;
    auto dx = start, expected_dx = start;
    for (std::size_t i = 0; i < x.size(); ++i) {
        expected += 0.5 * std::fabs(static_cast<double>(x[i])) + 0.25 * static_cast<double>(x[i] * x[i]);
        expected_dx[i] += T{0.5} * static_cast<T>((x[i] > 0) - (x[i] < 0)) + T{0.5} * x[i];
    }
    CHECK_EQUAL(std::vector<double>{penalty(size, x.data(), 0.5, 0.25)}, std::vector<double>{expected}, show(size));
    add_penalty_gradient(size, x.data(), 0.5, 0.25, dx.data());
    CHECK_EQUAL(dx, expected_dx, show(size));
}

}  // namespace

void test_elementwise() {
    for (index size : {0, 1, 15, 16, 4095, 4097, 100000}) {
        penalties<float>(size);
        penalties<double>(size);
    }
    const int threads = get_num_threads();
    philox();
    rows_move();
    all<float>();
    all<double>();
    set_num_threads(threads);
}

}  // namespace vivace::tests
