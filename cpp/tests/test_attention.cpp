#include <cmath>

#include "check.h"
#include "vivace/attention.h"
#include "vivace/gemm.h"
#include "vivace/parallel.h"

namespace vivace::tests {
namespace {

using Reals = std::vector<double>;

struct Masks {
    std::vector<std::uint8_t> query, key, attention;
    bool zero_blind = false;
    AttentionMasks view() const {
        const auto pointer = [](const auto& v) { return v.empty() ? nullptr : v.data(); };
        return {pointer(query), pointer(key), pointer(attention), zero_blind};
    }
};

std::vector<std::uint8_t> random_mask(index size) {
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(size));
    for (auto& m : mask) m = rng() % 3 != 0;
    return mask;
}

// The formula in double, a query at a time.
template <class T>
struct Reference {
    const AttentionShape& s;
    Reals y, dq, dk, dv;

    std::size_t at(index b, index t, index steps, index h, index heads, index size, index d) const {
        return static_cast<std::size_t>(((b * steps + t) * heads + h) * size + d);
    }
    Reference(const AttentionShape& shape, const std::vector<T>& q, const std::vector<T>& k, const std::vector<T>& v,
              const AttentionMasks& m, const std::vector<T>& dy)
        : s(shape), y(dy.size()), dq(q.size()), dk(k.size()), dv(v.size()) {
        for (index b = 0; b < s.batch; ++b)
            for (index h = 0; h < s.heads; ++h)
                for (index i = 0; i < s.queries; ++i) one(b, h, i, q, k, v, m, dy);
    }
    void one(index b, index h, index i, const std::vector<T>& q, const std::vector<T>& k, const std::vector<T>& v,
             const AttentionMasks& m, const std::vector<T>& dy) {
        const index g = h / (s.heads / s.key_heads);
        Reals p(static_cast<std::size_t>(s.keys)), dp(p);
        std::vector<bool> open(p.size());
        double top = -1e300, sum = 0, mean = 0;
        for (index j = 0; j < s.keys; ++j) {
            const auto n = static_cast<std::size_t>(j);
            open[n] = (!s.causal || j <= i) && (s.window == 0 || std::abs(i - j) < s.window) && (!m.query || m.query[b * s.queries + i]) && (!m.key || m.key[b * s.keys + j]) &&
                      (!m.attention || m.attention[(b * s.queries + i) * s.keys + j]);
            for (index d = 0; d < s.key_dim; ++d)
                p[n] += s.scale * static_cast<double>(q[at(b, i, s.queries, h, s.heads, s.key_dim, d)]) *
                        static_cast<double>(k[at(b, j, s.keys, g, s.key_heads, s.key_dim, d)]);
            if (!open[n]) p[n] = -1e9;
            top = std::max(top, p[n]);
        }
        if (m.zero_blind && std::find(open.begin(), open.end(), true) == open.end()) return;
        for (double& x : p) sum += x = std::exp(x - top);
        for (index j = 0; j < s.keys; ++j) {
            const auto n = static_cast<std::size_t>(j);
            p[n] /= sum;
            for (index d = 0; d < s.value_dim; ++d) {
                const auto value = at(b, j, s.keys, g, s.key_heads, s.value_dim, d), out = at(b, i, s.queries, h, s.heads, s.value_dim, d);
                y[out] += p[n] * static_cast<double>(v[value]);
                dv[value] += p[n] * static_cast<double>(dy[out]);
                dp[n] += static_cast<double>(v[value]) * static_cast<double>(dy[out]);
            }
            mean += p[n] * dp[n];
        }
        for (index j = 0; j < s.keys; ++j) {
            const auto n = static_cast<std::size_t>(j);
            const double ds = open[n] ? p[n] * (dp[n] - mean) * s.scale : 0;
            for (index d = 0; d < s.key_dim; ++d) {
                const auto query = at(b, i, s.queries, h, s.heads, s.key_dim, d), key = at(b, j, s.keys, g, s.key_heads, s.key_dim, d);
                dq[query] += ds * static_cast<double>(k[key]);
                dk[key] += ds * static_cast<double>(q[query]);
            }
        }
    }
};

template <class T>
void equals_reference(const AttentionShape& s, const Masks& masks) {
    const std::string context = show(s.batch, s.heads, s.key_heads, s.queries, s.keys, s.key_dim, s.value_dim, s.causal,
                                     masks.query.size(), masks.key.size(), masks.attention.size(), s.window, masks.zero_blind,
                                     sizeof(T));
    const double tolerance = sizeof(T) == 4 ? 2e-4 : 1e-11;
    const auto q = reals<T>(s.batch * s.queries * s.heads * s.key_dim), k = reals<T>(s.batch * s.keys * s.key_heads * s.key_dim),
               v = reals<T>(s.batch * s.keys * s.key_heads * s.value_dim), dy = reals<T>(s.batch * s.queries * s.heads * s.value_dim);
    const Reference<T> reference(s, q, k, v, masks.view(), dy);
    auto y = unset<T>(static_cast<index>(dy.size())), top = unset<T>(s.batch * s.heads * s.queries), share = top;
    auto dq = unset<T>(static_cast<index>(q.size())), dk = unset<T>(static_cast<index>(k.size())), dv = unset<T>(static_cast<index>(v.size()));
    const AttentionDropout none{0, 0, 0};
    attention_forward(s, q.data(), k.data(), v.data(), masks.view(), none, y.data(), top.data(), share.data());
    CHECK_CLOSE(y, reference.y, tolerance, tolerance, context);
    attention_backward(s, q.data(), k.data(), v.data(), masks.view(), none, y.data(), top.data(), share.data(), dy.data(),
                       dq.data(), dk.data(), dv.data());
    CHECK_CLOSE(dq, reference.dq, tolerance, tolerance, context);
    CHECK_CLOSE(dk, reference.dk, tolerance, tolerance, context);
    CHECK_CLOSE(dv, reference.dv, tolerance, tolerance, context);
    const AttentionDropout some{0.4, 3, 1};
    attention_forward(s, q.data(), k.data(), v.data(), masks.view(), some, y.data(), top.data(), share.data());
    attention_backward(s, q.data(), k.data(), v.data(), masks.view(), some, y.data(), top.data(), share.data(), dy.data(),
                       dq.data(), dk.data(), dv.data());
    for (const auto& part : {y, dq, dk, dv}) CHECK_FOR(std::all_of(part.begin(), part.end(), [](T x) { return std::isfinite(x); }), context);
}

}  // namespace

