#include <limits>
#include <stdexcept>

#include "check.h"
#include "simd.h"
#include "vivace/parallel.h"
#include "vivace/pool3d.h"
#include "vivace/reference.h"

namespace vivace::tests {
namespace {

// Outputs with windows of up to `most` elements, with and without gaps and overlaps.
std::vector<Window> random_windows(index size, index most) {
    std::vector<Window> windows;
    Window window{0, 0};
    for (index i = random_index(1, 4); i > 0; --i) {
        window.first = std::min(size - 1, window.first + random_index(0, most));
        window.end = std::clamp(window.first + random_index(1, most), window.end, size);
        windows.push_back(window);
    }
    return windows;
}

Pool3DShape random_shape(index channels) {
    const index d = random_index(1, 5), h = random_index(1, 6), w = random_index(1, 7);
    return pool3d_shape({random_index(1, 2), d, h, w, channels},
                        {random_windows(d, 2), random_windows(h, 3), random_windows(w, 4)});
}

std::string describe(const Pool3DShape& s) {
    return show(s.n, s.depth.size, s.height.size, s.width.size, s.c, "to", s.depth.outputs(), s.height.outputs(),
                s.width.outputs());
}

template <class T, class Position>
void maximum_equals_reference(const Pool3DShape& s, const std::vector<T>& x) {
    const auto dy = integers<T>(s.output_size());
    auto y = unset<T>(s.output_size()), y2 = y, y3 = y, dx = unset<T>(s.input_size()), dx2 = dx;
    std::vector<Position> at(dy.size(), 99), at2(dy.size(), 98);
    max_pool3d_forward(s, x.data(), y.data(), at.data());
    reference::max_pool3d_forward(s, x.data(), y2.data(), at2.data());
    CHECK_EQUAL(y, y2, describe(s));
    CHECK_EQUAL(at, at2, describe(s));
    max_pool3d_forward<T, Position>(s, x.data(), y3.data(), nullptr);
    CHECK_EQUAL(y3, y2, describe(s));
    max_pool3d_backward(s, dy.data(), at2.data(), dx.data());
    reference::max_pool3d_backward(s, dy.data(), at2.data(), dx2.data());
    CHECK_EQUAL(dx, dx2, describe(s));
}

template <class T>
void equals_reference(const Pool3DShape& s) {
    const auto x = integers<T>(s.input_size());  // of seven values: ties everywhere
    maximum_equals_reference<T, std::uint8_t>(s, x);
    maximum_equals_reference<T, std::uint32_t>(s, x);
    auto special = x;
    const T infinity = std::numeric_limits<T>::infinity(), specials[] = {static_cast<T>(NAN), infinity, -infinity, T(-0.0)};
    for (T& v : special)
        if (rng() % 3 == 0) v = specials[rng() % 4];
    maximum_equals_reference<T, std::uint8_t>(s, special);

    const auto dy = reals<T>(s.output_size()), real = reals<T>(s.input_size());
    auto y = unset<T>(s.output_size()), y2 = y, dx = unset<T>(s.input_size()), dx2 = dx;
    const double relative = 8 * static_cast<double>(std::numeric_limits<T>::epsilon());
    average_pool3d_forward(s, real.data(), y.data());
    reference::average_pool3d_forward(s, real.data(), y2.data());
    CHECK_CLOSE(y, y2, relative, relative, describe(s));
    average_pool3d_backward(s, dy.data(), dx.data());
    reference::average_pool3d_backward(s, dy.data(), dx2.data());
    CHECK_CLOSE(dx, dx2, relative, relative, describe(s));
}

// Written out by hand, so that the reference itself is held to something.
void known_answers() {
    const float nan = NAN;
    const Pool3DShape s = pool3d_shape({1, 1, 2, 5, 1}, {{{0, 1}}, {{0, 2}}, {{0, 2}, {1, 4}, {4, 5}}});
    const std::vector<float> x{1, 5, 2, 2, 0,  //
                               5, 4, 2, nan, 0}, dy{10, 20, 30};
    std::vector<float> y(3), dx(10);
    std::vector<std::uint8_t> at(3);
    max_pool3d_forward(s, x.data(), y.data(), at.data());
    CHECK_EQUAL(y, (std::vector<float>{5, nan, 0}), "");
    CHECK_EQUAL(at, (std::vector<std::uint8_t>{1, 5, 0}), "");
    max_pool3d_backward(s, dy.data(), at.data(), dx.data());
    CHECK_EQUAL(dx, (std::vector<float>{0, 10, 0, 0, 30, 0, 0, 0, 20, 0}), "");
    average_pool3d_backward(s, (std::vector<float>{4, 12, 2}).data(), dx.data());
    CHECK_EQUAL(dx, (std::vector<float>{1, 3, 2, 2, 1, 1, 3, 2, 2, 1}), "");
}

bool refused(const std::vector<Window>& width, const char* text) {
    try {
        pool3d_shape({1, 1, 1, 4, 1}, {{{0, 1}}, {{0, 1}}, width});
    } catch (const std::invalid_argument& error) {
        const std::string message = error.what();
        return message.rfind("pool3d: ", 0) == 0 && message.find(text) != std::string::npos;
    }
    return false;
}

void threads_agree() {
    const Pool3DShape s = pool3d_shape(
        {2, 12, 20, 30, 19}, {{{0, 3}, {2, 8}, {8, 12}}, {{0, 10}, {10, 20}}, {{0, 8}, {7, 15}, {15, 22}, {22, 30}}});
    const auto x = reals<float>(s.input_size()), dy = reals<float>(s.output_size());
    std::vector<float> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<float> y(dy.size()), mean(dy.size()), dx(x.size()), dmean(x.size());
        std::vector<std::uint32_t> at(dy.size());
        max_pool3d_forward(s, x.data(), y.data(), at.data());
        max_pool3d_backward(s, dy.data(), at.data(), dx.data());
        average_pool3d_forward(s, x.data(), mean.data());
        average_pool3d_backward(s, dy.data(), dmean.data());
        for (const auto& part : {mean, dx, dmean}) y.insert(y.end(), part.begin(), part.end());
        if (threads == 1) first = y;
        CHECK_FOR(same_bits(y, first), show(threads));
    }
}

}  // namespace

void test_pool3d() {
    const int threads = get_num_threads();
    known_answers();
    const index width = lanes<float>, half = lanes<double>;
    for (index c : {index{1}, index{3}, half - 1, half, half + 1, width - 1, width, width + 1, 2 * width + 3})
        for (int i = 0; i < 8; ++i) {
            equals_reference<float>(random_shape(c));
            equals_reference<double>(random_shape(c));
        }
    threads_agree();
    set_num_threads(threads);

    CHECK(refused({}, "must have a window"));
    CHECK(refused({{0, 0}}, "received [0, 0)"));
    CHECK(refused({{0, 5}}, "received [0, 5)"));
    CHECK(refused({{-1, 2}}, "received [-1, 2)"));
    CHECK(refused({{1, 3}, {0, 4}}, "ascend, received [0, 4)"));
    CHECK(refused({{0, 3}, {1, 2}}, "ascend, received [1, 2)"));
}

}  // namespace vivace::tests
