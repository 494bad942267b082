#include <cmath>

#include "check.h"
#include "simd.h"
#include "vivace/normalization.h"
#include "vivace/parallel.h"

namespace vivace::tests {
namespace {

using Reals = std::vector<double>;

// The formulas in double, element by element.
struct GroupReference {
    const GroupNormShape& s;
    Reals mean, variance, counts;

    index group(index i) const { return i / (s.rows * s.channels) * s.groups + i % s.channels / s.group_size(); }
    index row(index i) const { return i / s.channels; }

    template <class T>
    GroupReference(const GroupNormShape& shape, const std::vector<T>& x, const std::uint8_t* mask)
        : s(shape), mean(static_cast<std::size_t>(s.samples * s.groups)), variance(mean), counts(mean) {
        const auto each = [&](auto&& f) {
            for (index i = 0; i < s.size(); ++i)
                if (!mask || mask[row(i)]) f(static_cast<std::size_t>(group(i)), static_cast<double>(x[static_cast<std::size_t>(i)]));
        };
        each([&](std::size_t g, double v) { mean[g] += v, counts[g] += 1; });
        for (std::size_t g = 0; g < mean.size(); ++g) mean[g] /= std::max(1.0, counts[g]);
        each([&](std::size_t g, double v) { variance[g] += (v - mean[g]) * (v - mean[g]); });
        for (std::size_t g = 0; g < mean.size(); ++g) variance[g] /= std::max(1.0, counts[g]);
    }
};

template <class T>
void group_norm(const GroupNormShape& s, bool masked) {
    const std::string context = show(s.samples, s.rows, s.channels, s.groups, masked, sizeof(T));
    const double tolerance = sizeof(T) == 4 ? 1e-4 : 1e-11, epsilon = 0.1;
    const auto x = reals<T>(s.size(), 2), dy = reals<T>(s.size()), gamma = reals<T>(s.channels), beta = reals<T>(s.channels);
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(s.samples * s.rows));
    for (auto& m : mask) m = rng() % 3 != 0;
    const std::uint8_t* mp = masked ? mask.data() : nullptr;
    const GroupReference reference(s, x, mp);
    auto mean = unset<T>(s.samples * s.groups), variance = mean, y = unset<T>(s.size()), dx = y;
    group_norm_moments(s, x.data(), mp, mean.data(), variance.data());
    CHECK_CLOSE(mean, reference.mean, tolerance, tolerance, context);
    CHECK_CLOSE(variance, reference.variance, tolerance, tolerance, context);

    Reals n(x.size()), expected_y(n), sum(mean.size()), product(sum), dgamma(gamma.size()), dbeta(dgamma), expected_dx(n);
    for (index i = 0; i < s.size(); ++i) {
        const auto at = static_cast<std::size_t>(i), c = static_cast<std::size_t>(i % s.channels),
                   g = static_cast<std::size_t>(reference.group(i));
        n[at] = (static_cast<double>(x[at]) - reference.mean[g]) / std::sqrt(reference.variance[g] + epsilon);
        expected_y[at] = n[at] * static_cast<double>(gamma[c]) + static_cast<double>(beta[c]);
        const double d = static_cast<double>(dy[at]), through = d * static_cast<double>(gamma[c]);
        sum[g] += through, product[g] += through * n[at], dgamma[c] += d * n[at], dbeta[c] += d;
    }
    for (index i = 0; i < s.size(); ++i) {
        const auto at = static_cast<std::size_t>(i), c = static_cast<std::size_t>(i % s.channels),
                   g = static_cast<std::size_t>(reference.group(i));
        const double pull = (sum[g] + n[at] * product[g]) / std::max(1.0, reference.counts[g]);
        const bool counts = !mp || mp[reference.row(i)];
        expected_dx[at] = (static_cast<double>(dy[at]) * static_cast<double>(gamma[c]) - (counts ? pull : 0)) /
                          std::sqrt(reference.variance[g] + epsilon);
    }
    group_norm_forward<T>(s, x.data(), mean.data(), variance.data(), epsilon, gamma.data(), beta.data(), nullptr, false,
                          y.data());
    CHECK_CLOSE(y, expected_y, tolerance, tolerance, context);
    std::vector<T> got_gamma(gamma.size()), got_beta(gamma.size());
    auto alias = dy;
    group_norm_backward<T>(s, x.data(), mp, mean.data(), variance.data(), epsilon, gamma.data(), nullptr, alias.data(), false,
                           dx.data(), got_gamma.data(), got_beta.data());
    CHECK_FOR(same_bits(alias, dy), context);
    CHECK_CLOSE(dx, expected_dx, 10 * tolerance, 10 * tolerance, context);
    CHECK_CLOSE(got_gamma, dgamma, 10 * tolerance, 10 * tolerance, context);
    CHECK_CLOSE(got_beta, dbeta, 10 * tolerance, 10 * tolerance, context);
    group_norm_backward<T>(s, x.data(), mp, mean.data(), variance.data(), epsilon, gamma.data(), nullptr, alias.data(), false,
                           alias.data(), nullptr, nullptr);
    CHECK_FOR(same_bits(alias, dx), context);