namespace {

// Of one head: what is stored are the probabilities that the blocks of scores only pass by.
template <class T>
void stored_equals_reference(const AttentionShape& s, const Masks& masks) {
    const std::string context = show(s.batch, s.queries, s.keys, s.key_dim, s.value_dim, s.causal, sizeof(T));
    const double tolerance = sizeof(T) == 4 ? 2e-4 : 1e-11;
    const auto q = reals<T>(s.batch * s.queries * s.key_dim), k = reals<T>(s.batch * s.keys * s.key_dim),
               v = reals<T>(s.batch * s.keys * s.value_dim), dy = reals<T>(s.batch * s.queries * s.value_dim);
    const Reference<T> reference(s, q, k, v, masks.view(), dy);
    auto y = unset<T>(static_cast<index>(dy.size())), p = unset<T>(s.batch * s.queries * s.keys), scores = p;
    auto dq = unset<T>(static_cast<index>(q.size())), dk = unset<T>(static_cast<index>(k.size())), dv = unset<T>(static_cast<index>(v.size()));
    const AttentionDropout none{0, 0, 0};
    const Scoring<T> by_product{false, static_cast<T>(s.scale), nullptr, 0};
    stored_attention_forward<T>(s, by_product, q.data(), k.data(), v.data(), masks.view(), none, p.data(), nullptr, y.data());
    CHECK_CLOSE(y, reference.y, tolerance, tolerance, context);
    stored_attention_backward<T>(s, by_product, q.data(), k.data(), v.data(), none, p.data(), dy.data(), nullptr,
                                 dq.data(), dk.data(), dv.data(), nullptr, nullptr);
    CHECK_CLOSE(dq, reference.dq, tolerance, tolerance, context);
    CHECK_CLOSE(dk, reference.dk, tolerance, tolerance, context);
    CHECK_CLOSE(dv, reference.dv, tolerance, tolerance, context);
    auto top = unset<T>(s.batch * s.queries), share = top;
    attention_forward(s, q.data(), k.data(), v.data(), masks.view(), none, y.data(), top.data(), share.data());
    attention_scores<T>(s, q.data(), k.data(), masks.view(), top.data(), share.data(), scores.data());
    CHECK_CLOSE(scores, p, tolerance, tolerance, context);
    const Scoring<T> by_sums{true, T{1}, q.data(), s.key_dim};
    stored_attention_forward<T>(s, by_sums, q.data(), k.data(), v.data(), masks.view(), {0.3, 1, 2}, p.data(), scores.data(), y.data());
    std::vector<T> dweight(static_cast<std::size_t>(s.key_dim)), dscale(1);
    stored_attention_backward<T>(s, by_sums, q.data(), k.data(), v.data(), {0.3, 1, 2}, p.data(), dy.data(), p.data(),
                                 dq.data(), dk.data(), dv.data(), dweight.data(), dscale.data());
    for (const auto& part : {p, y, dq, dk, dv, dweight, dscale})
        CHECK_FOR(std::all_of(part.begin(), part.end(), [](T x) { return std::isfinite(x); }), context);
}

// The products and the attention one after the other.
template <class T>
void multi_head_equals_its_parts(const AttentionShape& a, bool gate) {
    const MultiHeadShape s{a, 5, 6, 7, 9, false, gate};
    const auto query = reals<T>(s.query_rows() * 5), key = reals<T>(s.key_rows() * 6), value = reals<T>(s.key_rows() * 7);
    const auto wq = reals<T>(5 * s.query_width()), wk = reals<T>(6 * s.key_width()), wv = reals<T>(7 * s.value_width()),
               wg = reals<T>(5 * s.attended_width()), wo = reals<T>(s.attended_width() * 9);
    const MultiHeadWeights<const T> w{{wq.data(), nullptr}, {wk.data(), nullptr}, {gate ? wg.data() : nullptr, nullptr},
                                      {wv.data(), nullptr}, {wo.data(), nullptr}};
    auto kept = unset<T>(MultiHeadKept<T>::size(s)), y = unset<T>(s.query_rows() * 9), forgotten = y, expected = y;
    multi_head_forward<T>(s, query.data(), key.data(), value.data(), w, {}, {0, 0, 0}, kept.data(), y.data(), nullptr);
    multi_head_forward<T>(s, query.data(), key.data(), value.data(), w, {}, {0, 0, 0}, nullptr, forgotten.data(), nullptr);
    auto q = unset<T>(s.query_rows() * s.query_width()), k = unset<T>(s.key_rows() * s.key_width()),
         v = unset<T>(s.key_rows() * s.value_width()), attended = unset<T>(s.query_rows() * s.attended_width()), g = attended;
    dense_forward<T>(s.query_rows(), 5, s.query_width(), query.data(), wq.data(), nullptr, Activation::linear, q.data());
    dense_forward<T>(s.key_rows(), 6, s.key_width(), key.data(), wk.data(), nullptr, Activation::linear, k.data());
    dense_forward<T>(s.key_rows(), 7, s.value_width(), value.data(), wv.data(), nullptr, Activation::linear, v.data());
    dense_forward<T>(s.query_rows(), 5, s.attended_width(), query.data(), wg.data(), nullptr, Activation::sigmoid, g.data());
    attention_forward<T>(a, q.data(), k.data(), v.data(), {}, {0, 0, 0}, attended.data(), nullptr, nullptr);
    for (std::size_t i = 0; gate && i < attended.size(); ++i) attended[i] *= g[i];
    dense_forward<T>(s.query_rows(), s.attended_width(), 9, attended.data(), wo.data(), nullptr, Activation::linear, expected.data());
    CHECK_EQUAL(y, expected, show(gate));
    CHECK_EQUAL(forgotten, expected, show(gate));
}

}  // namespace

