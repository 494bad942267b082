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


// Calls f(key), once, for every key that query i of a sample may not attend to.
template <class F>
void for_each_hidden(const AttentionShape& s, const AttentionMasks& masks, index sample, index i, F&& f) {
    const index query = sample * s.queries + i;
    const bool open = !masks.query || masks.query[query];
    const index first = !open ? s.keys : s.window > 0 ? std::clamp<index>(i - s.window + 1, 0, s.keys) : 0;
    const index causal = s.causal ? i + 1 : s.keys, far = s.window > 0 ? i + s.window : s.keys;
    const index last = std::max(first, std::min({causal, far, s.keys}));
    for (index j = 0; j < first; ++j) f(j);
    for (index j = last; j < s.keys; ++j) f(j);
    const std::uint8_t* pair = masks.attention ? masks.attention + query * s.keys : nullptr;
    const std::uint8_t* key = masks.key ? masks.key + sample * s.keys : nullptr;
    for (index j = first; (pair || key) && j < last; ++j)
        if ((key && !key[j]) || (pair && !pair[j])) f(j);
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
            for_each_hidden(s, masks, sample, i, [&](index j) { row[j] = 0; });
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

namespace {

// q times the learned factor: both directions begin with it, so that they see the same scores to the last bit.
template <class T>
void scale_queries(const AttentionShape& s, T scale, const T* q, T* scaled) {
    map(s.batch * s.queries * s.heads * s.key_dim, cheap, scaled, [&](vec<T> x) { return x * scale; }, q);
}

}  // namespace

template <class T>
void scaled_attention_forward(const AttentionShape& s, T scale, const T* q, const T* k, const T* v,
                              const AttentionMasks& masks, const AttentionDropout& drop, T* y, T* maximum, T* share) {
    Scratch<T> scaled(s.batch * s.queries * s.heads * s.key_dim);
    scale_queries(s, scale, q, scaled.get());
    attention_forward<T>(s, scaled, k, v, masks, drop, y, maximum, share);
}

template <class T>
void scaled_attention_backward(const AttentionShape& s, T scale, const T* q, const T* k, const T* v,
                               const AttentionMasks& masks, const AttentionDropout& drop, const T* y, const T* maximum,
                               const T* share, const T* dy, T* dq, T* dk, T* dv, T* dscale) {
    const index rows = s.batch * s.queries * s.heads, size = rows * s.key_dim;
    Scratch<T> scaled(size);
    scale_queries(s, scale, q, scaled.get());
    attention_backward<T>(s, scaled, k, v, masks, drop, y, maximum, share, dy, dq, dk, dv);
    double sum = 0;
    for (index row = 0; row < rows; ++row)
        sum += static_cast<double>(dot(s.key_dim, dq + row * s.key_dim, q + row * s.key_dim));
    *dscale += static_cast<T>(sum);
    map(size, cheap, dq, [&](vec<T> d) { return d * scale; }, dq);
}

namespace {

// Columns of k, (key_dim, keys), whose rows are so far apart.
template <class T>
index key_row(index keys) {
    return blocks_of(keys, lanes<T>) * lanes<T>;
}

template <class T>
void transpose_keys(const AttentionShape& s, const T* k, T* columns) {
    const index ld = key_row<T>(s.keys);
    for (index d = 0; d < s.key_dim; ++d) {
        for (index j = 0; j < s.keys; ++j) columns[d * ld + j] = k[j * s.key_dim + d];
        std::fill(columns + d * ld + s.keys, columns + (d + 1) * ld, T{0});
    }
}

template <class T>
T weight_of(const Scoring<T>& scoring, index d) {
    return !scoring.weight ? T{1} : scoring.weights == 1 ? scoring.weight[0] : scoring.weight[d];
}

// One query's sums for all keys.
template <class T>
void score_by_sums(const AttentionShape& s, const Scoring<T>& scoring, const T* q, const T* columns, T* row) {
    const index ld = key_row<T>(s.keys);
    for_each_vector<T>(s.keys, [&](index j, auto n) {
        vec<T> sum{};
        for (index d = 0; d < s.key_dim; ++d)
            sum += weight_of(scoring, d) * tanh<T>(scoring.scale * (q[d] + load(columns + d * ld + j)));
        store_n(row + j, sum, n);
    });
}

// What reaches the scores of a sample, ds (queries, keys), goes on to feature d of its queries and keys; and to the feature's
// weight and to the scale, whose gradients are in `sums`.
template <class T>
void sums_gradient(const AttentionShape& s, const Scoring<T>& scoring, index d, const T* q, const T* k, const T* ds, T* own,
                   T* dq, T* dk, T* sums) {
    T *const column = own, *const dcolumn = own + key_row<T>(s.keys);
    const T weight = weight_of(scoring, d);
    for (index j = 0; j < s.keys; ++j) column[j] = k[j * s.key_dim + d];
    std::fill_n(dcolumn, key_row<T>(s.keys), T{0});
    double to_weight = 0, to_scale = 0;
    for (index i = 0; i < s.queries; ++i) {
        const T own_q = q[i * s.key_dim + d];
        vec<T> by_weight{}, by_scale{}, by_query{};
        for_each_vector<T>(s.keys, [&](index j, auto n) {
            const vec<T> pair = load_n(column + j, n) + own_q, t = tanh<T>(scoring.scale * pair);
            const vec<T> g = load_n(ds + i * s.keys + j, n);
            const vec<T> inside = g * weight * (T{1} - t * t), of_sum = inside * scoring.scale;
            by_weight += g * t;
            by_scale += inside * pair;
            by_query += of_sum;
            store_n(dcolumn + j, load_n(dcolumn + j, n) + of_sum, n);
        });
        dq[i * s.key_dim + d] = horizontal_sum<T>(by_query);
        to_weight += static_cast<double>(horizontal_sum<T>(by_weight));
        to_scale += static_cast<double>(horizontal_sum<T>(by_scale));
    }
    for (index j = 0; j < s.keys; ++j) dk[j * s.key_dim + d] = dcolumn[j];
    sums[0] = static_cast<T>(to_weight);
    sums[1] = static_cast<T>(to_scale);
}

}  // namespace

template <class T>
void stored_attention_forward(const AttentionShape& s, const Scoring<T>& scoring, const T* q, const T* k, const T* v,
                              const AttentionMasks& masks, const AttentionDropout& drop, T* p, T* dropped, T* y) {
    const index blocks = blocks_of(s.queries, row_block);
    const index columns = std::max(packed_size<T>(s.key_dim, s.keys), s.key_dim * key_row<T>(s.keys));
    const index values = packed_size<T>(s.keys, s.value_dim), own = columns + values + row_block * s.keys;
    const int threads = get_num_threads();
    Scratch<T> scratch(threads * own);
    const double tanhs = scoring.by_sums ? static_cast<double>(s.batch * s.queries * s.keys * s.key_dim) : 0;
    const double cost = s.flops() + transcendental * tanhs;
    parallel_for(s.batch * blocks, cost, threads, [&](index task, int thread) {
        const index sample = task / blocks;
        const Part mine(s.queries, blocks, task % blocks);
        T *const keys = scratch + thread * own, *const panels = keys + columns, *const rows = panels + values;
        const index first = sample * s.queries + mine.first;
        T* const scores = p + first * s.keys;
        if (scoring.by_sums)
            transpose_keys(s, k + sample * s.keys * s.key_dim, keys);
        else
            multiply(mine.size(), s.key_dim, q + first * s.key_dim, s.key_dim, false,
                     pack(k + sample * s.keys * s.key_dim, s.key_dim, true, s.key_dim, s.keys, keys), scores, s.keys, false);
        for (index i = 0; i < mine.size(); ++i) {
            T* const row = scores + i * s.keys;
            if (scoring.by_sums)
                score_by_sums(s, scoring, q + (first + i) * s.key_dim, keys, row);
            else
                for_each_vector<T>(s.keys, [&](index j, auto n) { store_n(row + j, load_n(row + j, n) * scoring.scale, n); });
            for_each_hidden(s, masks, sample, mine.first + i, [&](index j) { row[j] -= static_cast<T>(1e9); });
            softmax_row(s.keys, row, row);
            T* const after = drop.rate > 0 ? rows + i * s.keys : row;
            if (drop.rate > 0) {
                std::copy_n(row, s.keys, after);
                drop_row(drop, (first + i) * s.keys, s.keys, after);
            }
            if (dropped) std::copy_n(after, s.keys, dropped + (first + i) * s.keys);
        }
        multiply(mine.size(), s.keys, drop.rate > 0 ? rows : scores, s.keys, false,
                 pack(v + sample * s.keys * s.value_dim, s.value_dim, false, s.keys, s.value_dim, panels),
                 y + first * s.value_dim, s.value_dim, false);
    });
}

template <class T>
void stored_attention_backward(const AttentionShape& s, const Scoring<T>& scoring, const T* q, const T* k, const T* v,
                               const AttentionDropout& drop, const T* p, const T* dy, const T* ddropped, T* dq, T* dk,
                               T* dv, T* dweight, T* dscale) {
    const index pairs = s.queries * s.keys, longest = std::max(s.queries, s.keys), blocks = blocks_of(s.queries, row_block);
    const index own = pairs + packed_size<T>(longest, std::max(s.key_dim, s.value_dim)) + packed_size<T>(s.value_dim, s.keys) +
                      2 * key_row<T>(s.keys);
    const int threads = get_num_threads();
    Scratch<T> gradients(s.batch * pairs), scratch(threads * own), sums(2 * s.batch * s.key_dim);
    parallel_for(s.batch * blocks, s.flops(), threads, [&](index task, int thread) {  // what reaches the scores
        const index sample = task / blocks;
        const Part mine(s.queries, blocks, task % blocks);
        const index first = sample * s.queries + mine.first;
        T* const ds = gradients + first * s.keys;
        multiply(mine.size(), s.value_dim, dy + first * s.value_dim, s.value_dim, false,
                 pack(v + sample * s.keys * s.value_dim, s.value_dim, true, s.value_dim, s.keys, scratch + thread * own), ds,
                 s.keys, false);
        for (index i = 0; i < mine.size(); ++i) {
            T* const row = ds + i * s.keys;
            const index at = (first + i) * s.keys;
            for (index j = 0; ddropped && j < s.keys; ++j) row[j] += ddropped[at + j];
            if (drop.rate > 0) drop_row(drop, at, s.keys, row);
            softmax_gradient(s.keys, p + at, T{1}, row);
        }
    });
    parallel_for(s.batch, 2 * s.flops(), threads, [&](index sample, int thread) {
        T *const probabilities = scratch + thread * own, *const panels = probabilities + pairs;
        const T *weights = p + sample * pairs, *const ds = gradients + sample * pairs;
        if (drop.rate > 0) {
            std::copy_n(weights, pairs, probabilities);
            drop_row(drop, sample * pairs, pairs, probabilities);
            weights = probabilities;
        }
        const index of_q = sample * s.queries * s.key_dim, of_k = sample * s.keys * s.key_dim;
        multiply(s.keys, s.queries, weights, s.keys, true,
                 pack(dy + sample * s.queries * s.value_dim, s.value_dim, false, s.queries, s.value_dim, panels),
                 dv + sample * s.keys * s.value_dim, s.value_dim, false);
        if (scoring.by_sums) return;
        multiply(s.queries, s.keys, ds, s.keys, false, pack(k + of_k, s.key_dim, false, s.keys, s.key_dim, panels), dq + of_q,
                 s.key_dim, false);
        multiply(s.keys, s.queries, ds, s.keys, true, pack(q + of_q, s.key_dim, false, s.queries, s.key_dim, panels), dk + of_k,
                 s.key_dim, false);
        sums[2 * sample] = 0;
        sums[2 * sample + 1] = dot(s.queries * s.key_dim, dq + of_q, q + of_q);
        for (index i = 0; i < s.queries * s.key_dim; ++i) dq[of_q + i] *= scoring.scale;
        for (index i = 0; i < s.keys * s.key_dim; ++i) dk[of_k + i] *= scoring.scale;
    });
    const index parts = scoring.by_sums ? s.key_dim : 1;
    if (scoring.by_sums)
        parallel_for(s.batch * parts, transcendental * static_cast<double>(s.batch * pairs * parts), threads,
                     [&](index task, int thread) {
            const index sample = task / s.key_dim, of_q = sample * s.queries * s.key_dim, of_k = sample * s.keys * s.key_dim;
            sums_gradient(s, scoring, task % s.key_dim, q + of_q, k + of_k, gradients + sample * pairs, scratch + thread * own,
                          dq + of_q, dk + of_k, sums + 2 * task);
        });
    for (index i = 0; i < s.batch * parts; ++i) {
        if (dweight && scoring.weight) dweight[scoring.weights == 1 ? 0 : i % parts] += sums[2 * i];
        if (dscale) *dscale += sums[2 * i + 1];
    }
}

#define INSTANTIATE(T)                                                                                                \
    template void stored_attention_forward(const AttentionShape&, const Scoring<T>&, const T*, const T*, const T*,    \
                                           const AttentionMasks&, const AttentionDropout&, T*, T*, T*);               \
    template void stored_attention_backward(const AttentionShape&, const Scoring<T>&, const T*, const T*, const T*,   \
                                            const AttentionDropout&, const T*, const T*, const T*, T*, T*, T*, T*,    \
                                            T*);                                                                      \
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