    // A residual and a ReLU behind it: as one, and one after the other.
    const auto residual = reals<T>(s.size());
    auto fused = residual, before = dy, through = dy;
    group_norm_forward<T>(s, x.data(), mean.data(), variance.data(), epsilon, gamma.data(), beta.data(), fused.data(), true,
                          fused.data());
    for (std::size_t i = 0; i < y.size(); ++i) {
        y[i] = std::max(T{0}, y[i] + residual[i]);
        if (fused[i] <= 0) before[i] = 0;
    }
    CHECK_FOR(same_bits(fused, y), context);
    std::vector<T> fused_gamma(gamma.size()), separate_gamma(gamma.size());
    group_norm_backward<T>(s, x.data(), mp, mean.data(), variance.data(), epsilon, gamma.data(), nullptr, before.data(), false,
                           dx.data(), separate_gamma.data(), nullptr);
    group_norm_backward<T>(s, x.data(), mp, mean.data(), variance.data(), epsilon, gamma.data(), fused.data(), through.data(),
                           false, alias.data(), fused_gamma.data(), nullptr);
    CHECK_FOR(same_bits(through, before) && same_bits(alias, dx) && same_bits(fused_gamma, separate_gamma), context);
}

template <class T>
void row_norm(RowNorm kind, index rows, index columns) {
    const std::string context = show(static_cast<int>(kind), rows, columns, sizeof(T));
    const double tolerance = sizeof(T) == 4 ? 1e-4 : 1e-11, epsilon = 0.01;
    const auto x = reals<T>(rows * columns), dy = reals<T>(rows * columns), gamma = reals<T>(columns), beta = reals<T>(columns);
    Reals expected_y(x.size()), expected_dx(x.size()), dgamma(gamma.size()), dbeta(dgamma);
    for (index r = 0; r < rows; ++r) {
        const auto at = [&](index i) { return static_cast<std::size_t>(r * columns + i); };
        const auto value = [&](index i) { return static_cast<double>(x[at(i)]); };
        double mean = 0, square = 0, sum = 0, product = 0;
        for (index i = 0; kind != RowNorm::rms && i < columns; ++i) mean += value(i) / static_cast<double>(columns);
        for (index i = 0; i < columns; ++i) square += (value(i) - mean) * (value(i) - mean) / static_cast<double>(columns);
        const double scale = 1 / std::sqrt(square + epsilon), centre = kind == RowNorm::layer ? mean : 0;
        for (index i = 0; i < columns; ++i) {
            const auto c = static_cast<std::size_t>(i);
            const double n = (value(i) - centre) * scale, d = static_cast<double>(dy[at(i)]), g = d * static_cast<double>(gamma[c]);
            expected_y[at(i)] = n * static_cast<double>(gamma[c]) + static_cast<double>(beta[c]);
            dgamma[c] += d * n, dbeta[c] += d;
            sum += g / static_cast<double>(columns), product += g * n / static_cast<double>(columns);
        }
        for (index i = 0; i < columns; ++i) {
            const double g = static_cast<double>(dy[at(i)]) * static_cast<double>(gamma[static_cast<std::size_t>(i)]);
            expected_dx[at(i)] = scale * (g - (kind == RowNorm::layer ? sum : 0) - (value(i) - mean) * scale * product);
        }
    }
    auto y = unset<T>(rows * columns), dx = y, mean = unset<T>(rows), scale = mean;
    row_norm_forward(kind, rows, columns, x.data(), gamma.data(), beta.data(), epsilon, y.data(), mean.data(), scale.data());
    CHECK_CLOSE(y, expected_y, tolerance, tolerance, context);
    std::vector<T> got_gamma(gamma.size()), got_beta(gamma.size());
    row_norm_backward(kind, rows, columns, x.data(), gamma.data(), mean.data(), scale.data(), dy.data(), dx.data(),
                      got_gamma.data(), got_beta.data());
    CHECK_CLOSE(dx, expected_dx, 10 * tolerance, 10 * tolerance, context);
    CHECK_CLOSE(got_gamma, dgamma, 10 * tolerance, 10 * tolerance, context);
    CHECK_CLOSE(got_beta, dbeta, 10 * tolerance, 10 * tolerance, context);
}

void threads_agree() {
    const GroupNormShape s{3, 700, 37, 37};
    const auto x = reals<float>(s.size()), dy = reals<float>(s.size());
    std::vector<float> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<float> all(static_cast<std::size_t>(s.samples * s.groups)), variance(all), dx(dy), dgamma(37), dbeta(37);
        group_norm_moments(s, x.data(), nullptr, all.data(), variance.data());
        group_norm_backward<float>(s, x.data(), nullptr, all.data(), variance.data(), 0.1, nullptr, nullptr,
                                   dx.data(), false, dx.data(), dgamma.data(), dbeta.data());
        for (const auto& part : {variance, dx, dgamma, dbeta}) all.insert(all.end(), part.begin(), part.end());
        if (threads == 1) first = all;
        CHECK_FOR(same_bits(all, first), show(threads));
    }
}

}  // namespace

void test_normalization() {
    const int threads = get_num_threads();
    const index width = lanes<float>;
    for (bool masked : {false, true})
        for (index rows : {1, 3, 4, 33, 2000})
            for (index channels : {index{1}, width - 1, width, width + 2, 3 * width}) {
                group_norm<float>({2, rows, channels, channels}, masked);
                group_norm<double>({1, rows, channels, 1}, masked);
            }
    for (int i = 0; i < 40; ++i) {
        const index groups = random_index(1, 5);
        group_norm<float>({random_index(1, 3), random_index(1, 50), groups * random_index(1, 9), groups}, i % 2 == 0);
    }
    for (RowNorm kind : {RowNorm::layer, RowNorm::rms, RowNorm::deviation})
        for (index columns : {index{1}, width - 1, width, width + 1, 5 * width + 3}) {
            row_norm<float>(kind, random_index(1, 9), columns);
            row_norm<double>(kind, 1200, columns);
        }
    threads_agree();
    set_num_threads(threads);
}

}  // namespace vivace::tests