void test_attention() {
    for (const bool gate : {false, true}) {
        multi_head_equals_its_parts<float>({2, 4, 2, 19, 23, 3, 5, 0.5, true}, gate);
        multi_head_equals_its_parts<double>({1, 2, 2, 3, 70, 8, 4, 0.5, false}, gate);
    }
    const int threads = get_num_threads();
    for (int i = 0; i < 60; ++i) {
        const index key_heads = random_index(1, 2);
        AttentionShape s{random_index(1, 2), key_heads * random_index(1, 2), key_heads, random_index(1, i % 7 ? 150 : 300),
                         random_index(1, i % 7 ? 150 : 300), random_index(1, 37), random_index(1, 37), 0.4, i % 2 == 0};
        Masks masks;
        if (i % 3 == 1) masks.query = random_mask(s.batch * s.queries);
        if (i % 4 >= 2) masks.key = random_mask(s.batch * s.keys);
        if (i % 5 == 1) masks.attention = random_mask(s.batch * s.queries * s.keys);
        if (i % 4 < 2) s.window = random_index(1, i % 3 ? 40 : 200);
        masks.zero_blind = i % 8 < 3;
        set_num_threads(1 + i % 3);
        equals_reference<float>(s, masks);
        equals_reference<double>(s, masks);
        s.heads = s.key_heads = 1;
        if (!masks.attention.empty() || !masks.key.empty() || s.queries > s.keys) s.window = 0;
        masks.query.clear();  // every query may attend to the first key: one that may attend to nothing differs
        for (index b = 0; b < s.batch && !masks.key.empty(); ++b) masks.key[static_cast<std::size_t>(b * s.keys)] = 1;
        for (index row = 0; row < s.batch * s.queries && !masks.attention.empty(); ++row)
            masks.attention[static_cast<std::size_t>(row * s.keys)] = 1;
        stored_equals_reference<float>(s, masks);
        stored_equals_reference<double>(s, masks);
    }
    set_num_threads(threads);
}

}  // namespace vivace::tests
