#include "check.h"
#include "philox.h"
#include "vivace/images.h"
#include "vivace/parallel.h"

namespace vivace::tests {
namespace {

constexpr std::uint64_t seed = 21, stream = 4;

double drawn(const Images& s, index image, int which) {
    double found = 0;
    for_each_draw(seed, stream, s.drawn(), [&](index i, const double(&u)[4]) { found = i == image / s.share ? u[which] : found; });
    return found;
}

// Calls f(element, image, row, column, channel) for all elements.
template <class F>
void for_each_element(const Images& s, F&& f) {
    std::size_t element = 0;
    for (index i = 0; i < s.n; ++i)
        for (index p = 0; p < s.h; ++p)
            for (index q = 0; q < s.w; ++q)
                for (index c = 0; c < s.c; ++c) f(element++, i, p, q, c);
}

std::size_t place(const Images& s, index i, index p, index q, index c) {
    return static_cast<std::size_t>(((i * s.h + p) * s.w + q) * s.c + c);
}

template <class T>
void flips_and_crops(const Images& s, const std::string& context) {
    const auto x = integers<T>(s.size());
    auto y = unset<T>(s.size()), expected = y, back = y;
    for (bool vertical : {false, true})
        for (bool horizontal : {false, true}) {
            random_flip(s, vertical, horizontal, seed, stream, x.data(), y.data());
            for_each_element(s, [&](std::size_t e, index i, index p, index q, index c) {
                const bool v = vertical && drawn(s, i, 0) < 0.5, h = horizontal && drawn(s, i, 1) < 0.5;
                expected[e] = x[place(s, i, v ? s.h - 1 - p : p, h ? s.w - 1 - q : q, c)];
            });
            CHECK_EQUAL(y, expected, context);
            random_flip(s, vertical, horizontal, seed, stream, y.data(), back.data());
            CHECK_EQUAL(back, x, context);
        }
    const index height = (s.h + 1) / 2, width = (s.w + 1) / 2;
    const Images part{s.n, height, width, s.c, s.share};
    const Corner corner = random_corner(s, height, width, seed, stream);
    CHECK_FOR(corner.top == static_cast<index>(drawn(s, 0, 0) * static_cast<double>(s.h - height + 1)), context);
    auto cropped = unset<T>(part.size()), taken = cropped;
    crop_forward(s, corner, height, width, x.data(), cropped.data());
    crop_backward(s, corner, height, width, cropped.data(), back.data());
    std::fill(expected.begin(), expected.end(), T{});
    for_each_element(part, [&](std::size_t e, index i, index p, index q, index c) {
        const std::size_t from = place(s, i, corner.top + p, corner.left + q, c);
        taken[e] = expected[from] = x[from];
    });
    CHECK_EQUAL(cropped, taken, context);
    CHECK_EQUAL(back, expected, context);
}

template <class T>
void tones(const Images& s, const std::string& context) {
    const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    const Tone tone{-0.5, 1.5, -1, 1.25};
    const auto x = reals<T>(s.size()), dy = reals<T>(s.size());
    const double pixels = static_cast<double>(s.h * s.w);
    std::vector<double> means(static_cast<std::size_t>(s.n * s.c)), gradients(means.size());
    for (bool contrast : {false, true}) {
        std::vector<double> raw(x.size()), expected(x.size()), slope(x.size());
        std::fill(means.begin(), means.end(), 0.0);
        std::fill(gradients.begin(), gradients.end(), 0.0);
        const auto mean_of = [&](index i, index c) { return static_cast<std::size_t>(i * s.c + c); };
        for_each_element(s, [&](std::size_t e, index i, index, index, index c) {
            means[mean_of(i, c)] += static_cast<double>(x[e]) / pixels;
        });
        for_each_element(s, [&](std::size_t e, index i, index, index, index c) {
            const double number = tone.lower + (tone.upper - tone.lower) * drawn(s, i, 0), v = static_cast<double>(x[e]);
            const double m = means[mean_of(i, c)];
            raw[e] = contrast ? (v - m) * number + m : v + number;
            expected[e] = std::clamp(raw[e], tone.least, tone.most);
            slope[e] = raw[e] == expected[e] ? static_cast<double>(dy[e]) : 0;
            gradients[mean_of(i, c)] += slope[e] / pixels;
        });
        if (contrast)
            for_each_element(s, [&](std::size_t e, index i, index, index, index c) {
                const double number = tone.lower + (tone.upper - tone.lower) * drawn(s, i, 0);
                slope[e] = number * slope[e] + (1 - number) * gradients[mean_of(i, c)];
            });
        auto y = unset<T>(s.size()), dx = y, in_place = dy;
        const auto forward = contrast ? random_contrast_forward<T> : random_brightness_forward<T>;
        const auto backward = contrast ? random_contrast_backward<T> : random_brightness_backward<T>;
        forward(s, tone, seed, stream, x.data(), y.data());
        backward(s, tone, seed, stream, x.data(), dy.data(), dx.data());
        backward(s, tone, seed, stream, x.data(), in_place.data(), in_place.data());
        CHECK_CLOSE(y, expected, 16 * epsilon, 16 * epsilon, context);
        CHECK_CLOSE(dx, slope, 16 * epsilon, 32 * epsilon, context);
        CHECK_FOR(same_bits(dx, in_place), context);
    }
}

template <class T>
void threads_agree() {
    const Images s{5, 60, 70, 3};
    const auto x = reals<T>(s.size());
    const Tone tone{0.5, 1.5, -1, 1};
    std::vector<T> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<T> y(x.size()), all;
        const auto keep = [&] { all.insert(all.end(), y.begin(), y.end()); };
        random_flip(s, true, true, seed, stream, x.data(), y.data()), keep();
        random_brightness_forward(s, tone, seed, stream, x.data(), y.data()), keep();
        random_contrast_forward(s, tone, seed, stream, x.data(), y.data()), keep();
        random_contrast_backward(s, tone, seed, stream, x.data(), x.data(), y.data()), keep();
        if (threads == 1) first = all;
        CHECK_FOR(same_bits(all, first), show(threads));
    }
}

template <class T>
void all() {
    for (const Images& s : {Images{1, 1, 1, 1}, Images{9, 3, 5, 1}, Images{6, 4, 3, 1, 3}, Images{2, 5, 4, 2}, Images{3, 7, 9, 3},
                            Images{2, 3, 2, 5}, Images{2, 6, 3, 17}, Images{1, 30, 40, 3}, Images{1, 2, 90, 64}}) {
        const std::string context = show(s.n, s.h, s.w, s.c, s.share, sizeof(T));
        flips_and_crops<T>(s, context);
        tones<T>(s, context);
    }
    threads_agree<T>();
}

}  // namespace

void test_images() {
    const int threads = get_num_threads();
    all<float>();
    all<double>();
    set_num_threads(threads);
}

}  // namespace vivace::tests
