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
    bool refused = false;
    try {
        check_depthwise2d(conv2d_shape({1, 4, 4, 4}, {2, 2, 2, 4}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 2));
    } catch (const std::invalid_argument& error) {
        refused = std::string(error.what()).find("4 channels, received 2") != std::string::npos;
    }
    CHECK(refused);
}

}  // namespace vivace::tests
