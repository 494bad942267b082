// Attention: in blocks, as it runs, beside the textbook's way ("matrix"): a product that makes all scores of a head, a softmax
// over them, and a product with the values.
#include <algorithm>
#include <cmath>
#include <limits>

#include "bench.h"
#include "vivace/attention.h"
#include "vivace/elementwise.h"
#include "vivace/gemm.h"

namespace vivace::bench {
namespace {

struct Problem {
    AttentionShape s;
    Floats q, k, v, dy;

    explicit Problem(const AttentionShape& shape)
        : s(shape), q(random_floats(size(), 1)), k(random_floats(size(), 2)), v(random_floats(size(), 3)),
          dy(random_floats(size(), 4)) {}
    index size() const { return s.batch * s.queries * s.heads * s.key_dim; }
    index queries() const { return s.batch * s.heads * s.queries; }
};

void forward_in_blocks(const Problem& p, float* y, float* maximum, float* share) {
    attention_forward<float>(p.s, p.q.data(), p.k.data(), p.v.data(), {}, {}, y, maximum, share);
}

// Probabilities of one head, (steps, steps). All steps are as many.
void head_probabilities(const Problem& p, index from, Floats& scores) {
    const index n = p.s.queries, ld = p.s.heads * p.s.key_dim;
    gemm_strided<float>(n, n, p.s.key_dim, p.q.data() + from, ld, false, p.k.data() + from, ld, true, nullptr, scores.data(), n,
                        false);
    for (index i = 0; i < n; ++i)
        for (index j = 0; j < n; ++j) {
            float& score = scores[static_cast<std::size_t>(i * n + j)];
            score = p.s.causal && j > i ? -std::numeric_limits<float>::infinity() : score * static_cast<float>(p.s.scale);
        }
    softmax_forward<float>(n, n, scores.data(), scores.data());
}

// Runs f(where the head begins, its probabilities) for every head of every sample.
template <class F>
void for_each_head(const Problem& p, F&& f) {
    Floats scores(static_cast<std::size_t>(p.s.queries * p.s.keys));
    for (index b = 0; b < p.s.batch; ++b)
        for (index h = 0; h < p.s.heads; ++h) {
            const index from = (b * p.s.queries * p.s.heads + h) * p.s.key_dim;
            head_probabilities(p, from, scores);
            f(from, scores);
        }
}

void forward_by_matrix(const Problem& p, float* y) {
    const index n = p.s.queries, d = p.s.key_dim, ld = p.s.heads * d;
    for_each_head(p, [&](index from, const Floats& scores) {
        gemm_strided<float>(n, d, n, scores.data(), n, false, p.v.data() + from, ld, false, nullptr, y + from, ld, false);
    });
}

// dq, dk and dv, one after the other.
void backward_by_matrix(const Problem& p, float* out) {
    const index n = p.s.queries, d = p.s.key_dim, ld = p.s.heads * d;
    Floats ds(static_cast<std::size_t>(n * n));
    for_each_head(p, [&](index from, const Floats& scores) {
        float *dq = out + from, *dk = dq + p.size(), *dv = dk + p.size();
        const float* dy = p.dy.data() + from;
        gemm_strided<float>(n, d, n, scores.data(), n, true, dy, ld, false, nullptr, dv, ld, false);
        gemm_strided<float>(n, n, d, dy, ld, false, p.v.data() + from, ld, true, nullptr, ds.data(), n, false);
        softmax_backward<float>(n, n, scores.data(), ds.data(), ds.data());
        for (float& x : ds) x *= static_cast<float>(p.s.scale);
        gemm_strided<float>(n, d, n, ds.data(), n, false, p.k.data() + from, ld, false, nullptr, dq, ld, false);
        gemm_strided<float>(n, d, n, ds.data(), n, true, p.q.data() + from, ld, false, nullptr, dk, ld, false);
    });
}

void add_attention(index batch, index heads, index steps, index size, bool causal) {
    const AttentionShape s{batch, heads, heads, steps, steps, size, size, 1 / std::sqrt(static_cast<double>(size)), causal};
    const Problem p(s);
    const index elements = p.size();
    const double share_of_pairs = causal ? 0.5 : 1;
    const std::string prefix = "attention/" + std::to_string(batch) + "x" + std::to_string(heads) + "x" + std::to_string(steps) +
                               "x" + std::to_string(size) + (causal ? "_causal" : "") + "/";
    // Backward, what is computed again does not count.
    const Work forward(share_of_pairs * s.flops(), 4 * elements), backward(2 * share_of_pairs * s.flops(), 8 * elements);
    const auto by_matrix = [=](float* y) { forward_by_matrix(p, y); };
    const auto gradients_by_matrix = [=](float* out) { backward_by_matrix(p, out); };
    Floats y(static_cast<std::size_t>(elements)), maximum(static_cast<std::size_t>(p.queries())), share(maximum);
    forward_in_blocks(p, y.data(), maximum.data(), share.data());
    add(prefix + "forward/matrix", forward, elements, by_matrix, by_matrix);
    add(prefix + "forward/vivace", forward, elements,
        [=, m = maximum, sums = share](float* out) mutable { forward_in_blocks(p, out, m.data(), sums.data()); }, by_matrix);
    add(prefix + "backward/matrix", backward, 3 * elements, gradients_by_matrix, gradients_by_matrix);
    add(prefix + "backward/vivace", backward, 3 * elements,
        [=](float* out) {
            attention_backward<float>(p.s, p.q.data(), p.k.data(), p.v.data(), {}, {}, y.data(), maximum.data(), share.data(),
                                      p.dy.data(), out, out + elements, out + 2 * elements);
        },
        gradients_by_matrix);
}

}  // namespace

void add_attention_layers() {
    add_attention(32, 4, 128, 32, false);  // the small encoder's
    add_attention(32, 4, 128, 32, true);
    add_attention(16, 8, 64, 64, false);
    add_attention(4, 12, 512, 64, false);  // BERT's size
    add_attention(1, 8, 1024, 128, true);
}

}  // namespace vivace::bench
