#include <stdexcept>
#include <string>

#include "check.h"
#include "vivace/conv2d_pool.h"
#include "vivace/parallel.h"
#include "vivace/reference.h"

namespace vivace::tests {
namespace {

std::string describe(const Conv2DShape& s) {
    std::string text = "for";
    for (index v : {s.n, s.h, s.w, s.c, s.kh, s.kw, s.o, s.stride_h, s.stride_w, s.pad_top, s.pad_bottom, s.pad_left,
                    s.pad_right, s.dilation_h, s.dilation_w, s.groups})
        text += " " + std::to_string(v);
    return text;
}

Conv2DShape random_shape() {
    const index groups = rng() % 4 ? 1 : random_index(2, 3), kh = random_index(1, 4), kw = random_index(1, 4);
    const index dh = rng() % 3 ? 1 : random_index(1, 3), dw = rng() % 3 ? 1 : random_index(1, 3);
    const index filters = rng() % 2 ? random_index(1, 35) : 16 * random_index(1, 3);
    const index channels = random_index(1, 18), pad = rng() % 2;
    return conv2d_shape({random_index(1, 3), random_index(1, 12) + (kh - 1) * dh, random_index(1, 12) + (kw - 1) * dw,
                         groups * channels},
                        {kh, kw, channels, filters * groups}, {random_index(1, 3), random_index(1, 3)},
                        {pad * random_index(0, 3), pad * random_index(0, 3), pad * random_index(0, 3),
                         pad * random_index(0, 3)},
                        {dh, dw}, groups);
}

template <class T>
void equals_reference(const Conv2DShape& s) {
    const auto x = integers<T>(s.input_size()), w = integers<T>(s.kernel_size()), b = integers<T>(s.o),
               dy = integers<T>(s.output_size());
    auto run = [&](auto forward, auto input_gradient, auto weight_gradient) {
        std::vector<T> y(dy.size(), 7), dx(x.size(), 7), dw(w.size(), 1), db(b.size(), 2);
        forward(s, x.data(), w.data(), b.data(), Activation::relu, y.data());
        input_gradient(s, dy.data(), w.data(), dx.data());
        weight_gradient(s, x.data(), dy.data(), dw.data(), db.data());
        return std::vector<std::vector<T>>{y, dx, dw, db};
    };
    const auto expected = run(reference::conv2d_forward<T>, reference::conv2d_input_gradient<T>,
                              reference::conv2d_weight_gradient<T>);
    CHECK_FOR(run(conv2d_forward<T>, conv2d_input_gradient<T>, conv2d_weight_gradient<T>) == expected,
              describe(s).c_str());
    CHECK_FOR(run(im2col::conv2d_forward<T>, im2col::conv2d_input_gradient<T>, im2col::conv2d_weight_gradient<T>) ==
                  expected,
              describe(s).c_str());
}

bool refused(const index (&input)[4], const index (&kernel)[4], const char* text) {
    try {
        conv2d_shape(input, kernel, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1);
    } catch (const std::invalid_argument& error) {
        return std::string(error.what()).find(text) != std::string::npos;
    }
    return false;
}

}  // namespace

void test_conv2d() {
    for (int i = 0; i < 150; ++i) {
        const Conv2DShape s = random_shape();
        equals_reference<float>(s);
        equals_reference<double>(s);
    }
    CHECK(refused({8, 28, 28, 4}, {3, 3, 3, 16}, "input has 4 channels, kernel expects 3 (input (8, 28, 28, 4), kernel"));
    CHECK(refused({8, 2, 2, 4}, {3, 3, 4, 16}, "does not fit"));

    const Conv2DShape s = conv2d_shape({8, 13, 13, 32}, {3, 3, 32, 64}, {1, 1}, {1, 0, 1, 0}, {1, 1}, 1);
    const auto x = reals<float>(s.input_size()), w = reals<float>(s.kernel_size()), dy = reals<float>(s.output_size());
    std::vector<std::vector<float>> first;
    const int threads = get_num_threads();
    for (int count : {1, 2, 3}) {
        set_num_threads(count);
        std::vector<float> y(dy.size()), dx(x.size()), dw(w.size());
        conv2d_forward<float>(s, x.data(), w.data(), nullptr, Activation::linear, y.data());
        conv2d_input_gradient<float>(s, dy.data(), w.data(), dx.data());
        conv2d_weight_gradient<float>(s, x.data(), dy.data(), dw.data(), nullptr);
        if (count == 1) first = {y, dx, dw};
        CHECK((first == std::vector<std::vector<float>>{y, dx, dw}));
    }
    set_num_threads(threads);
}

namespace {

template <class T>
void fused_equals_separate(const Conv2DShape& s, index window_h, index window_w) {
    if (s.p < window_h || s.q < window_w) return;
    const Pool2DShape pool = pool2d_shape({s.n, s.p, s.q, s.o}, {window_h, window_w}, {window_h, window_w}, {0, 0, 0, 0});
    const auto x = integers<T>(s.input_size()), w = integers<T>(s.kernel_size()), b = integers<T>(s.o),
               dy = integers<T>(pool.output_size());
    std::vector<T> full(static_cast<std::size_t>(s.output_size())), expected(dy.size()), y(dy.size()), dx(x.size()),
        got_dx(x.size()), dw(w.size()), got_dw(w.size()), db(b.size()), got_db(b.size());
    std::vector<std::uint8_t> where(dy.size()), positions(dy.size());
    conv2d_forward(s, x.data(), w.data(), b.data(), Activation::linear, full.data());
    max_pool2d_forward(pool, full.data(), expected.data(), where.data());
    conv2d_pool_forward(s, pool, x.data(), w.data(), b.data(), Activation::linear, y.data(), positions.data());
    CHECK_FOR(y == expected && positions == where, describe(s).c_str());
    max_pool2d_backward(pool, dy.data(), where.data(), full.data());
    conv2d_input_gradient(s, full.data(), w.data(), dx.data());
    conv2d_weight_gradient(s, x.data(), full.data(), dw.data(), db.data());
    conv2d_pool_input_gradient(s, pool, dy.data(), y.data(), positions.data(), Activation::linear, w.data(), got_dx.data());
    conv2d_pool_weight_gradient(s, pool, x.data(), dy.data(), y.data(), positions.data(), Activation::linear,
                                got_dw.data(), got_db.data());
    CHECK_FOR(got_dx == dx && got_dw == dw && got_db == db, describe(s).c_str());
}

}  // namespace

void test_conv2d_pool() {
    for (int i = 0; i < 60; ++i) {
        const index k = random_index(1, 5), pad = random_index(0, k - 1);
        const index c = i % 3 == 0 ? 1 : i % 3 == 1 ? 16 * random_index(1, 3) : random_index(1, 20);
        const index filters = rng() % 2 ? 16 * random_index(1, 2) : random_index(1, 20);
        const index size = k + random_index(3, 9);
        const Conv2DShape s =
            conv2d_shape({random_index(1, 3), size, size + 1, c}, {k, k, c, filters}, {1, 1}, {pad, pad, pad, 0}, {1, 1}, 1);
        fused_equals_separate<float>(s, random_index(1, 3), random_index(1, 3));
        fused_equals_separate<float>(s, 2, 2);
        fused_equals_separate<double>(s, 2, 2);
    }
    for (index filters : {16, 32, 48})
        fused_equals_separate<float>(
            conv2d_shape({3, 9, 11, 1}, {3, 3, 1, filters}, {1, 1}, {1, 1, 0, 0}, {1, 1}, 1), 2, 2);
}

}  // namespace vivace::tests
