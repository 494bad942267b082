// A block of keys meets a block of queries: their scores stay in cache. Forward, the softmax is normalized as the blocks go
// by; backward, the probabilities are made again from each query's maximum and sum. All products are the microkernel's.
//
// Scores are stored (keys, queries): a register holds one key's scores for neighbouring queries, so that maxima and sums
// run down the rows, and nothing is ever summed across a register. Queries are packed as panels, multiplied by scale / ln 2
// on the way, which makes exp a power of two. Lanes without a query hold numbers that nobody reads.
// Tasks share nothing, so the bits do not depend on the threads.
#include "vivace/attention.h"

#include <cmath>

#include "philox.h"
#include "product.h"
#include "vmath.h"

namespace vivace {
namespace {

constexpr index key_block = 128;      // whose packed keys and values stay in L2, and a panel's scores in L1
constexpr index forward_block = 256;  // queries that share the packing of the keys
constexpr index query_block = 64;     // backward: whole panels at every level

// From one row of a block of scores to the next, backward: were it a power of two, a column would share few lines of L1.
template <class T>
constexpr index block_row = query_block + 64 / static_cast<index>(sizeof(T));

// Scores come in units of ln 2.
template <class T>
constexpr T forbidden = static_cast<T>(-1e9) * log2_e<T>;

// Rows that lie ld apart, side by side: the left side of a product, in cache.
template <class T>
void copy_rows(const T* source, index ld, index rows, index columns, T* to) {
    for (index r = 0; r < rows; ++r) std::copy_n(source + r * ld, columns, to + r * columns);
}

// Registers' worth of lanes of the panel that begins with query `first` of a block.
template <class T>
index lanes_of_panel(index queries, index first) {
    return panel_width<T>(std::min(panel_columns<T>, queries - first));
}

template <class T>
Panels<T> query_panel(const T* packed, index size, index queries, index first) {
    return {packed + first * size, lanes_of_panel<T>(queries, first), 0, 0};
}

// Packs rows of queries (or their gradients) as panels (size, queries), multiplied by factors (queries, padded).
template <class T>
void pack_queries(const T* source, index ld, index queries, index size, const T* factors, T* packed) {
    pack(source, ld, true, size, queries, packed);
    for (index first = 0; first < queries; first += panel_columns<T>) {
        const index width = lanes_of_panel<T>(queries, first);
        for (index c = 0; c < width; c += lanes<T>) {
            const vec<T> factor = load(factors + first + c);
            T* const column = packed + first * size + c;
            for (index d = 0; d < size; ++d) store(column + d * width, load(column + d * width) * factor);
        }
    }
}

// One head of one sample.
struct Head {
    index sample, head, key_head;
    Head(const AttentionShape& s, index b, index h) : sample(b), head(h), key_head(h / (s.heads / s.key_heads)) {}
};

// A block of keys and one of queries: the first, and how many. Rows of scores are ld apart.
struct Block {
    index key, keys, query, queries, ld;
};

template <class T>
void apply_masks(const AttentionShape& s, const AttentionMasks& masks, index sample, const Block& at, T* scores) {
    const bool crosses = s.causal && at.key + at.keys - 1 > at.query;
    for (index j = 0; (masks.key || crosses) && j < at.keys; ++j) {
        const bool open = !masks.key || masks.key[sample * s.keys + at.key + j];
        const index hidden = !open ? at.queries : s.causal ? std::min(at.queries, at.key + j - at.query) : 0;
        if (hidden > 0) std::fill_n(scores + j * at.ld, hidden, forbidden<T>);
    }
    for (index j = 0; s.window > 0 && j < at.keys; ++j) {  // queries from key - window + 1 to key + window - 1 are near
        const index key = at.key + j - at.query;
        T* const row = scores + j * at.ld;
        std::fill(row, row + std::clamp<index>(key - s.window + 1, 0, at.queries), forbidden<T>);
        std::fill(row + std::clamp<index>(key + s.window, 0, at.queries), row + at.queries, forbidden<T>);
    }
    for (index i = 0; (masks.query || masks.attention) && i < at.queries; ++i) {
        const index query = sample * s.queries + at.query + i;
        const bool open = !masks.query || masks.query[query];
        const std::uint8_t* pair = masks.attention ? masks.attention + query * s.keys + at.key : nullptr;
        for (index j = 0; (pair || !open) && j < at.keys; ++j) {
            T& score = scores[j * at.ld + i];
            score = open && (!pair || pair[j]) ? score : forbidden<T>;
        }
    }
}

// How many of a block's keys the queries need, whose largest scores so far (or of all) are known: none that causality
// hides from all of them. But a query that has nothing to attend to looks at everything.
template <class T>
index needed_keys(const AttentionShape& s, const AttentionMasks& masks, const Block& at, const T* maximum) {
    if (!s.causal) return at.keys;
    const bool masked = masks.query || masks.key || masks.attention || s.window > 0;
    if (masked && std::any_of(maximum, maximum + at.queries, [](T m) { return m == forbidden<T>; })) return at.keys;
    return std::clamp<index>(at.query + at.queries - at.key, 0, at.keys);
}

// Dropout's factors of one key and `width` queries from `query` on.
template <index width, class T>
void dropout_row(const AttentionShape& s, const AttentionDropout& drop, const Head& head, index key, index query, T* factors) {
    const index row_words = blocks_of(s.queries, 4) * 4;  // the generator makes four at a time
    const index first = ((head.sample * s.heads + head.head) * s.keys + key) * row_words + query;
    for (index c = 0; c < width; c += Philox::words) {
        T made[Philox::words];
        dropout_factors(drop.rate, drop.seed, drop.stream, static_cast<std::uint64_t>((first + c) / 4), made);
        std::copy_n(made, std::min(width, Philox::words), factors + c);
    }
}

template <class T>
void apply_dropout(const AttentionShape& s, const AttentionDropout& drop, const Head& head, const Block& at, T* values) {
    T factors[panel_columns<T>];
    for (index j = 0; j < at.keys; ++j) {
        dropout_row<panel_columns<T>>(s, drop, head, at.key + j, at.query, factors);
        for (index c = 0; c < at.ld; c += lanes<T>) {
            T* const value = values + j * at.ld + c;
            store(value, load(value) * load(factors + c));
        }
    }
}

// The running softmax of queries: each one's largest score so far, the sum of exp(score - maximum), and what the sum (and y
// with it) had to be multiplied by as the maximum grew.
template <class T>
struct Running {
    T *maximum, *sum, *shrink;
};

// Takes a panel's scores in; they become exp(score - maximum). Four keys at a time: rows to a whole group are filled up.
template <class T>
void take_in(const Block& at, T* scores, const Running<T>& running) {
    constexpr index group = 4;
    const index keys = blocks_of(at.keys, group) * group;
    std::fill(scores + at.keys * at.ld, scores + keys * at.ld, -std::numeric_limits<T>::infinity());
    for (index c = 0; c < at.ld; c += lanes<T>) {
        const vec<T> before = load(running.maximum + c);
        vec<T> tops[group] = {before, before, before, before}, sums[group] = {};
        for (index j = 0; j < keys; j += group)
#pragma GCC unroll 4
            for (index i = 0; i < group; ++i) tops[i] = maximum(load(scores + (j + i) * at.ld + c), tops[i]);
        const vec<T> top = maximum(maximum(tops[0], tops[1]), maximum(tops[2], tops[3]));
        for (index j = 0; j < keys; j += group) {
            vec<T> e[group];
#pragma GCC unroll 4
            for (index i = 0; i < group; ++i) e[i] = load(scores + (j + i) * at.ld + c) - top;
            exp2_of_negative<T>(e);
#pragma GCC unroll 4
            for (index i = 0; i < group; ++i) {
                sums[i] += e[i];
                store(scores + (j + i) * at.ld + c, e[i]);
            }
        }
        vec<T> shrink[1] = {before - top};
        exp2_of_negative<T>(shrink);
        store(running.sum + c, load(running.sum + c) * shrink[0] + ((sums[0] + sums[1]) + (sums[2] + sums[3])));
        store(running.maximum + c, top);
        store(running.shrink + c, shrink[0]);
    }
}

template <class T>
void scale_row(index size, T factor, T* row) {
    for_each_vector<T>(size, [&](index d, auto n) { store_n(row + d, load_n(row + d, n) * factor, n); });
}

// The largest scores and 1 / sums of a task's queries leave, y is normalized.
template <class T>
void finish(const AttentionShape& s, index queries, bool zero_blind, const Running<T>& running, T* maximum, T* share, T* y,
            index ldy) {
    for (index i = 0; i < queries; ++i) {
        const T own = zero_blind && running.maximum[i] == forbidden<T> ? 0 : 1 / running.sum[i];
        scale_row(s.value_dim, own, y + i * ldy);
        if (!maximum) continue;
        maximum[i] = running.maximum[i];
        share[i] = own;
    }
}

}  // namespace

template <class T>
void attention_forward(const AttentionShape& s, const T* q, const T* k, const T* v, const AttentionMasks& masks,
                       const AttentionDropout& drop, T* y, T* maximum, T* share) {
    const index ldq = s.heads * s.key_dim, ldk = s.key_heads * s.key_dim, ldv = s.key_heads * s.value_dim,
                ldy = s.heads * s.value_dim;
    const index query_blocks = blocks_of(s.queries, forward_block), key_blocks = blocks_of(s.keys, key_block);
    const index queries_packed = packed_size<T>(s.key_dim, forward_block), values_packed = packed_size<T>(key_block, s.value_dim);
    const index own = queries_packed + values_packed + key_block * s.key_dim;
    const int threads = get_num_threads();
    Scratch<T> scratch(threads * own);
    parallel_for(s.batch * s.heads * query_blocks, s.flops(), threads, [&](index task, int thread) {
        T* const packed_queries = scratch + thread * own;
        T *const packed_values = packed_queries + queries_packed, *const keys = packed_values + values_packed;
        alignas(64) T scores[key_block * panel_columns<T>], factors[forward_block], tops[forward_block], sums[forward_block],
            shrinks[forward_block];
        std::fill_n(factors, forward_block, static_cast<T>(s.scale) * log2_e<T>);
        std::fill_n(tops, forward_block, forbidden<T>);
        std::fill_n(sums, forward_block, T{0});

        const Head head(s, task / query_blocks / s.heads, task / query_blocks % s.heads);
        const Part mine(s.queries, query_blocks, task % query_blocks);
        const index row = head.sample * s.queries + mine.first;
        T* const out = y + row * ldy + head.head * s.value_dim;
        pack_queries(q + row * ldq + head.head * s.key_dim, ldq, mine.size(), s.key_dim, factors, packed_queries);
        for (index block = 0; block < key_blocks; ++block) {
            const Part all(s.keys, key_blocks, block);
            const index key_row = head.sample * s.keys + all.first;
            copy_rows(k + key_row * ldk + head.key_head * s.key_dim, ldk, all.size(), s.key_dim, keys);
            const Panels<T> values = pack(v + key_row * ldv + head.key_head * s.value_dim, ldv, false, all.size(), s.value_dim,
                                          packed_values);
            for (index first = 0; first < mine.size(); first += panel_columns<T>) {
                const Panels<T> queries = query_panel(packed_queries, s.key_dim, mine.size(), first);
                Block at{all.first, all.size(), mine.first + first, std::min(panel_columns<T>, mine.size() - first), queries.columns};
                at.keys = needed_keys(s, masks, at, tops + first);
                if (at.keys == 0) continue;
                multiply(at.keys, s.key_dim, keys, s.key_dim, false, queries, scores, at.ld, false);
                apply_masks(s, masks, head.sample, at, scores);
                take_in(at, scores, Running<T>{tops + first, sums + first, shrinks + first});
                if (drop.rate > 0) apply_dropout(s, drop, head, at, scores);
                T* const rows = out + first * ldy;
                for (index r = 0; block > 0 && r < at.queries; ++r)
                    if (shrinks[first + r] != T{1}) scale_row(s.value_dim, shrinks[first + r], rows + r * ldy);
                multiply(at.queries, at.keys, scores, at.ld, true, values, rows, ldy, block > 0);
            }
        }
        const index at = (head.sample * s.heads + head.head) * s.queries + mine.first;
        finish(s, mine.size(), masks.zero_blind, Running<T>{tops, sums, shrinks}, maximum ? maximum + at : nullptr,
               maximum ? share + at : nullptr, out, ldy);
    });
}

namespace {

// The scratch of one thread's backward pass.
template <class T>
struct Backward {
    T *scores, *gradients;                         // (key_block, query_block): probabilities, and what reaches the scores
    T *keys, *values, *key_panels;                 // of a key block
    T *queries_t, *dy_t, *query_panels, *dy_panels;  // of a query block
    T *top, *share, *mean, *factor;                // of its queries, padded
    static index size(const AttentionShape& s) {
        return 2 * key_block * block_row<T> + key_block * (s.key_dim + s.value_dim) + packed_size<T>(key_block, s.key_dim) +
               query_block * (s.key_dim + s.value_dim) + packed_size<T>(query_block, s.key_dim) +
               packed_size<T>(query_block, s.value_dim) + 4 * query_block;
    }
    Backward(const AttentionShape& s, T* memory) {
        const auto take = [&](index size) {
            T* part = memory;
            memory += size;
            return part;
        };
        scores = take(key_block * block_row<T>);
        gradients = take(key_block * block_row<T>);
        keys = take(key_block * s.key_dim);
        values = take(key_block * s.value_dim);
        key_panels = take(packed_size<T>(key_block, s.key_dim));
        queries_t = take(query_block * s.key_dim);
        dy_t = take(query_block * s.value_dim);
        query_panels = take(packed_size<T>(query_block, s.key_dim));
        dy_panels = take(packed_size<T>(query_block, s.value_dim));
        top = take(query_block);
        share = take(query_block);
        mean = take(query_block);
        factor = take(query_block);
    }
};

// Scores become probabilities p, and gradients of p those of the products q k: p (gradient - mean), where gradient and mean
// come multiplied by the scale, or by 0 for a query that could not choose. Dropout multiplies p and its gradient.
template <class T>
void score_gradients(const AttentionShape& s, const AttentionDropout& drop, const Head& head, const Block& at,
                     const Backward<T>& own) {
    constexpr index group = 4, width = group * lanes<T>;
    static_assert(query_block % width == 0);
    T factors[width];
    for (index j = 0; j < at.keys; ++j)
        for (index c = 0; c < at.queries; c += width) {
            T *const scores = own.scores + j * at.ld + c, *const gradients = own.gradients + j * at.ld + c;
            vec<T> p[group], gradient[group];
#pragma GCC unroll 4
            for (index i = 0; i < group; ++i) p[i] = load(scores + i * lanes<T>) - load(own.top + c + i * lanes<T>);
            exp2_of_negative<T>(p);
#pragma GCC unroll 4
            for (index i = 0; i < group; ++i) {
                p[i] *= load(own.share + c + i * lanes<T>);
                gradient[i] = load(gradients + i * lanes<T>);
            }
            if (drop.rate > 0) {
                dropout_row<width>(s, drop, head, at.key + j, at.query + c, factors);
                for (index i = 0; i < group; ++i) {
                    gradient[i] *= load(factors + i * lanes<T>);
                    store(scores + i * lanes<T>, p[i] * load(factors + i * lanes<T>));
                }
            } else {
#pragma GCC unroll 4
                for (index i = 0; i < group; ++i) store(scores + i * lanes<T>, p[i]);
            }
#pragma GCC unroll 4
            for (index i = 0; i < group; ++i)
                store(gradients + i * lanes<T>, p[i] * (gradient[i] - load(own.mean + c + i * lanes<T>)));
        }
}

// What a block's queries bring along: maximum, share, and mean and scale, which are 0 for a query that could not choose.
template <class T>
void take_queries(const AttentionShape& s, index queries, const T* maximum, const T* share, const T* y, const T* dy,
                  index ldy, const Backward<T>& own) {
    for (T* values : {own.top, own.share, own.mean, own.factor}) std::fill_n(values, query_block, T{0});
    std::copy_n(maximum, queries, own.top);
    std::copy_n(share, queries, own.share);
    for (index i = 0; i < queries; ++i) {
        if (maximum[i] == forbidden<T>) continue;
        vec<T> sum{};  // sum_j p drop dp = dy y
        for_each_vector<T>(s.value_dim, [&](index d, auto n) { sum += load_n(y + i * ldy + d, n) * load_n(dy + i * ldy + d, n); });
        own.factor[i] = static_cast<T>(s.scale);
        own.mean[i] = horizontal_sum<T>(sum) * own.factor[i];
    }
}

}  // namespace

template <class T>
void attention_backward(const AttentionShape& s, const T* q, const T* k, const T* v, const AttentionMasks& masks,
                        const AttentionDropout& drop, const T* y, const T* maximum, const T* share, const T* dy, T* dq,
                        T* dk, T* dv) {
    const index ldq = s.heads * s.key_dim, ldk = s.key_heads * s.key_dim, ldv = s.key_heads * s.value_dim,
                ldy = s.heads * s.value_dim;
    const index group = s.heads / s.key_heads, key_blocks = blocks_of(s.keys, key_block);
    const int threads = get_num_threads();
    Scratch<T> scratch(threads * Backward<T>::size(s));
    // A task owns one key head of one sample, so that its gradients are nobody else's.
    parallel_for(s.batch * s.key_heads, 2.5 * s.flops(), threads, [&](index task, int thread) {
        const index sample = task / s.key_heads, key_head = task % s.key_heads;
        const Backward<T> own(s, scratch + thread * Backward<T>::size(s));
        for (index block = 0; block < key_blocks; ++block) {
            const Part all(s.keys, key_blocks, block);
            const T* const keys = k + (sample * s.keys + all.first) * ldk + key_head * s.key_dim;
            const T* const values = v + (sample * s.keys + all.first) * ldv + key_head * s.value_dim;
            T* const dkeys = dk + (keys - k);
            T* const dvalues = dv + (values - v);
            for (index j = 0; s.causal && j < all.size(); ++j) {  // queries may leave keys out
                std::fill_n(dkeys + j * ldk, s.key_dim, T{});
                std::fill_n(dvalues + j * ldv, s.value_dim, T{});
            }
            bool add = false;
            copy_rows(keys, ldk, all.size(), s.key_dim, own.keys);
            copy_rows(values, ldv, all.size(), s.value_dim, own.values);
            const Panels<T> key_panels = pack(keys, ldk, false, all.size(), s.key_dim, own.key_panels);
            for (index h = key_head * group; h < (key_head + 1) * group; ++h)
                for (index query = 0; query < s.queries; query += query_block) {
                    const Head head(s, sample, h);
                    Block at{all.first, all.size(), query, std::min(query_block, s.queries - query), block_row<T>};
                    const index row = (sample * s.heads + h) * s.queries + query;
                    at.keys = needed_keys(s, masks, at, maximum + row);
                    if (at.keys == 0) continue;
                    const index first = sample * s.queries + query;
                    const T* const queries = q + first * ldq + h * s.key_dim;
                    const T* const d = dy + first * ldy + h * s.value_dim;
                    take_queries(s, at.queries, maximum + row, share + row, y + (d - dy), d, ldy, own);
                    pack_queries(d, ldy, at.queries, s.value_dim, own.factor, own.dy_t);
                    std::fill_n(own.factor, query_block, static_cast<T>(s.scale) * log2_e<T>);
                    pack_queries(queries, ldq, at.queries, s.key_dim, own.factor, own.queries_t);
                    for (index c = 0; c < at.queries; c += panel_columns<T>) {
                        multiply(at.keys, s.key_dim, own.keys, s.key_dim, false,
                                 query_panel(own.queries_t, s.key_dim, at.queries, c), own.scores + c, at.ld, false);
                        multiply(at.keys, s.value_dim, own.values, s.value_dim, false,
                                 query_panel(own.dy_t, s.value_dim, at.queries, c), own.gradients + c, at.ld, false);
                    }
                    apply_masks(s, masks, sample, at, own.scores);
                    score_gradients(s, drop, head, at, own);
                    multiply(at.keys, at.queries, own.scores, at.ld, false,
                             pack(d, ldy, false, at.queries, s.value_dim, own.dy_panels), dvalues, ldv, add);
                    multiply(at.keys, at.queries, own.gradients, at.ld, false,
                             pack(queries, ldq, false, at.queries, s.key_dim, own.query_panels), dkeys, ldk, add);
                    add = true;
                    multiply(at.queries, at.keys, own.gradients, at.ld, true, key_panels, dq + (queries - q), ldq, block > 0);
                }
        }
    });
}

#define INSTANTIATE(T)                                                                                             \
    template void attention_forward(const AttentionShape&, const T*, const T*, const T*, const AttentionMasks&,    \
                                    const AttentionDropout&, T*, T*, T*);                                          \
    template void attention_backward(const AttentionShape&, const T*, const T*, const T*, const AttentionMasks&,   \
                                     const AttentionDropout&, const T*, const T*, const T*, const T*, T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
