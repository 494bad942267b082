#include <limits>

#include "check.h"
#include "philox.h"
#include "vivace/parallel.h"
#include "vivace/reference.h"
#include "vivace/resample.h"

namespace vivace::tests {
namespace {

constexpr Fill fills[] = {Fill::constant, Fill::nearest, Fill::reflect, Fill::wrap};

// Turns, stretches and shifts that leave the image by far.
std::vector<double> random_maps(index n) {
    std::vector<double> maps;
    std::uniform_real_distribution<double> slope(-1.5, 1.5), shift(-30, 30);
    for (index i = 0; i < 2 * n; ++i) {
        maps.push_back(slope(rng));
        maps.push_back(slope(rng));
        maps.push_back(shift(rng));
    }
    return maps;
}

template <class T>
void affine(const Affine& s) {
    const index size = s.n * s.h * s.w * s.c;
    const auto maps = random_maps(s.n);
    const auto x = reals<T>(size), dy = reals<T>(size);
    auto y = unset<T>(size), expected = y, dx = y;
    const std::string context = show(s.n, s.h, s.w, s.c, static_cast<int>(s.fill), s.bilinear, sizeof(T));
    const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    affine_forward(s, maps.data(), x.data(), y.data());
    reference::affine_forward(s, maps.data(), x.data(), expected.data());
    CHECK_CLOSE(y, expected, 0, 16 * epsilon + 1e-12, context);  // places of 100s are rounded too

    // The gradient is the transpose: of each input element, what the reference makes of it alone.
    affine_backward(s, maps.data(), dy.data(), dx.data());
    Affine linear = s;
    linear.value = 0;
    std::vector<double> gradient, one(x.size()), image(x.size());
    for (index j = 0; j < size; j += size < 100 ? 1 : size / 50) {
        one[static_cast<std::size_t>(j)] = 1;
        reference::affine_forward(linear, maps.data(), one.data(), image.data());
        one[static_cast<std::size_t>(j)] = 0;
        double sum = 0;
        for (std::size_t i = 0; i < image.size(); ++i) sum += image[i] * static_cast<double>(dy[i]);
        CHECK_FOR(std::fabs(sum - static_cast<double>(dx[static_cast<std::size_t>(j)])) <= 200 * epsilon + 1e-11, context);
    }
}

// Shifts by whole pixels move small integers exactly.
template <class T>
void shifts() {
    for (Fill fill : fills)
        for (bool bilinear : {false, true}) {
            const Affine s{1, 3, 5, 2, fill, bilinear, 7};
            const auto x = integers<T>(30);
            const double map[] = {1, 0, -2, 0, 1, 1};
            auto y = unset<T>(30), expected = y;
            affine_forward(s, map, x.data(), y.data());
            reference::affine_forward(s, map, x.data(), expected.data());
            CHECK_EQUAL(y, expected, show(static_cast<int>(fill), bilinear));
            CHECK_EQUAL(std::vector<T>(y.begin() + 4, y.begin() + 10), std::vector<T>(x.begin() + 10, x.begin() + 16),
                        show(static_cast<int>(fill), bilinear));
        }
}

// Each movement's maps from the numbers that were drawn; images that belong together share them.
void movements() {
    const index n = 5, h = 4, w = 9;
    for (Movement movement : {Movement::turn, Movement::zoom, Movement::shift, Movement::shear})
        for (bool alike : {false, true}) {
            const RandomMovement r{movement, {-0.25, 0.5}, {0.75, 1.5}, alike};
            std::vector<double> maps(6 * n), expected;
            random_maps(r, n, h, w, 8, 3, maps.data());
            for_each_draw(8, 3, n, [&](index, const double(&u)[4]) {
                const double first = -0.25 + u[0], second = alike ? first : 0.5 + u[1], sign = u[2] < 0.5 ? 1 : -1;
                const double sine = std::sin(first * 8 * std::atan(1.0)), cosine = std::cos(first * 8 * std::atan(1.0));
                const double x = 4, y = 1.5;
                std::vector<double> map;
                if (movement == Movement::turn)
                    map = {cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y};
                if (movement == Movement::zoom) map = {1 + second, 0, -second * x, 0, 1 + first, -first * y};
                if (movement == Movement::shift) map = {1, 0, -second * 9, 0, 1, -first * 4};
                if (movement == Movement::shear) map = {1, sign * first, 0, sign * second, 1, 0};
                expected.insert(expected.end(), map.begin(), map.end());
            });
            CHECK_CLOSE(maps, expected, 1e-14, 1e-14, show(static_cast<int>(movement), alike));
            const Affine s{3 * n, h, w, 1, Fill::wrap, true, 0, 3};
            const auto x = reals<float>(3 * n * h * w);
            auto y = unset<float>(3 * n * h * w), dx = y, z = y, dz = y;
            std::vector<double> each;
            for (index i = 0; i < n; ++i)
                for (int k = 0; k < 3; ++k) each.insert(each.end(), maps.begin() + 6 * i, maps.begin() + 6 * (i + 1));
            Affine alone = s;
            alone.share = 1;
            random_affine_forward(s, r, 8, 3, x.data(), y.data());
            random_affine_backward(s, r, 8, 3, x.data(), dx.data());
            affine_forward(alone, each.data(), x.data(), z.data());
            affine_backward(alone, each.data(), x.data(), dz.data());
            CHECK_FOR(same_bits(y, z) && same_bits(dx, dz), show(static_cast<int>(movement), alike));
        }
}

template <class T>
void bands(index outer, index inputs, index outputs, index inner, index width) {
    const auto x = integers<T>(outer * inputs * inner), weights = integers<T>(outputs * width);
    std::vector<std::int32_t> first(static_cast<std::size_t>(outputs));
    for (auto& f : first) f = static_cast<std::int32_t>(random_index(0, inputs - width));
    auto y = unset<T>(outer * outputs * inner), expected = y;
    for (index o = 0; o < outer; ++o)
        for (index p = 0; p < outputs; ++p)
            for (index i = 0; i < inner; ++i) {
                T sum = 0;
                for (index k = 0; k < width; ++k)
                    sum += weights[static_cast<std::size_t>(p * width + k)] *
                           x[static_cast<std::size_t>((o * inputs + first[static_cast<std::size_t>(p)] + k) * inner + i)];
                expected[static_cast<std::size_t>((o * outputs + p) * inner + i)] = sum;
            }
    multiply_bands(outer, inputs, outputs, inner, width, first.data(), weights.data(), x.data(), y.data());
    CHECK_EQUAL(y, expected, show(outer, inputs, outputs, inner, width));
}

// Along several axes: one product after the other.
template <class T>
void axes(index c) {
    Resampling s{2, c, {}};
    const index inputs[] = {3, 5, 4}, outputs[] = {4, 6, 7};
    auto x = integers<T>(s.n * 3 * 5 * 4 * c);
    for (std::size_t a = 0; a < 3; ++a) {
        Bands bands{inputs[a], 2, {}, integers<double>(2 * outputs[a]), {}};
        for (index p = 0; p < outputs[a]; ++p) bands.first.push_back(static_cast<std::int32_t>(random_index(0, inputs[a] - 2)));
        bands.rounded.assign(bands.weights.begin(), bands.weights.end());
        s.axes.push_back(bands);
    }
    auto y = unset<T>(s.output_size()), expected = y;
    std::size_t i = 0;
    for (index n = 0; n < s.n; ++n)
        for (index p = 0; p < 4; ++p)
            for (index q = 0; q < 6; ++q)
                for (index r = 0; r < 7; ++r)
                    for (index channel = 0; channel < c; ++channel, ++i) {
                        double sum = 0;
                        for (index k = 0; k < 8; ++k) {
                            const index at[] = {k / 4, k / 2 % 2, k % 2}, to[] = {p, q, r};
                            index element = n;
                            double weight = 1;
                            for (std::size_t a = 0; a < 3; ++a) {
                                const Bands& bands = s.axes[a];
                                element = element * inputs[a] + bands.first[static_cast<std::size_t>(to[a])] + at[a];
                                weight *= bands.weights[static_cast<std::size_t>(2 * to[a] + at[a])];
                            }
                            sum += weight * static_cast<double>(x[static_cast<std::size_t>(element * c + channel)]);
                        }
                        expected[i] = static_cast<T>(sum);
                    }
    resample(s, x.data(), y.data());
    CHECK_EQUAL(y, expected, show(c));
}

template <class T>
void margins(const Margins& s) {
    const auto x = integers<T>(s.inner_size());
    auto y = unset<T>(s.outer_size()), back = unset<T>(s.inner_size()), expected = y;
    std::size_t from = 0, to = 0;
    for (index n = 0; n < s.n; ++n)
        for (index a = -s.before[0]; a < s.sizes[0] + s.behind[0]; ++a)
            for (index b = -s.before[1]; b < s.sizes[1] + s.behind[1]; ++b)
                for (index c = -s.before[2]; c < s.sizes[2] + s.behind[2]; ++c) {
                    const bool inside = a >= 0 && a < s.sizes[0] && b >= 0 && b < s.sizes[1] && c >= 0 && c < s.sizes[2];
                    for (index i = 0; i < s.channels; ++i) expected[to++] = inside ? x[from++] : T{0};
                }
    pad(s, x.data(), y.data());
    CHECK_EQUAL(y, expected, show(s.n, s.channels));
    crop(s, y.data(), back.data());
    CHECK_EQUAL(back, x, show(s.n, s.channels));
}

template <class T>
void threads_agree() {
    const Affine s{3, 90, 100, 3, Fill::reflect, true, 0};
    const index size = s.n * s.h * s.w * s.c;
    const auto maps = random_maps(s.n);
    const auto x = reals<T>(size);
    std::vector<T> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<T> y(x.size()), dx(x.size());
        affine_forward(s, maps.data(), x.data(), y.data());
        affine_backward(s, maps.data(), x.data(), dx.data());
        y.insert(y.end(), dx.begin(), dx.end());
        if (threads == 1) first = y;
        CHECK_FOR(same_bits(y, first), show(threads));
    }
}

template <class T>
void all() {
    for (Fill fill : fills)
        for (bool bilinear : {false, true}) {
            for (index c : {1, 2, 3, 4, 8, 17}) affine<T>({2, 5, 7, c, fill, bilinear, 2.5});
            affine<T>({1, 1, 1, 3, fill, bilinear, -1});
            affine<T>({1, 2, 150, 3, fill, bilinear, -1});
        }
    shifts<T>();
    for (index inner : {1, 2, 3, 4, 16, 33})
        for (index width : {1, 2, 5}) bands<T>(3, 7, 4, inner, width);
    for (index c : {1, 3, 17}) axes<T>(c);
    margins<T>({2, {3, 4, 5}, {1, 0, 2}, {0, 3, 1}, 3});
    margins<T>({1, {1, 1, 6}, {0, 0, 0}, {0, 0, 4}, 1});
    margins<T>({3, {20, 30, 40}, {1, 1, 1}, {2, 2, 2}, 4});  // on several threads
    threads_agree<T>();
}

}  // namespace

void test_resample() {
    const int threads = get_num_threads();
    movements();
    all<float>();
    all<double>();
    set_num_threads(threads);
}

}  // namespace vivace::tests
