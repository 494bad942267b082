#include <atomic>
#include <thread>

#include "check.h"
#include "vivace/attention.h"
#include "vivace/conv2d_pool.h"
#include "vivace/depthwise2d.h"
#include "vivace/gemm.h"
#include "vivace/parallel.h"

namespace vivace::tests {
namespace {

// While f runs, another thread of the program sets the number of threads to 1 and to many by turns.
template <class F>
void while_the_number_changes(F&& f) {
    const int before = get_num_threads();
    std::atomic<bool> done{false};
    std::thread other([&] {
        for (int i = 0; !done.load(); ++i) set_num_threads(i % 2 ? 8 : 1);
    });
    f();
    done.store(true);
    other.join();
    set_num_threads(before);
}

// `op` fills its result anew in every call, always with the same bits. A thread of its own has scratch memory of its own:
// just as much as it asks for, so that whoever reaches past it is found out.
template <class F>
void unmoved(const char* name, F&& op) {
    const std::vector<float> expected = op();
    while_the_number_changes([&] {
        bool good = true;
        for (int i = 0; i < 10; ++i) std::thread([&] { good = good && same_bits(op(), expected); }).join();
        CHECK_FOR(good, std::string(" ") + name);
    });
}

}  // namespace

void test_parallel() {
    const auto x = reals<float>(96 * 8200), y = reals<float>(96 * 8200);
    for (index k : {64, 8200})
        unmoved("gemm", [&] {
            std::vector<float> c(96 * 40);
            gemm(index{96}, index{40}, k, x.data(), true, y.data(), false, c.data(), true);
            return c;
        });
    unmoved("gemm of many rows", [&] {
        std::vector<float> c(400 * 520);
        gemm(index{400}, index{520}, index{64}, x.data(), false, y.data(), false, c.data(), true);
        return c;
    });
    const auto shape = [](index n, index size, index c, index o, index groups) {
        return conv2d_shape({n, size, size, c}, {3, 3, c / groups, o}, {1, 1}, {1, 1, 1, 1}, {1, 1}, groups);
    };
    const Conv2DShape conv = shape(2, 16, 32, 32, 1), each = shape(8, 24, 32, 32, 32);
    unmoved("winograd", [&] {
        auto out = unset<float>(conv.output_size());
        conv2d_forward<float>(conv, x.data(), y.data(), nullptr, Activation::linear, out.data());
        return out;
    });
    unmoved("depthwise", [&] {
        auto out = unset<float>(each.output_size());
        depthwise2d_forward<float>(each, x.data(), y.data(), nullptr, Activation::linear, out.data());
        return out;
    });
    unmoved("depthwise weight gradient", [&] {
        std::vector<float> out(static_cast<std::size_t>(each.kernel_size()));
        depthwise2d_weight_gradient<float>(each, x.data(), y.data(), out.data(), nullptr);
        return out;
    });
    const Conv2DShape pooled = shape(16, 12, 32, 64, 1);
    const Pool2DShape pool = pool2d_shape({16, 12, 12, 64}, {2, 2}, {2, 2}, {0, 0, 0, 0});
    std::vector<std::uint8_t> positions(static_cast<std::size_t>(pool.output_size()));
    for (auto& position : positions) position = static_cast<std::uint8_t>(rng() % 4);
    unmoved("pooled input gradient", [&] {
        auto out = unset<float>(pooled.input_size());
        conv2d_pool_input_gradient(pooled, pool, x.data(), x.data(), positions.data(), Activation::linear, y.data(),
                                   out.data());
        return out;
    });
    unmoved("pooled weight gradient", [&] {
        std::vector<float> out(static_cast<std::size_t>(pooled.kernel_size()));
        conv2d_pool_weight_gradient<float>(pooled, pool, x.data(), y.data(), y.data(), positions.data(),
                                           Activation::linear, out.data(), nullptr);
        return out;
    });
    const AttentionShape scores{4, 4, 4, 64, 64, 32, 32, 0.2, false};
    const std::size_t rows = 4 * 4 * 64, elements = rows * 32;
    std::vector<float> out(elements), maximum(rows), share(rows);
    const auto attend = [&] {
        attention_forward<float>(scores, x.data(), y.data(), x.data() + elements, {}, {}, out.data(), maximum.data(),
                                 share.data());
        return out;
    };
    unmoved("attention", attend);
    unmoved("attention's gradients", [&] {
        std::vector<float> d(3 * elements);
        attention_backward<float>(scores, x.data(), y.data(), x.data() + elements, {}, {}, out.data(), maximum.data(),
                                  share.data(), y.data() + elements, d.data(), d.data() + elements,
                                  d.data() + 2 * elements);
        return d;
    });
}

}  // namespace vivace::tests
