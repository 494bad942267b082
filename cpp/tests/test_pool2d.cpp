#include <limits>
#include <stdexcept>

#include "check.h"
#include "simd.h"
#include "vivace/parallel.h"
#include "vivace/pool2d.h"
#include "vivace/reference.h"

namespace vivace::tests {
namespace {

std::string describe(const Pool2DShape& s) {
    return show(s.n, s.h, s.w, s.c, "window", s.kh, s.kw, "strides", s.stride_h, s.stride_w, "padding", s.pad_top,
                s.pad_bottom, s.pad_left, s.pad_right);
}

template <class T, class Position>
void maximum_equals_reference(const Pool2DShape& s, const std::vector<T>& x) {
    const auto dy = integers<T>(s.output_size());
    auto y = unset<T>(s.output_size()), y2 = y, y3 = y, dx = unset<T>(s.input_size()), dx2 = dx;
    std::vector<Position> at(dy.size(), 99), at2(dy.size(), 98);
    max_pool2d_forward(s, x.data(), y.data(), at.data());
    reference::max_pool2d_forward(s, x.data(), y2.data(), at2.data());
    CHECK_EQUAL(y, y2, describe(s));
    CHECK_EQUAL(at, at2, describe(s));
    max_pool2d_forward<T, Position>(s, x.data(), y3.data(), nullptr);
    CHECK_EQUAL(y3, y2, describe(s));
    max_pool2d_backward(s, dy.data(), at2.data(), dx.data());
    reference::max_pool2d_backward(s, dy.data(), at2.data(), dx2.data());
    CHECK_EQUAL(dx, dx2, describe(s));
}

template <class T>
void equals_reference(const Pool2DShape& s) {
    const auto x = integers<T>(s.input_size());  // of seven values: ties everywhere
    maximum_equals_reference<T, std::uint8_t>(s, x);
    maximum_equals_reference<T, std::uint32_t>(s, x);
    auto special = reals<T>(s.input_size());
    const T infinity = std::numeric_limits<T>::infinity(), specials[] = {static_cast<T>(NAN), infinity, -infinity, T(-0.0)};
    for (T& v : special)
        if (rng() % 3 == 0) v = specials[rng() % 4];
    maximum_equals_reference<T, std::uint8_t>(s, special);
    maximum_equals_reference<T, std::uint8_t>(s, std::vector<T>(x.size(), -infinity));

    auto dy = integers<T>(s.output_size());
    for (T& v : dy) v *= 3600;  // every window of up to 5 x 5 elements divides it: exact
    auto y = unset<T>(s.output_size()), y2 = y, dx = unset<T>(s.input_size()), dx2 = dx;
    average_pool2d_forward(s, x.data(), y.data());
    reference::average_pool2d_forward(s, x.data(), y2.data());
    CHECK_EQUAL(y, y2, describe(s));
    average_pool2d_backward(s, dy.data(), dx.data());
    reference::average_pool2d_backward(s, dy.data(), dx2.data());
    CHECK_EQUAL(dx, dx2, describe(s));
}

Pool2DShape random_shape() {
    for (;;) {
        const index kh = random_index(1, 5), kw = random_index(1, 5);
        try {
            return pool2d_shape({random_index(1, 3), random_index(1, 11), random_index(1, 11), random_index(1, 35)},
                                {kh, kw}, {random_index(1, kh + 2), random_index(1, kw + 2)},
                                {random_index(0, kh - 1), random_index(0, kh - 1), random_index(0, kw - 1),
                                 random_index(0, kw - 1)});
        } catch (const std::invalid_argument&) {  // too small, or a window in the padding: draw again
        }
    }
}

// Written out by hand, so that the reference itself is held to something.
void known_answers() {
    const float nan = NAN;
    const Pool2DShape s = pool2d_shape({1, 2, 6, 1}, {2, 2}, {2, 2}, {0, 0, 0, 0});
    const std::vector<float> x{1, 5, 2, 2, 0, nan,  //
                               5, 4, 2, 2, 9, 1};
    std::vector<float> y(3), dx(12);
    std::vector<std::uint8_t> at(3);
    max_pool2d_forward(s, x.data(), y.data(), at.data());
    CHECK_EQUAL(y, (std::vector<float>{5, 2, nan}), "");
    CHECK_EQUAL(at, (std::vector<std::uint8_t>{1, 0, 1}), "");
    const std::vector<float> dy{10, 20, 30};
    max_pool2d_backward(s, dy.data(), at.data(), dx.data());
    CHECK_EQUAL(dx, (std::vector<float>{0, 10, 20, 0, 0, 30, 0, 0, 0, 0, 0, 0}), "");

    // Padding never wins, and an average counts only what lies inside.
    const Pool2DShape padded = pool2d_shape({1, 1, 3, 1}, {1, 2}, {1, 2}, {0, 0, 1, 0});
    const std::vector<float> negative{-4, -2, -6};
    std::vector<float> out(2), back(3);
    max_pool2d_forward(padded, negative.data(), out.data(), at.data());
    CHECK_EQUAL(out, (std::vector<float>{-4, -2}), "");
    CHECK(at[0] == 1 && at[1] == 0);
    average_pool2d_forward(padded, negative.data(), out.data());
    CHECK_EQUAL(out, (std::vector<float>{-4, -4}), "");
    average_pool2d_backward(padded, dy.data(), back.data());
    CHECK_EQUAL(back, (std::vector<float>{10, 10, 10}), "");

    // The largest window a byte can index, and one it cannot.
    for (index width : {16, 17}) {
        const Pool2DShape big = pool2d_shape({1, 16, width, 3}, {16, width}, {1, 1}, {0, 0, 0, 0});
        std::vector<float> rising(static_cast<std::size_t>(big.input_size()));
        for (std::size_t i = 0; i < rising.size(); ++i) rising[i] = static_cast<float>(i);
        std::vector<float> top(3), gradient(rising.size());
        std::vector<std::uint32_t> where(3);
        max_pool2d_forward(big, rising.data(), top.data(), where.data());
        CHECK_EQUAL(where, std::vector<std::uint32_t>(3, static_cast<std::uint32_t>(16 * width - 1)), show(width));
        max_pool2d_backward(big, dy.data(), where.data(), gradient.data());
        CHECK(gradient[rising.size() - 3] == 10 && gradient[rising.size() - 1] == 30 && gradient[0] == 0);
        if (width == 16) maximum_equals_reference<float, std::uint8_t>(big, rising);
    }
}

bool refused(const index (&input)[4], const index (&window)[2], const index (&strides)[2], const index (&padding)[4],
             const char* text) {
    try {
        pool2d_shape(input, window, strides, padding);
    } catch (const std::invalid_argument& error) {
        const std::string message = error.what();
        return message.rfind("pool2d: ", 0) == 0 && message.find(text) != std::string::npos;
    }
    return false;
}

void threads_agree(const Pool2DShape& s) {
    const auto x = reals<float>(s.input_size()), dy = reals<float>(s.output_size());
    std::vector<float> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<float> y(dy.size()), mean(dy.size()), dx(x.size()), dmean(x.size());
        std::vector<std::uint8_t> at(dy.size());
        max_pool2d_forward(s, x.data(), y.data(), at.data());
        max_pool2d_backward(s, dy.data(), at.data(), dx.data());
        average_pool2d_forward(s, x.data(), mean.data());
        average_pool2d_backward(s, dy.data(), dmean.data());
        for (const auto& part : {mean, dx, dmean}) y.insert(y.end(), part.begin(), part.end());
        if (threads == 1) first = y;
        CHECK_FOR(same_bits(y, first), describe(s) + " threads " + std::to_string(threads));
    }
}

}  // namespace

