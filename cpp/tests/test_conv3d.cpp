#include <limits>
#include <stdexcept>

#include "check.h"
#include "vivace/conv3d.h"
#include "vivace/parallel.h"
#include "vivace/reference.h"

namespace vivace::tests {
namespace {

Conv3DShape random_shape() {
    const index groups = rng() % 4 ? 1 : random_index(2, 3), k[3] = {random_index(1, 3), random_index(1, 3), random_index(1, 3)};
    const index dilation = rng() % 3 ? 1 : 2, pad = rng() % 2, channels = random_index(1, 9);
    const auto size = [&](int axis) { return random_index(1, 5) + (k[axis] - 1) * dilation; };
    return conv3d_shape({random_index(1, 2), size(0), size(1), size(2), groups * channels},
                        {k[0], k[1], k[2], channels, groups * random_index(1, 9)},
                        {random_index(1, 3), random_index(1, 2), random_index(1, 2)},
                        {pad * random_index(0, 2), pad * random_index(0, 2), pad, 0, 0, pad}, {dilation, dilation, dilation}, groups);
}

std::string describe(const Conv3DShape& s) {
    return show(s.n, s.d, s.h, s.w, s.c, "kernel", s.kd, s.kh, s.kw, s.o, "depth's stride", s.stride_d, "padding", s.pad_front,
                "dilation", s.dilation_d, "groups", s.groups());
}

// Exactly, on small integers, where Winograd's fractions have no part in it.
template <class T>
void equals_reference(const Conv3DShape& s, double tolerance = 0) {
    const auto x = integers<T>(s.input_size()), w = integers<T>(s.kernel_size()), b = integers<T>(s.o),
               dy = integers<T>(s.output_size()), start = integers<T>(s.kernel_size()), bias_start = integers<T>(s.o);
    auto y = unset<T>(s.output_size()), y2 = y, dx = unset<T>(s.input_size()), dx2 = dx, dw = start, dw2 = start;
    auto db = bias_start, db2 = bias_start;
    conv3d_forward(s, x.data(), w.data(), b.data(), Activation::relu, y.data());
    reference::conv3d_forward(s, x.data(), w.data(), b.data(), Activation::relu, y2.data());
    CHECK_CLOSE(y, y2, 0, tolerance, describe(s));
    conv3d_input_gradient(s, dy.data(), w.data(), dx.data());
    reference::conv3d_input_gradient(s, dy.data(), w.data(), dx2.data());
    CHECK_CLOSE(dx, dx2, 0, tolerance, describe(s));
    conv3d_weight_gradient(s, x.data(), dy.data(), dw.data(), db.data());
    reference::conv3d_weight_gradient(s, x.data(), dy.data(), dw2.data(), db2.data());
    CHECK_CLOSE(dw, dw2, 0, tolerance, describe(s));
    CHECK_EQUAL(db, db2, describe(s));

    // Transposed: the input gradient forwards, with a bias for each of the input's channels.
    const auto bias = integers<T>(s.c), sums = integers<T>(s.c);
    for (Activation activation : {Activation::linear, Activation::relu, Activation::tanh}) {
        conv3d_transpose_forward(s, dy.data(), w.data(), bias.data(), activation, dx.data());
        auto expected = dx2;
        for (std::size_t i = 0; i < expected.size(); ++i) {
            const T sum = expected[i] + bias[i % bias.size()];
            expected[i] = activation == Activation::linear ? sum : activation == Activation::relu ? std::max(sum, T{0}) : std::tanh(sum);
        }
        CHECK_CLOSE(dx, expected, 1e-6, tolerance + (activation == Activation::tanh ? 1e-6 : 0), describe(s));
    }
    dw = start, dw2 = start;
    auto dbias = sums, dbias2 = sums;
    conv3d_transpose_weight_gradient(s, dy.data(), x.data(), dw.data(), dbias.data());
    reference::conv3d_weight_gradient(s, x.data(), dy.data(), dw2.data(), static_cast<T*>(nullptr));
    for (std::size_t i = 0; i < x.size(); ++i) dbias2[i % sums.size()] += x[i];
    CHECK_CLOSE(dw, dw2, 0, tolerance, describe(s));
    CHECK_EQUAL(dbias, dbias2, describe(s));
}

void threads_agree(const Conv3DShape& s) {
    const auto x = reals<float>(s.input_size()), w = reals<float>(s.kernel_size()), dy = reals<float>(s.output_size()),
               b = reals<float>(s.c);
    std::vector<float> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<float> y(dy.size()), dx(x.size()), z(x.size()), dw(w.size()), db(b.size());
        conv3d_forward(s, x.data(), w.data(), static_cast<const float*>(nullptr), Activation::relu, y.data());
        conv3d_input_gradient(s, dy.data(), w.data(), dx.data());
        conv3d_transpose_forward(s, dy.data(), w.data(), b.data(), Activation::relu, z.data());
        conv3d_transpose_weight_gradient(s, dy.data(), x.data(), dw.data(), db.data());
        for (const auto& part : {dx, z, dw, db}) y.insert(y.end(), part.begin(), part.end());
        if (threads == 1) first = y;
        CHECK_FOR(same_bits(y, first), describe(s) + show(" threads", threads));
    }
}

bool refused(const index (&input)[5], const index (&kernel)[5], const char* text) {
    try {
        conv3d_shape(input, kernel, {1, 1, 1}, {0, 0, 0, 0, 0, 0}, {1, 1, 1}, 1);
    } catch (const std::invalid_argument& error) {
        return std::string(error.what()).find(text) != std::string::npos;
    }
    return false;
}

}  // namespace

void test_conv3d() {
    const int threads = get_num_threads();
    for (int i = 0; i < 60; ++i) {
        equals_reference<float>(random_shape());
        equals_reference<double>(random_shape());
    }
    equals_reference<float>(conv3d_shape({2, 5, 9, 10, 8}, {3, 3, 3, 8, 20}, {1, 1, 1}, {1, 1, 1, 1, 1, 1}, {1, 1, 1}, 1), 2e-2);
    const Conv3DShape large = conv3d_shape({2, 10, 40, 40, 16}, {3, 3, 3, 16, 20}, {1, 1, 1}, {1, 1, 1, 1, 1, 1}, {1, 1, 1}, 1);
    equals_reference<float>(large, 5e-2);  // in pieces
    threads_agree(large);
    threads_agree(conv3d_shape({4, 1, 60, 50, 3}, {1, 3, 3, 3, 8}, {1, 2, 2}, {0, 0, 1, 1, 1, 1}, {1, 1, 1}, 1));
    set_num_threads(threads);

    CHECK(refused({1, 2, 4, 4, 1}, {3, 1, 1, 1, 1}, "does not fit the padded input (input (1, 2, 4, 4, 1), kernel (3, 1, 1, 1, 1))"));
    CHECK(refused({1, 4, 4, 4, 2}, {3, 1, 1, 1, 1}, "input has 2 channels, kernel expects 1 (input (1, 4, 4, 4, 2)"));
    CHECK(refused({1, 4, 2, 4, 1}, {1, 3, 1, 1, 1}, "does not fit the padded input"));
}

}  // namespace vivace::tests
