#include <limits>
#include <stdexcept>

#include "check.h"
#include "vivace/conv2d_pool.h"
#include "vivace/parallel.h"
#include "vivace/reference.h"

namespace vivace::tests {
namespace {

std::string describe(const Conv2DShape& s) {
    return show(s.n, s.h, s.w, s.c, "kernel", s.kh, s.kw, s.o, "strides", s.stride_h, s.stride_w, "padding", s.pad_top,
                s.pad_bottom, s.pad_left, s.pad_right, "dilation", s.dilation_h, s.dilation_w, "groups", s.groups);
}

// Input (n, h, w, c), kernel (kh, kw, o), strides, padding (top, bottom, left, right), dilation, groups.
Conv2DShape make(index n, index h, index w, index c, index kh, index kw, index o, index sh = 1, index sw = 1,
                 index top = 0, index bottom = 0, index left = 0, index right = 0, index dh = 1, index dw = 1,
                 index groups = 1) {
    return conv2d_shape({n, h, w, c}, {kh, kw, c / groups, o}, {sh, sw}, {top, bottom, left, right}, {dh, dw}, groups);
}

std::vector<Conv2DShape> fixed_shapes() {
    std::vector<Conv2DShape> shapes{
        make(1, 1, 1, 1, 1, 1, 1),                                            // one of everything
        make(3, 1, 1, 5, 1, 1, 7),                                            // a dense layer
        make(2, 5, 6, 3, 1, 1, 4),                                            // 1 x 1
        make(2, 5, 6, 3, 1, 1, 4, 2, 3),                                      // skips pixels
        make(2, 5, 6, 3, 1, 1, 4, 1, 1, 2, 1, 1, 2),                          // padding alone gives an output
        make(1, 7, 7, 2, 7, 7, 3),                                            // the kernel is the image
        make(1, 3, 3, 2, 5, 5, 3, 1, 1, 1, 1, 1, 1),                          // the kernel is larger than the image
        make(1, 1, 1, 2, 3, 3, 3, 1, 1, 1, 1, 1, 1),                          // one pixel, mostly padding
        make(2, 8, 8, 3, 3, 3, 5, 1, 1, 1, 1, 1, 1),                          // "same"
        make(2, 8, 8, 3, 4, 2, 5, 1, 1, 1, 2, 0, 1),                          // even kernel, uneven padding
        make(2, 8, 8, 3, 3, 3, 5, 1, 1, 4, 0, 0, 5),                          // more padding than kernel
        make(2, 9, 8, 3, 3, 3, 5, 2, 2, 1, 1, 1, 1),                          // strided
        make(2, 9, 8, 3, 3, 3, 5, 2, 1, 1, 0, 0, 1),                          // in one direction
        make(2, 9, 8, 3, 3, 3, 5, 1, 2, 0, 1, 1, 0),                          //
        make(2, 11, 12, 3, 2, 2, 5, 3, 4),                                    // input pixels that no window sees
        make(2, 11, 12, 3, 2, 2, 5, 5, 5, 1, 0, 1, 0),                        //
        make(2, 11, 12, 3, 3, 3, 5, 3, 3, 2, 2, 2, 2),                        // stride equals kernel
        make(2, 10, 11, 3, 3, 3, 5, 1, 1, 0, 0, 0, 0, 2, 2),                  // dilated
        make(2, 10, 11, 3, 3, 2, 5, 1, 1, 2, 2, 2, 2, 3, 1),                  // in one direction
        make(2, 10, 11, 3, 2, 3, 5, 1, 1, 2, 2, 2, 2, 1, 3),                  //
        make(2, 10, 11, 3, 3, 3, 5, 2, 2, 2, 2, 2, 2, 2, 2),                  // stride and dilation share a factor
        make(2, 12, 13, 3, 3, 3, 5, 2, 3, 2, 1, 2, 1, 3, 2),                  // and do not
        make(2, 12, 13, 3, 3, 3, 5, 4, 4, 2, 1, 2, 1, 2, 2),                  //
        make(2, 6, 6, 4, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1, 1, 2),                 // groups
        make(2, 6, 6, 8, 3, 3, 8, 1, 1, 1, 1, 1, 1, 1, 1, 8),                 // depthwise
        make(2, 6, 6, 5, 3, 3, 15, 2, 2, 1, 1, 1, 1, 1, 1, 5),                // three filters for each channel
        make(2, 7, 6, 32, 3, 3, 64, 1, 1, 1, 1, 1, 1, 1, 1, 2),               // groups of whole registers
        make(2, 7, 6, 34, 1, 1, 34, 1, 1, 0, 0, 0, 0, 1, 1, 2),               // groups of a register and one
        make(2, 9, 9, 6, 3, 3, 6, 2, 2, 2, 2, 2, 2, 2, 2, 3),                 // everything together
        make(2, 1, 40, 3, 1, 5, 8, 1, 1, 0, 0, 2, 2),                         // one row
        make(2, 40, 1, 3, 5, 1, 8, 1, 1, 2, 2, 0, 0),                         // one column
        make(3, 28, 28, 1, 3, 3, 32),                                         // a first layer
        make(2, 13, 13, 32, 3, 3, 64),                                        // a second one
        make(2, 9, 8, 97, 3, 3, 100, 1, 1, 1, 2, 0, 2),                       // Winograd in all directions, ragged
        make(20, 10, 13, 16, 3, 3, 17),                                       // its tiles of four and two together
        make(3, 7, 6, 130, 3, 3, 70, 1, 1, 1, 1, 1, 1),                       // large kernels, piece by piece
        make(2, 9, 11, 130, 3, 3, 135, 1, 1, 1, 1, 1, 1),                     // and the weight gradient's sums
        make(5, 26, 30, 33, 3, 3, 35),                                        // more tiles than a chunk
    };
    // Channel counts around every register width and panel width, on both sides.
    for (index channels : {1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65}) {
        shapes.push_back(make(1, 5, 6, 3, 3, 2, channels, 1, 1, 1, 1, 0, 1));
        shapes.push_back(make(1, 5, 6, channels, 2, 3, 5, 1, 1, 1, 0, 1, 1));
    }
    return shapes;
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
std::vector<T> prepare(const Conv2DShape& s, KernelForm form, const std::vector<T>& w) {
    auto prepared = unset<T>(kernel_form_size<T>(s, form));
    prepare_kernel(s, form, w.data(), prepared.data());
    return prepared;
}

// The three implementations, to be run on the same data.
template <class T>
struct Implementation {
    void (*forward)(const Conv2DShape&, const T*, const T*, const T*, Activation, T*);
    void (*input_gradient)(const Conv2DShape&, const T*, const T*, T*);
    void (*weight_gradient)(const Conv2DShape&, const T*, const T*, T*, T*);
};
template <class T>
Implementation<T> fast() {
    return {conv2d_forward<T>, conv2d_input_gradient<T>, conv2d_weight_gradient<T>};
}
template <class T>
Implementation<T> columns() {
    return {im2col::conv2d_forward<T>, im2col::conv2d_input_gradient<T>, im2col::conv2d_weight_gradient<T>};
}
template <class T>
Implementation<T> naive() {
    return {reference::conv2d_forward<T>, reference::conv2d_input_gradient<T>, reference::conv2d_weight_gradient<T>};
}

// How far a result on small integers may be from the exact one: not at all, but for Winograd's tiles of four outputs, which
// multiply by fractions.
template <class T>
double tolerance(const Conv2DShape& s, Direction direction) {
    if (conv2d_method(s, direction) != Conv2DMethod::winograd) return 0;
    const index terms = direction == Direction::weight_gradient ? s.n * s.p * s.q : 9 * (direction == Direction::forward ? s.c : s.o);
    return 400 * static_cast<double>(std::numeric_limits<T>::epsilon()) * std::sqrt(static_cast<double>(terms));
}

// Exactly, on small integers. Outputs start as NaN (to be overwritten), parameter gradients as integers (to be added to).
template <class T>
void equals_reference(const Conv2DShape& s, bool with_bias) {
    const auto x = integers<T>(s.input_size()), w = integers<T>(s.kernel_size()), b = integers<T>(s.o),
               dy = integers<T>(s.output_size()), dw_start = integers<T>(s.kernel_size()), db_start = integers<T>(s.o);
    struct Arrays {
        std::vector<T> y, rectified, dx, dw, db;
    };
    const auto run = [&](const Implementation<T>& f) {
        Arrays a{unset<T>(s.output_size()), unset<T>(s.output_size()), unset<T>(s.input_size()), dw_start, db_start};
        const T* bias = with_bias ? b.data() : nullptr;
        f.forward(s, x.data(), w.data(), bias, Activation::linear, a.y.data());
        f.forward(s, x.data(), w.data(), bias, Activation::relu, a.rectified.data());
        f.input_gradient(s, dy.data(), w.data(), a.dx.data());
        f.weight_gradient(s, x.data(), dy.data(), a.dw.data(), with_bias ? a.db.data() : nullptr);
        return a;
    };
    const Arrays expected = run(naive<T>());
    const double near_y = tolerance<T>(s, Direction::forward), near_dx = tolerance<T>(s, Direction::input_gradient);
    for (bool is_fast : {true, false}) {
        const Arrays got = run(is_fast ? fast<T>() : columns<T>());
        const std::string context = describe(s) + (is_fast ? " fast" : " im2col") + (with_bias ? " bias" : "");
        CHECK_CLOSE(got.y, expected.y, 0, is_fast ? near_y : 0, context);
        CHECK_CLOSE(got.rectified, expected.rectified, 0, is_fast ? near_y : 0, context);
        CHECK_CLOSE(got.dx, expected.dx, 0, is_fast ? near_dx : 0, context);
        CHECK_CLOSE(got.dw, expected.dw, 0, is_fast ? tolerance<T>(s, Direction::weight_gradient) : 0, context);
        CHECK_EQUAL(got.db, expected.db, context);
    }
    const KernelForm form = kernel_form(s);
    const auto prepared = prepare(s, form, w);
    const auto unread = form.kind == KernelForm::original ? w : unset<T>(s.kernel_size());
    auto y = unset<T>(s.output_size());
    conv2d_forward_prepared(s, x.data(), unread.data(), prepared.data(), with_bias ? b.data() : nullptr, Activation::relu,
                            y.data());
    CHECK_CLOSE(y, expected.rectified, 0, near_y, describe(s) + " prepared");
}

template <class T>
void activations(const Conv2DShape& s) {
    const double size = std::sqrt(static_cast<double>(s.kernel_size() / s.o));
    const auto x = reals<T>(s.input_size()), w = reals<T>(s.kernel_size(), 1 / size), b = reals<T>(s.o);
    const double tolerance = 16 * size * static_cast<double>(std::numeric_limits<T>::epsilon());
    for (Activation a : {Activation::linear, Activation::relu, Activation::sigmoid, Activation::tanh}) {
        auto y = unset<T>(s.output_size()), y2 = y, expected = y;
        conv2d_forward(s, x.data(), w.data(), b.data(), a, y.data());
        im2col::conv2d_forward(s, x.data(), w.data(), b.data(), a, y2.data());
        reference::conv2d_forward(s, x.data(), w.data(), b.data(), a, expected.data());
        CHECK_CLOSE(y, expected, tolerance, tolerance, describe(s) + show(static_cast<int>(a)));
        CHECK_CLOSE(y2, expected, tolerance, tolerance, describe(s) + show(static_cast<int>(a)));
    }
}

// The same bits for 1, 2 and 3 threads, on real values, whose sums depend on their order.
template <class T>
void threads_agree(const Conv2DShape& s) {
    const auto x = reals<T>(s.input_size()), w = reals<T>(s.kernel_size()), b = reals<T>(s.o),
               dy = reals<T>(s.output_size());
    std::vector<T> first[4];
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<T> got[] = {unset<T>(s.output_size()), unset<T>(s.input_size()), std::vector<T>(w.size()),
                                std::vector<T>(b.size())};
        conv2d_forward(s, x.data(), w.data(), b.data(), Activation::tanh, got[0].data());
        conv2d_input_gradient(s, dy.data(), w.data(), got[1].data());
        conv2d_weight_gradient(s, x.data(), dy.data(), got[2].data(), got[3].data());
        for (std::size_t i = 0; i < 4; ++i) {
            if (threads == 1) first[i] = got[i];
            CHECK_FOR(same_bits(got[i], first[i]), describe(s) + show("threads", threads, "array", i));
        }
    }
}

bool refused(const index (&input)[4], const index (&kernel)[4], const index (&strides)[2], const index (&padding)[4],
             const index (&dilation)[2], index groups, const char* text) {
    try {
        conv2d_shape(input, kernel, strides, padding, dilation, groups);
    } catch (const std::invalid_argument& error) {
        const std::string message = error.what();
        const bool good = message.rfind("conv2d: ", 0) == 0 && message.find(text) != std::string::npos;
        if (!good) std::printf("the message was: %s\n", message.c_str());
        return good;
    }
    return false;
}

void errors() {
    const index one[2] = {1, 1}, none[4] = {0, 0, 0, 0};
    CHECK(refused({8, 28, 28, 4}, {3, 3, 3, 16}, one, none, one, 1,
                  "input has 4 channels, kernel expects 3 (input (8, 28, 28, 4), kernel (3, 3, 3, 16))"));
    CHECK(refused({8, 28, 28, 4}, {3, 3, 4, 16}, one, none, one, 2, "input has 4 channels, kernel expects 8"));
    CHECK(refused({8, 28, 28, 4}, {3, 3, 1, 16}, one, none, one, 3, "received groups 3 (input (8, 28, 28, 4)"));
    CHECK(refused({8, 28, 28, 4}, {3, 3, 2, 5}, one, none, one, 2, "groups 2"));
    CHECK(refused({8, 28, 28, 4}, {3, 3, 4, 5}, one, none, one, 0, "groups must be at least 1, received 0"));
    CHECK(refused({8, 0, 28, 4}, {3, 3, 4, 16}, one, none, one, 1, "received input (8, 0, 28, 4)"));
    CHECK(refused({8, 28, 28, 4}, {3, -3, 4, 16}, one, none, one, 1, "received kernel (3, -3, 4, 16)"));
    CHECK(refused({8, 28, 28, 4}, {3, 3, 4, 16}, {1, 0}, none, one, 1, "strides must be at least 1, received (1, 0)"));
    CHECK(refused({8, 28, 28, 4}, {3, 3, 4, 16}, one, none, {0, 2}, 1, "dilation must be at least 1, received (0, 2)"));
    CHECK(refused({8, 28, 28, 4}, {3, 3, 4, 16}, one, {0, 0, -1, 0}, one, 1, "negative, received (0, 0, -1, 0)"));
    CHECK(refused({8, 2, 9, 4}, {3, 3, 4, 16}, one, none, one, 1,
                  "does not fit the padded input (input (8, 2, 9, 4), kernel (3, 3, 4, 16))"));
    CHECK(refused({8, 9, 4, 4}, {3, 3, 4, 16}, one, none, {1, 2}, 1, "does not fit"));
    const Conv2DShape s = make(2, 9, 10, 4, 3, 2, 6, 2, 3, 1, 0, 2, 1, 2, 1, 2);  // p = (10 - 5) / 2 + 1, q = (13 - 2) / 3 + 1
    CHECK(s.p == 3 && s.q == 4 && s.input_size() == 720 && s.kernel_size() == 72 && s.output_size() == 144);
    CHECK(s.flops() == 2 * 144 * 3 * 2 * 2);
}

}  // namespace

void test_conv2d() {
    bool with_bias = false;
    for (const Conv2DShape& s : fixed_shapes()) {
        with_bias = !with_bias;
        equals_reference<float>(s, with_bias);
        equals_reference<double>(s, !with_bias);
    }
    for (int i = 0; i < 150; ++i) {
        const Conv2DShape s = random_shape();
        equals_reference<float>(s, rng() % 4 > 0);
        equals_reference<double>(s, rng() % 4 > 0);
    }
    for (const Conv2DShape& s : {make(2, 8, 7, 3, 3, 3, 5, 1, 1, 1, 1, 1, 1), make(2, 9, 9, 16, 3, 3, 33, 2, 2),
                                 make(2, 6, 6, 8, 3, 3, 8, 1, 1, 1, 1, 1, 1, 1, 1, 4)}) {
        activations<float>(s);
        activations<double>(s);
    }
    errors();

    const int threads = get_num_threads();
    for (const Conv2DShape& s : {make(32, 28, 28, 1, 3, 3, 32), make(16, 13, 13, 32, 3, 3, 64, 1, 1, 1, 0, 1, 0),
                                 make(2, 56, 56, 64, 3, 3, 64, 1, 1, 1, 1, 1, 1), make(2, 14, 14, 160, 3, 3, 64),
                                 make(2, 12, 14, 160, 3, 3, 130), make(8, 28, 28, 64, 1, 1, 96),
                                 make(4, 57, 55, 19, 3, 3, 37, 2, 2, 1, 1, 1, 1),
                                 make(4, 40, 40, 12, 3, 3, 34, 1, 1, 2, 2, 2, 2, 2, 2, 2), make(4, 60, 60, 3, 5, 5, 8)}) {
        threads_agree<float>(s);
    }
    threads_agree<double>(make(8, 13, 13, 32, 3, 3, 64));
    threads_agree<double>(make(8, 28, 28, 1, 3, 3, 17, 1, 1, 1, 1, 1, 1));
    set_num_threads(threads);
}

namespace {

// The fused op against convolution, activation and pooling one after the other, exactly.
template <class T>
void fused_equals_separate(const Conv2DShape& s, index window_h, index window_w) {
    if (s.p < window_h || s.q < window_w) return;
    const Pool2DShape pool = pool2d_shape({s.n, s.p, s.q, s.o}, {window_h, window_w}, {window_h, window_w}, {0, 0, 0, 0});
    const auto x = integers<T>(s.input_size()), w = integers<T>(s.kernel_size()), b = integers<T>(s.o),
               dy = integers<T>(pool.output_size()), dw_start = integers<T>(s.kernel_size());
    for (Activation activation : {Activation::linear, Activation::relu}) {
        const std::string context = describe(s) + show("window", window_h, window_w, static_cast<int>(activation));
        auto full = unset<T>(s.output_size()), expected = unset<T>(pool.output_size()), y = expected, y2 = expected,
             dx = unset<T>(s.input_size()), got_dx = dx, dw = dw_start, got_dw = dw_start, got_dw2 = dw_start, db = b,
             got_db = b;
        std::vector<std::uint8_t> where(dy.size()), positions(dy.size(), 99);
        const double near_y = tolerance<T>(s, Direction::forward), near_dx = tolerance<T>(s, Direction::input_gradient);
        conv2d_forward(s, x.data(), w.data(), b.data(), activation, full.data());
        max_pool2d_forward(pool, full.data(), expected.data(), where.data());
        conv2d_pool_forward(s, pool, x.data(), w.data(), b.data(), activation, y.data(), positions.data());
        CHECK_CLOSE(y, expected, 0, near_y, context);
        // Under ReLU all of a window may be 0; where its maximum stands then matters to nobody. Where sums are rounded it may
        // stand at any that is as large.
        if (near_y > 0) {
            std::vector<T> winners(dy.size());
            for (index i = 0; i < pool.output_size(); ++i) {
                const std::size_t at = static_cast<std::size_t>(i);
                const index o = i % s.o, column = i / s.o % pool.q, row = i / s.o / pool.q % pool.p, image = i / s.o / pool.q / pool.p;
                const index down = positions[at] / window_w, across = positions[at] % window_w;
                const index pixel = (image * s.p + row * window_h + down) * s.q + column * window_w + across;
                winners[at] = full[static_cast<std::size_t>(pixel * s.o + o)];
            }
            CHECK_CLOSE(winners, expected, 0, near_y, context);
            where = positions;
        }
        for (std::size_t i = 0; i < dy.size(); ++i)
            if (activation == Activation::relu && y[i] == 0) where[i] = positions[i];
        CHECK_EQUAL(positions, where, context);
        conv2d_pool_forward<T>(s, pool, x.data(), w.data(), b.data(), activation, y2.data(), nullptr);
        CHECK_EQUAL(y2, y, context);
        const KernelForm form = kernel_form(s, pool);
        const auto prepared = prepare(s, form, w);
        const auto unread = form.kind == KernelForm::original ? w : unset<T>(s.kernel_size());
        y2 = unset<T>(pool.output_size());
        conv2d_pool_forward_prepared<T>(s, pool, x.data(), unread.data(), prepared.data(), b.data(), activation, y2.data(),
                                        nullptr);
        CHECK_EQUAL(y2, y, context + " prepared");

        auto winners = dy;
        for (std::size_t i = 0; i < dy.size(); ++i)
            if (activation == Activation::relu && !(y[i] > 0)) winners[i] = 0;
        max_pool2d_backward(pool, winners.data(), where.data(), full.data());
        conv2d_input_gradient(s, full.data(), w.data(), dx.data());
        conv2d_weight_gradient(s, x.data(), full.data(), dw.data(), db.data());
        conv2d_pool_input_gradient(s, pool, dy.data(), y.data(), positions.data(), activation, w.data(), got_dx.data());
        conv2d_pool_weight_gradient(s, pool, x.data(), dy.data(), y.data(), positions.data(), activation, got_dw.data(),
                                    got_db.data());
        conv2d_pool_weight_gradient<T>(s, pool, x.data(), dy.data(), y.data(), positions.data(), activation,
                                       got_dw2.data(), nullptr);
        CHECK_CLOSE(got_dx, dx, 0, near_dx, context);
        const double near_dw = tolerance<T>(s, Direction::weight_gradient);
        CHECK_CLOSE(got_dw, dw, 0, near_dw, context);
        CHECK_CLOSE(got_dw2, dw, 0, near_dw, context);
        CHECK_EQUAL(got_db, db, context);
    }
}

template <class T>
void fused_threads_agree(const Conv2DShape& s) {
    const Pool2DShape pool = pool2d_shape({s.n, s.p, s.q, s.o}, {2, 2}, {2, 2}, {0, 0, 0, 0});
    const auto x = reals<T>(s.input_size()), w = reals<T>(s.kernel_size()), b = reals<T>(s.o),
               dy = reals<T>(pool.output_size());
    std::vector<T> first[4];
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<T> got[] = {unset<T>(pool.output_size()), unset<T>(s.input_size()), w, b};
        std::vector<std::uint8_t> positions(dy.size());
        conv2d_pool_forward(s, pool, x.data(), w.data(), b.data(), Activation::relu, got[0].data(), positions.data());
        conv2d_pool_input_gradient(s, pool, dy.data(), got[0].data(), positions.data(), Activation::relu, w.data(),
                                   got[1].data());
        conv2d_pool_weight_gradient(s, pool, x.data(), dy.data(), got[0].data(), positions.data(), Activation::relu,
                                    got[2].data(), got[3].data());
        for (std::size_t i = 0; i < 4; ++i) {
            if (threads == 1) first[i] = got[i];
            CHECK_FOR(same_bits(got[i], first[i]), describe(s) + show("threads", threads, "array", i));
        }
    }
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
    // One channel: registers of filters and their ragged rest, windows in pairs and one alone.
    for (index filters : {1, 3, 4, 7, 9, 16, 19, 32, 33, 48, 65}) {
        fused_equals_separate<float>(make(3, 9, 11, 1, 3, 3, filters, 1, 1, 1, 1, 0, 0), 2, 2);
        fused_equals_separate<double>(make(2, 6, 9, 1, 3, 3, filters), 2, 2);
    }
    // More filters than are listed at a time, more windows than a chunk, more images than parts of the sum; kernels of
    // several blocks, dilated down, in strides; windows of a tile's size and beyond.
    for (index filters : {64, 65, 130}) {
        fused_equals_separate<float>(make(5, 20, 19, 16, 3, 3, filters), 2, 2);
        fused_equals_separate<double>(make(5, 20, 19, 8, 3, 3, filters, 1, 1, 1, 0, 0, 1), 2, 2);
    }
    fused_equals_separate<float>(make(2, 21, 23, 48, 4, 5, 66, 1, 1, 1, 2, 2, 1, 2, 1), 2, 2);
    fused_equals_separate<float>(make(6, 15, 16, 16, 3, 2, 33, 2, 1, 0, 1, 1, 0), 3, 2);
    for (index window : {4, 5}) {
        fused_equals_separate<float>(make(2, 17, 18, 32, 3, 3, 37, 1, 1, 1, 1, 1, 1), window, window);
        fused_equals_separate<float>(make(2, 17, 18, 3, 3, 3, 37, 1, 1, 1, 1, 1, 1), window, window);
    }
    // Winograd, ragged; its tiles of four and two together; large kernels; a single image of several panels, which threads
    // share out.
    fused_equals_separate<float>(make(20, 13, 15, 16, 3, 3, 17), 2, 2);
    fused_equals_separate<float>(make(2, 14, 14, 130, 3, 3, 70), 2, 2);
    fused_equals_separate<float>(make(2, 13, 14, 27, 3, 3, 45), 2, 2);
    fused_equals_separate<double>(make(1, 12, 12, 24, 3, 3, 41, 1, 1, 1, 1, 1, 1), 2, 2);
    fused_equals_separate<float>(make(1, 14, 14, 20, 5, 5, 83), 2, 2);

    const int threads = get_num_threads();
    fused_threads_agree<float>(make(16, 28, 28, 1, 3, 3, 37));
    fused_threads_agree<float>(make(9, 20, 20, 32, 3, 3, 70, 1, 1, 1, 1, 1, 1));
    fused_threads_agree<float>(make(1, 24, 24, 16, 5, 5, 83));
    fused_threads_agree<double>(make(9, 16, 16, 8, 3, 3, 33));
    set_num_threads(threads);
}

}  // namespace vivace::tests