void test_pool2d() {
    const int threads = get_num_threads();
    known_answers();
    const index width = lanes<float>, half = lanes<double>;
    for (index c : {index{1}, index{2}, half - 1, half, half + 1, width - 1, width, width + 1, 2 * width + 3})
        for (index stride : {1, 2, 3, 4}) {  // overlapping, and with gaps
            equals_reference<float>(pool2d_shape({2, 9, 8, c}, {3, 2}, {stride, stride}, {1, 0, 1, 0}));
            equals_reference<double>(pool2d_shape({2, 7, 9, c}, {2, 3}, {stride, stride}, {0, 1, 0, 1}));
        }
    for (int i = 0; i < 120; ++i) {
        const Pool2DShape s = random_shape();
        equals_reference<float>(s);
        equals_reference<double>(s);
    }
    threads_agree(pool2d_shape({56, 26, 26, 32}, {2, 2}, {2, 2}, {0, 0, 0, 0}));
    threads_agree(pool2d_shape({68, 30, 31, 19}, {3, 3}, {2, 2}, {1, 1, 1, 1}));
    threads_agree(pool2d_shape({68, 32, 31, 19}, {2, 3}, {3, 4}, {0, 0, 1, 1}));
    set_num_threads(threads);

    CHECK(refused({1, 4, 4, 0}, {2, 2}, {1, 1}, {0, 0, 0, 0}, "at least 1, that of the batch 0, received input (1, 4, 4, 0)"));
    CHECK(refused({1, 4, 4, 1}, {0, 2}, {1, 1}, {0, 0, 0, 0}, "(0, 2)"));
    CHECK(refused({1, 4, 4, 1}, {2, 2}, {1, 0}, {0, 0, 0, 0}, "(1, 0)"));
    CHECK(refused({1, 4, 4, 1}, {2, 3}, {1, 1}, {2, 0, 0, 0}, "padding 2 with window (2, 3)"));
    CHECK(refused({1, 4, 4, 1}, {2, 2}, {1, 1}, {0, 0, -1, 0}, "padding -1"));
    CHECK(refused({1, 4, 5, 1}, {6, 2}, {1, 1}, {0, 1, 0, 0}, "window (6, 2) does not fit the padded input (5, 5)"));
}

}  // namespace vivace::tests
