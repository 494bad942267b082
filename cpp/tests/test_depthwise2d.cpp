#include <stdexcept>

#include "check.h"
#include "simd.h"
#include "vivace/depthwise2d.h"
#include "vivace/parallel.h"
#include "vivace/reference.h"

namespace vivace::tests {
namespace {

std::string describe(const Conv2DShape& s) {
    return show(s.n, s.h, s.w, s.c, "kernel", s.kh, s.kw, s.o, "strides", s.stride_h, s.stride_w, "padding", s.pad_top,
                s.pad_left, "dilation", s.dilation_h, s.dilation_w);
}

template <class T>
void equals_reference(const Conv2DShape& s) {
    const auto x = integers<T>(s.input_size()), w = integers<T>(s.kernel_size()), dy = integers<T>(s.output_size()),
               bias = integers<T>(s.o);
    for (Activation activation : {Activation::linear, Activation::relu})
        for (const T* b : {bias.data(), static_cast<const T*>(nullptr)}) {
            auto y = unset<T>(s.output_size()), expected = y;
            depthwise2d_forward(s, x.data(), w.data(), b, activation, y.data());
            reference::conv2d_forward(s, x.data(), w.data(), b, activation, expected.data());
            CHECK_EQUAL(y, expected, describe(s));
        }
    auto dx = unset<T>(s.input_size()), expected = dx;
    depthwise2d_input_gradient(s, dy.data(), w.data(), dx.data());
    reference::conv2d_input_gradient(s, dy.data(), w.data(), expected.data());
    CHECK_EQUAL(dx, expected, describe(s));
    std::vector<T> dw(w.size(), 1), db(bias.size(), 1), dw2(dw), db2(db);
    depthwise2d_weight_gradient(s, x.data(), dy.data(), dw.data(), db.data());
    reference::conv2d_weight_gradient(s, x.data(), dy.data(), dw2.data(), db2.data());
    CHECK_EQUAL(dw, dw2, describe(s));
    CHECK_EQUAL(db, db2, describe(s));
}

// The same bits for 1, 2 and 3 threads, on real values, whose sums depend on their order.
template <class T>
void threads_agree(const Conv2DShape& s) {
    const auto x = reals<T>(s.input_size()), w = reals<T>(s.kernel_size()), b = reals<T>(s.o),
               dy = reals<T>(s.output_size());
    std::vector<T> first[4];
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<T> got[] = {unset<T>(s.output_size()), unset<T>(s.input_size()), w, b};
        depthwise2d_forward(s, x.data(), w.data(), b.data(), Activation::relu, got[0].data());
        depthwise2d_input_gradient(s, dy.data(), w.data(), got[1].data());
        depthwise2d_weight_gradient(s, x.data(), dy.data(), got[2].data(), got[3].data());
        for (std::size_t i = 0; i < 4; ++i) {
            if (threads == 1) first[i] = got[i];
            CHECK_FOR(same_bits(got[i], first[i]), describe(s) + show("threads", threads, "array", i));
        }
    }
}

Conv2DShape random_shape() {
    for (;;) {
        const index c = random_index(1, 35), times = random_index(1, 3);
        try {
            return conv2d_shape({random_index(1, 3), random_index(1, 11), random_index(1, 20), c},
                                {random_index(1, 4), random_index(1, 5), 1, c * times},
                                {random_index(1, 3), random_index(1, 3)},
                                {random_index(0, 3), random_index(0, 3), random_index(0, 3), random_index(0, 3)},
                                {random_index(1, 2), random_index(1, 2)}, c);
        } catch (const std::invalid_argument&) {  // the window does not fit: draw again
        }
    }
}

}  // namespace

void test_depthwise2d() {
    for (int i = 0; i < 150; ++i) {
        const Conv2DShape s = random_shape();
        equals_reference<float>(s);
        equals_reference<double>(s);
    }
    // Kernels three columns wide, with and without neighbours enough to share their pixels.
    for (index c : {1, 3, 8, 17, 33})
        for (index w : {9, 10, 17, 20})
            for (index kh : {1, 3, 4}) {
                equals_reference<float>(conv2d_shape({2, 6, w, c}, {kh, 3, 1, c}, {1, 1}, {1, 0, 0, 0}, {1, 1}, c));
                equals_reference<double>(conv2d_shape({2, 6, w, c}, {kh, 3, 1, 2 * c}, {2, 1}, {0, 1, 1, 1}, {2, 1}, c));
            }
    const int threads = get_num_threads();
    threads_agree<float>(conv2d_shape({5, 20, 21, 35}, {3, 3, 1, 70}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 35));
    threads_agree<double>(conv2d_shape({5, 20, 21, 35}, {3, 5, 1, 35}, {2, 2}, {1, 1, 1, 1}, {1, 1}, 35));
    set_num_threads(threads);
    bool refused = false;
    try {
        check_depthwise2d(conv2d_shape({1, 4, 4, 4}, {2, 2, 2, 4}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 2));
    } catch (const std::invalid_argument& error) {
        refused = std::string(error.what()).find("4 channels, received 2") != std::string::npos;
    }
    CHECK(refused);
}

}  // namespace vivace::tests
