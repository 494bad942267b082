// The kernels side by side: naive reference, im2col + GEMM, ours, and oneDNN and OpenBLAS where installed. GFLOP/s are
// useful operations (padding not counted; a direct sum's, whatever the method), "peak" is their share of the FMA rate and
// "roofline" that of what FMAs and bandwidth allow, both measured by this very run on as many cores. Methods that take
// fewer operations pass 100. A result that is not the reference's is reported as an error, not as a time.
//
//   vivace_bench --benchmark_filter='conv2 .*forward'      ('--threads=1' first, for one core)
#include <algorithm>
#include <cstring>

#include "bench.h"
#include "vivace/conv2d_pool.h"
#include "vivace/gemm.h"
#include "vivace/parallel.h"
#include "vivace/reference.h"

namespace vivace::bench {
namespace {

struct Conv {
    const char* name;
    index n, h, w, c, kh, kw, o, stride, pad_h, pad_w, groups;

    Conv2DShape shape() const {
        return conv2d_shape({n, h, w, c}, {kh, kw, c / groups, o}, {stride, stride}, {pad_h, pad_h, pad_w, pad_w}, {1, 1},
                            groups);
    }
};

constexpr Conv convolutions[] = {
    {"conv1", 32, 28, 28, 1, 3, 3, 32, 1, 0, 0, 1},  // the reference CNN at batch 32, then at batch 1
    {"conv2", 32, 13, 13, 32, 3, 3, 64, 1, 0, 0, 1},
    {"conv2_batch1", 1, 13, 13, 32, 3, 3, 64, 1, 0, 0, 1},
    {"resnet_56x64_k3", 8, 56, 56, 64, 3, 3, 64, 1, 1, 1, 1},
    {"resnet_28x128_k3", 8, 28, 28, 128, 3, 3, 128, 1, 1, 1, 1},
    {"resnet_14x256_k3", 8, 14, 14, 256, 3, 3, 256, 1, 1, 1, 1},
    {"resnet_7x512_k3", 8, 7, 7, 512, 3, 3, 512, 1, 1, 1, 1},
    {"resnet_56x64_256_k1", 8, 56, 56, 64, 1, 1, 256, 1, 0, 0, 1},
    {"resnet_7x2048_512_k1", 8, 7, 7, 2048, 1, 1, 512, 1, 0, 0, 1},
    {"resnet_stem_k7s2", 8, 224, 224, 3, 7, 7, 64, 2, 3, 3, 1},
    {"depthwise_112x32_k3", 8, 112, 112, 32, 3, 3, 32, 1, 1, 1, 32},
    {"sequence_1000x64_k3", 32, 1, 1000, 64, 1, 3, 64, 1, 0, 1, 1},
};

void add_convolution(const Conv& c) {
    const Conv2DShape s = c.shape();
    const Floats x = random_floats(s.input_size(), 1), w = random_floats(s.kernel_size(), 2),
                 b = random_floats(s.o, 3), dy = random_floats(s.output_size(), 4);
    const Work work(static_cast<double>(s.flops()), s.input_size() + s.kernel_size() + s.output_size());
    const std::string prefix = std::string("conv/") + c.name + "/";
    auto forward = [=](auto f) { return [=](float* y) { f(s, x.data(), w.data(), b.data(), Activation::relu, y); }; };
    auto input = [=](auto f) { return [=](float* dx) { f(s, dy.data(), w.data(), dx); }; };
    auto weight = [=](auto f) {
        return [=](float* dw) {
            std::fill_n(dw, s.kernel_size(), 0.0f);
            f(s, x.data(), dy.data(), dw, static_cast<float*>(nullptr));
        };
    };
    const bool quick = work.flops < 2e8;  // the naive loops take seconds on more
    const auto trusted_forward = forward(im2col::conv2d_forward<float>);
    const auto trusted_input = input(im2col::conv2d_input_gradient<float>);
    const auto trusted_weight = weight(im2col::conv2d_weight_gradient<float>);
    if (quick) {
        add(prefix + "forward/naive", work, s.output_size(), forward(reference::conv2d_forward<float>), trusted_forward);
        add(prefix + "input_gradient/naive", work, s.input_size(), input(reference::conv2d_input_gradient<float>),
            trusted_input);
        add(prefix + "weight_gradient/naive", work, s.kernel_size(), weight(reference::conv2d_weight_gradient<float>),
            trusted_weight);
    }
    add(prefix + "forward/im2col", work, s.output_size(), trusted_forward, forward(conv2d_forward<float>));
    add(prefix + "forward/vivace", work, s.output_size(), forward(conv2d_forward<float>), trusted_forward);
    add(prefix + "input_gradient/im2col", work, s.input_size(), trusted_input, input(conv2d_input_gradient<float>));
    add(prefix + "input_gradient/vivace", work, s.input_size(), input(conv2d_input_gradient<float>), trusted_input);
    add(prefix + "weight_gradient/im2col", work, s.kernel_size(), trusted_weight, weight(conv2d_weight_gradient<float>));
    add(prefix + "weight_gradient/vivace", work, s.kernel_size(), weight(conv2d_weight_gradient<float>), trusted_weight);
    add_onednn(prefix, s, x, w, b, dy, {trusted_forward, trusted_input, trusted_weight});
}

// The reference CNN's convolutions with the pooling behind them; FLOPs are the dense count, so gradients may exceed peak.
void add_fused(const Conv& c) {
    const Conv2DShape s = c.shape();
    const Pool2DShape pool = pool2d_shape({s.n, s.p, s.q, s.o}, {2, 2}, {2, 2}, {0, 0, 0, 0});
    const Floats x = random_floats(s.input_size(), 1), w = random_floats(s.kernel_size(), 2), b = random_floats(s.o, 3),
                 dy = random_floats(pool.output_size(), 4);
    Floats y(static_cast<std::size_t>(pool.output_size()));
    std::vector<std::uint8_t> positions(y.size());
    conv2d_pool_forward(s, pool, x.data(), w.data(), b.data(), Activation::relu, y.data(), positions.data());
    Floats alive(y.size()), full(static_cast<std::size_t>(s.output_size()));
    for (std::size_t i = 0; i < y.size(); ++i) alive[i] = y[i] > 0 ? dy[i] : 0;
    max_pool2d_backward(pool, alive.data(), positions.data(), full.data());
    const Work work(static_cast<double>(s.flops()), s.input_size() + s.kernel_size() + 2 * pool.output_size());
    const std::string prefix = std::string("conv+relu+pool/") + c.name + "/";
    add(prefix + "forward/vivace", work, pool.output_size(),
        [=, p = positions](float* out) mutable {
            conv2d_pool_forward(s, pool, x.data(), w.data(), b.data(), Activation::relu, out, p.data());
        },
        [=](float* out) {
            Floats all(static_cast<std::size_t>(s.output_size()));
            im2col::conv2d_forward(s, x.data(), w.data(), b.data(), Activation::relu, all.data());
            max_pool2d_forward(pool, all.data(), out, static_cast<std::uint8_t*>(nullptr));
        });
    add(prefix + "input_gradient/vivace", work, s.input_size(),
        [=](float* dx) {
            conv2d_pool_input_gradient(s, pool, dy.data(), y.data(), positions.data(), Activation::relu, w.data(), dx);
        },
        [=](float* dx) { im2col::conv2d_input_gradient(s, full.data(), w.data(), dx); });
    add(prefix + "weight_gradient/vivace", work, s.kernel_size(),
        [=](float* dw) {
            std::fill_n(dw, s.kernel_size(), 0.0f);
            conv2d_pool_weight_gradient(s, pool, x.data(), dy.data(), y.data(), positions.data(), Activation::relu, dw,
                                        static_cast<float*>(nullptr));
        },
        [=](float* dw) {
            std::fill_n(dw, s.kernel_size(), 0.0f);
            im2col::conv2d_weight_gradient(s, x.data(), full.data(), dw, static_cast<float*>(nullptr));
        });
}

void add_pool(const char* name, index n, index size, index c) {
    const Pool2DShape s = pool2d_shape({n, size, size, c}, {2, 2}, {2, 2}, {0, 0, 0, 0});
    const Floats x = random_floats(s.input_size(), 1), dy = random_floats(s.output_size(), 2);
    std::vector<std::uint8_t> positions(dy.size());
    Floats y(dy.size());
    max_pool2d_forward(s, x.data(), y.data(), positions.data());
    // One comparison an element counts as one.
    const Work compared(static_cast<double>(s.output_size() * 4), s.input_size() + s.output_size() * 5 / 4);
    auto forward = [=](auto f) { return [=, p = positions](float* out) mutable { f(s, x.data(), out, p.data()); }; };
    auto backward = [=](auto f) { return [=](float* dx) { f(s, dy.data(), positions.data(), dx); }; };
    const std::string prefix = std::string("max_pool/") + name + "/";
    const auto naive_forward = forward(reference::max_pool2d_forward<float, std::uint8_t>);
    const auto naive_backward = backward(reference::max_pool2d_backward<float, std::uint8_t>);
    add(prefix + "forward/naive", compared, s.output_size(), naive_forward, naive_forward);
    add(prefix + "forward/vivace", compared, s.output_size(), forward(max_pool2d_forward<float, std::uint8_t>), naive_forward);
    add(prefix + "backward/naive", compared, s.input_size(), naive_backward, naive_backward);
    add(prefix + "backward/vivace", compared, s.input_size(), backward(max_pool2d_backward<float, std::uint8_t>),
        naive_backward);
}

void add_gemm(index m, index n, index k, bool transpose_a, bool transpose_b) {
    const Floats a = random_floats(m * k, 1), b = random_floats(k * n, 2);
    const Work work(2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k), m * k + k * n + m * n);
    const std::string prefix = "gemm/" + std::to_string(m) + "x" + std::to_string(k) + "x" + std::to_string(n) +
                               (transpose_a ? "_at" : "") + (transpose_b ? "_bt" : "") + "/";
    auto product = [=](auto f) { return [=](float* c) { f(m, n, k, a.data(), transpose_a, b.data(), transpose_b, c, false); }; };
    // Where the naive loops would take seconds, the result is compared with that of the product's other path: row by row.
    const std::function<void(float*)> row_by_row = [=](float* c) {
        for (index i = 0; i < m; ++i)
            gemm(1, n, k, a.data() + i * k, false, b.data(), transpose_b, c + i * n, false);
    };
    const bool quick = work.flops < 5e7;
    const auto trusted = quick || transpose_a ? std::function<void(float*)>(product(reference::gemm<float>)) : row_by_row;
    if (quick) add(prefix + "naive", work, m * n, product(reference::gemm<float>), trusted);
    add(prefix + "vivace", work, m * n, product(gemm<float>), trusted);
    add_openblas(prefix, m, n, k, a, transpose_a, b, transpose_b, trusted);
}

void add_function(const char* name, Function f, const Parameters& p) {
    const index size = 1000000;
    const Floats x = random_floats(size, 1);
    const Work work(static_cast<double>(size), 2 * size);  // one operation an element
    auto forward = [=](auto run) { return [=](float* y) { run(f, p, size, x.data(), y); }; };
    const std::string prefix = std::string("function/") + name + "/";
    const auto naive = forward(reference::function_forward<float>);
    add(prefix + "naive", work, size, naive, naive);
    add(prefix + "vivace", work, size, forward(function_forward<float>), naive);
}

void add_rotation(index n, index size) {
    const Affine s{n, size, size, 3, Fill::reflect, true, 0};
    const Floats x = random_floats(n * size * size * 3, 1);
    const double far = static_cast<double>(size) / 4;
    std::vector<double> maps;
    for (index i = 0; i < n; ++i) maps.insert(maps.end(), {0.9, 0.4, -far, -0.4, 0.9, far});
    const index elements = static_cast<index>(x.size());
    const Work work(8 * static_cast<double>(elements), 2 * elements);  // four products and sums an element
    auto forward = [=](auto run) { return [=](float* y) { run(s, maps.data(), x.data(), y); }; };
    const std::string prefix = "rotation/" + std::to_string(size) + "x" + std::to_string(size) + "x3/";
    const auto naive = forward(reference::affine_forward<float>);
    add(prefix + "naive", work, elements, naive, naive);
    add(prefix + "vivace", work, elements, forward(affine_forward<float>), naive);
}

void add_all() {
    for (const Conv& c : convolutions) add_convolution(c);
    add_fused(convolutions[0]);
    add_fused(convolutions[1]);
    add_pool("26x26x32", 32, 26, 32);
    add_pool("11x11x64", 32, 11, 64);
    add_gemm(32, 128, 1600, false, false);  // the reference CNN's first dense layer and its gradients
    add_gemm(32, 1600, 128, false, true);
    add_gemm(1600, 128, 32, true, false);
    for (index size : {512, 1024, 2048}) add_gemm(size, size, size, false, false);
    add_function("elu", Function::elu, {1, 1, 1});
    add_function("gelu", Function::gelu, {});
    add_function("silu", Function::silu, {});
    add_function("mish", Function::mish, {});
    add_rotation(32, 32);
    add_rotation(8, 224);
    add_recurrent_layers();
    add_attention_layers();
}

}  // namespace
}  // namespace vivace::bench

int main(int argc, char** argv) {
    using namespace vivace;
    if (argc > 1 && std::strncmp(argv[1], "--threads=", 10) == 0) {
        set_num_threads(std::atoi(argv[1] + 10));
        argv[1] = argv[0];
        ++argv;
        --argc;
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    bench::machine = std::make_unique<bench::Machine>(get_num_threads());
    const auto rounded = [](double x) { return std::to_string(static_cast<long>(x / 1e9 + 0.5)); };
    benchmark::AddCustomContext("threads", std::to_string(get_num_threads()));
    benchmark::AddCustomContext("FMA peak", rounded(bench::machine->flops) + " GFLOP/s");
    for (const auto& level : bench::machine->levels)
        benchmark::AddCustomContext(std::string(level.name) + " reads", rounded(level.bandwidth) + " GB/s");
    bench::add_all();
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
