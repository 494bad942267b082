// Attention whose scores are stored: for those who ask for them, and for sums of features, which are no product.
//
// Rows of scores are (batch, heads, queries), each with all keys. Of the sums, tanh is computed again backward: it would
// take a number for each pair and feature. There, features share nothing once the scores' gradients are known.
#include <cmath>

#include "map.h"
#include "philox.h"
#include "product.h"
#include "rows.h"
#include "vivace/attention.h"

namespace vivace {
namespace {

constexpr index row_block = 32;  // rows of scores that a task takes

template <class T>
constexpr T log2_e = static_cast<T>(1.44269504088896340736);

// row (keys) = value where query i of a sample may not attend.
template <class T>
void hide(const AttentionShape& s, const AttentionMasks& masks, index sample, index i, T value, T* row) {
    const index query = sample * s.queries + i;
    if (masks.query && !masks.query[query]) {
        std::fill_n(row, s.keys, value);
        return;
    }
    const index causal = s.causal ? i + 1 : s.keys, far = s.window > 0 ? i + s.window : s.keys;
    for (index j = std::min({causal, far, s.keys}); j < s.keys; ++j) row[j] = value;
    if (s.window > 0) std::fill_n(row, std::clamp<index>(i - s.window + 1, 0, s.keys), value);
    const std::uint8_t* pair = masks.attention ? masks.attention + query * s.keys : nullptr;
    const std::uint8_t* key = masks.key ? masks.key + sample * s.keys : nullptr;
    for (index j = 0; (pair || key) && j < s.keys; ++j)
        if ((key && !key[j]) || (pair && !pair[j])) row[j] = value;
}

// row *= dropout's factors of elements [first, first + size), the same that `dropout` would multiply by.
template <class T>
void drop_row(const AttentionDropout& drop, index first, index size, T* row) {
    T factors[Philox::words];
    const index last = first + size;
    for (index block = first / 4; 4 * block < last; block += Philox::words / 4) {
        dropout_factors(drop.rate, drop.seed, drop.stream, static_cast<std::uint64_t>(block), factors);
        for (index j = std::max(first, 4 * block), end = std::min(last, 4 * block + Philox::words); j < end; ++j)
            row[j - first] *= factors[j - 4 * block];
    }
}

template <class T>
T dot(index size, const T* a, const T* b) {
    vec<T> sum{};
    for_each_vector<T>(size, [&](index i, auto n) { sum += load_n(a + i, n) * load_n(b + i, n); });
    return horizontal_sum<T>(sum);
}

// gradient = factor p (gradient - sum p gradient): through a softmax.
template <class T>
void softmax_gradient(index size, const T* p, T factor, T* gradient) {
    const T mean = dot(size, p, gradient);
    for_each_vector<T>(size, [&](index j, auto n) {
        store_n(gradient + j, load_n(p + j, n) * ((load_n(gradient + j, n) - mean) * factor), n);
    });
}

}  // namespace

template <class T>
void attention_scores(const AttentionShape& s, const T* q, const T* k, const AttentionMasks& masks, const T* maximum,
                      const T* share, T* p) {
    const index ldq = s.heads * s.key_dim, ldk = s.key_heads * s.key_dim, packed = packed_size<T>(s.key_dim, s.keys);
    const int threads = get_num_threads();
    Scratch<T> scratch(threads * packed);
    parallel_for(s.batch * s.heads, s.flops(), threads, [&](index task, int thread) {
        const index sample = task / s.heads, head = task % s.heads, key_head = head / (s.heads / s.key_heads);
        const T* const queries = q + sample * s.queries * ldq + head * s.key_dim;
        const T* const keys = k + sample * s.keys * ldk + key_head * s.key_dim;
        T* const scores = p + task * s.queries * s.keys;
        multiply(s.queries, s.key_dim, queries, ldq, false, pack(keys, ldk, true, s.key_dim, s.keys, scratch + thread * packed),
                 scores, s.keys, false);
        const T scale = static_cast<T>(s.scale) * log2_e<T>;
        for (index i = 0; i < s.queries; ++i) {
            T* const row = scores + i * s.keys;
            const T top = maximum[task * s.queries + i], part = share[task * s.queries + i];
            for_each_vector<T>(s.keys, [&](index j, auto n) {
                vec<T> e[1] = {load_n(row + j, n) * scale - top};
                e[0] = e[0] > T{0} ? vec<T>{} : e[0];  // hidden ones may be larger
                exp2_of_negative<T>(e);
                store_n(row + j, e[0] * part, n);
            });
            hide(s, masks, sample, i, T{0}, row);
            const bool blind = top <= static_cast<T>(-1e9) * log2_e<T>;
            if (blind) std::fill_n(row, s.keys, part);
        }
    });
}

template <class T>
void attention_scores_backward(const AttentionShape& s, const T* q, const T* k, const T* p, const T* dp, T* dq, T* dk) {
    const index ldq = s.heads * s.key_dim, ldk = s.key_heads * s.key_dim, group = s.heads / s.key_heads;
    const index pairs = s.queries * s.keys, packed = packed_size<T>(std::max(s.queries, s.keys), s.key_dim);
    const int threads = get_num_threads();
    Scratch<T> scratch(threads * (pairs + packed));
    parallel_for(s.batch * s.key_heads, 4 * s.flops(), threads, [&](index task, int thread) {
        const index sample = task / s.key_heads, key_head = task % s.key_heads;
        T *const ds = scratch + thread * (pairs + packed), *const panels = ds + pairs;
        const index key_offset = sample * s.keys * ldk + key_head * s.key_dim;
        for (index head = key_head * group; head < (key_head + 1) * group; ++head) {
            const index own = (sample * s.heads + head) * pairs, query_offset = sample * s.queries * ldq + head * s.key_dim;
            std::copy_n(dp + own, pairs, ds);
            for (index i = 0; i < s.queries; ++i)
                softmax_gradient(s.keys, p + own + i * s.keys, static_cast<T>(s.scale), ds + i * s.keys);
            multiply(s.queries, s.keys, ds, s.keys, false, pack(k + key_offset, ldk, false, s.keys, s.key_dim, panels),
                     dq + query_offset, ldq, true);
            multiply(s.keys, s.queries, ds, s.keys, true, pack(q + query_offset, ldq, false, s.queries, s.key_dim, panels),
                     dk + key_offset, ldk, true);
        }
    });
}

template <class T>
void scaled_attention_forward(const AttentionShape& s, T scale, const T* q, const T* k, const T* v,
                              const AttentionMasks& masks, const AttentionDropout& drop, T* y, T* maximum, T* share) {
    const index size = s.batch * s.queries * s.heads * s.key_dim;
    Scratch<T> scaled(size);
    map(size, cheap, scaled.get(), [&](vec<T> x) { return x * scale; }, q);
    attention_forward<T>(s, scaled, k, v, masks, drop, y, maximum, share);
}

template <class T>
void scaled_attention_backward(const AttentionShape& s, T scale, const T* q, const T* k, const T* v,
                               const AttentionMasks& masks, const AttentionDropout& drop, const T* y, const T* maximum,
                               const T* share, const T* dy, T* dq, T* dk, T* dv, T* dscale) {
    const index rows = s.batch * s.queries * s.heads, size = rows * s.key_dim;
    Scratch<T> scaled(size);
    map(size, cheap, scaled.get(), [&](vec<T> x) { return x * scale; }, q);
    attention_backward<T>(s, scaled, k, v, masks, drop, y, maximum, share, dy, dq, dk, dv);
    double sum = 0;
    for (index row = 0; row < rows; ++row)
        sum += static_cast<double>(dot(s.key_dim, dq + row * s.key_dim, q + row * s.key_dim));
    *dscale += static_cast<T>(sum);
    map(size, cheap, dq, [&](vec<T> d) { return d * scale; }, dq);
}

#define INSTANTIATE(T)                                                                                                \
    template void attention_scores(const AttentionShape&, const T*, const T*, const AttentionMasks&, const T*,        \
                                   const T*, T*);                                                                     \
    template void scaled_attention_forward(const AttentionShape&, T, const T*, const T*, const T*,                    \
                                           const AttentionMasks&, const AttentionDropout&, T*, T*, T*);               \
    template void scaled_attention_backward(const AttentionShape&, T, const T*, const T*, const T*,                   \
                                            const AttentionMasks&, const AttentionDropout&, const T*, const T*,       \
                                            const T*, const T*, T*, T*, T*, T*);                                      \
    template void attention_scores_backward(const AttentionShape&, const T*, const T*, const T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
