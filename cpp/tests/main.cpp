// The C++ tests: kernels against the naive reference and the C library, made to run under sanitizers. The Python tests
// hold the same kernels, at every ISA level, against NumPy.
#include "check.h"

int main() {
    using namespace vivace::tests;
    test_simd();
    test_tile();
    test_parallel();
    test_conv2d();
    test_conv2d_pool();
    test_conv3d();
    test_gemm();
    test_einsum();
    test_pool2d();
    test_pool3d();
    test_vmath();
    test_elementwise();
    test_activations();
    test_images();
    test_noise();
    test_resample();
    test_loss();
    test_merge();
    test_optimizer();
    test_rnn();
    test_normalization();
    test_depthwise2d();
    test_attention();
    std::printf("%d passed, %d failed\n", counts.passed, counts.failed);
    return counts.failed ? 1 : 0;
}
