// The native module of one ISA level: a table of contents.
#include "../src/simd.h"
#include "arrays.h"
#include "vivace/parallel.h"

#define VIVACE_STRING_(x) #x
#define VIVACE_STRING(x) VIVACE_STRING_(x)

#if defined(__clang__)
#define VIVACE_COMPILER "Clang " __clang_version__
#else
#define VIVACE_COMPILER "GCC " __VERSION__
#endif

PYBIND11_MODULE(VIVACE_MODULE, m) {
    using namespace vivace::bindings;
    m.doc() = "vivace's kernels, compiled for " VIVACE_LEVEL;
    m.attr("isa") = VIVACE_LEVEL;
    m.attr("compiler") = VIVACE_COMPILER;
    m.attr("vector_bytes") = vivace::vector_bytes;
    m.def("get_num_threads", &vivace::get_num_threads);
    m.def("set_num_threads", &vivace::set_num_threads, py::arg("threads"));
    m.def_submodule("reference", "The naive reference of every op.");
    m.def_submodule("im2col", "The textbook method: column matrix and GEMM.");
    bind_pool2d(m);
    bind_conv2d(m);  // its fused ops take the pool's shape
    bind_conv3d(m);
    bind_gemm(m);
    bind_einsum(m);
    bind_rnn(m);
    bind_depthwise2d(m);
    bind_attention(m);
    bind_normalization(m);
    bind_elementwise(m);
    bind_activations(m);
    bind_images(m);
    bind_resample(m);
    bind_loss(m);
    bind_merge(m);
    bind_optimizer(m);
}
