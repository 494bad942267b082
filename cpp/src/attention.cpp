// A block of queries meets a block of keys: their scores (query_block x key_block) stay in cache. Forward, the softmax is
// normalized as the blocks go by; backward, the probabilities are made again from each query's maximum and sum. All
// products are the microkernel's. Tasks share nothing, so the bits do not depend on the threads.
#include "vivace/attention.h"

#include <cmath>

#include "philox.h"
#include "rows.h"
#include "tile.h"

namespace vivace {
namespace {

constexpr index query_block = 8 * tile_rows, key_block = 64;
constexpr index no_offset[1] = {0};

template <class T>
constexpr T forbidden = static_cast<T>(-1e9);

index blocks_of(index size, index block) { return (size + block - 1) / block; }

// c (m, b.columns) = a (m, k) b, or += ; with `transposed`, a is stored (k, m). One thread.
template <class T>
void multiply(index m, index k, const T* a, index lda, bool transposed, const Panels<T>& b, T* c, index ldc,
              bool accumulate) {
    Tile<T> tile{};
    tile.offsets = no_offset;
    tile.taps = 1;
    tile.k = k;
    tile.a_step = lda;
    tile.accumulate = accumulate;
    const index tiles = blocks_of(m, tile_rows);
    for (index j = 0; j < b.count(); ++j) {
        b.select(j, tile);
        for (index i = 0; i < tiles; ++i) {
            const Part rows(m, tiles, i);
            tile.rows = rows.size();
            tile.a[0] = a + rows.first;
            for (index r = 0; r < tile.rows; ++r) {
                if (!transposed) tile.a[r] = a + (rows.first + r) * lda;
                tile.c[r] = c + (rows.first + r) * ldc + j * panel_columns<T>;
            }
            if (transposed)
                multiply_by_columns(tile);
            else
                multiply_by_rows(tile);
        }
    }
}

// A part of a (rows, columns) matrix, packed as the right side of a product; with `transposed` it is stored (columns, rows).
template <class T>
Panels<T> pack(const T* source, index ld, bool transposed, index rows, index columns, T* packed) {
    pack_panels(source, ld, transposed, index{0}, rows, rows, columns, packed);
    return packed_panels<T>(packed, rows, columns);
}

// One head of one sample.
struct Head {
    index sample, head, key_head;
    Head(const AttentionShape& s, index b, index h) : sample(b), head(h), key_head(h / (s.heads / s.key_heads)) {}
};

// A block of queries and one of keys.
struct Block {
    index query, queries, key, keys;  // the first, and how many
};

// Turns products q k into scores.
template <class T>
void finish_scores(const AttentionShape& s, const AttentionMasks& masks, index sample, const Block& at, T* scores) {
    const T scale = static_cast<T>(s.scale);
    for (index r = 0; r < at.queries; ++r) {
        const index i = at.query + r;
        T* row = scores + r * key_block;
        index open = s.causal ? std::min(at.keys, std::max<index>(0, i - at.key + 1)) : at.keys;
        if (masks.query && !masks.query[sample * s.queries + i]) open = 0;
        for_each_vector<T>(open, [&](index j, auto n) { store_n(row + j, load_n(row + j, n) * scale, n); });
        std::fill(row + open, row + at.keys, forbidden<T>);
        const std::uint8_t* key = masks.key ? masks.key + sample * s.keys + at.key : nullptr;
        const std::uint8_t* pair = masks.attention ? masks.attention + (sample * s.queries + i) * s.keys + at.key : nullptr;
        for (index j = 0; (key || pair) && j < open; ++j)
            if ((key && !key[j]) || (pair && !pair[j])) row[j] = forbidden<T>;
    }
}

// Multiplies a block by the dropout mask, whose elements are 0 or 1 / (1 - rate).
template <class T>
void apply_dropout(const AttentionShape& s, const AttentionDropout& drop, const Head& head, const Block& at, T* values) {
    if (drop.rate == 0) return;
    const index row_words = blocks_of(s.keys, 4) * 4;  // the generator makes four at a time
    T factors[Philox::words];
    for (index r = 0; r < at.queries; ++r) {
        const index row = (head.sample * s.heads + head.head) * s.queries + at.query + r;
        for (index j = 0; j < at.keys; j += Philox::words) {
            dropout_factors(drop.rate, drop.seed, drop.stream, static_cast<std::uint64_t>((row * row_words + at.key + j) / 4),
                            factors);
            for_each_vector<T>(std::min<index>(Philox::words, at.keys - j), [&](index w, auto n) {
                T* const value = values + r * key_block + j + w;
                store_n(value, load_n(value, n) * load_n(factors + w, n), n);
            });
        }
    }
}

// Whether no query of the block may look at these keys; a query with nothing to attend to looks at all.
template <class T>
bool out_of_sight(const AttentionShape& s, const Block& at, const T* maximum) {
    if (!s.causal || at.key < at.query + at.queries) return false;
    return std::none_of(maximum, maximum + at.queries, [](T m) { return m == forbidden<T>; });
}

// Takes a block of scores into the running softmax of each query: the scores become exp(score - maximum), and what was
// summed before (sum, and y with it) is scaled to the new maximum.
template <class T>
void take_in(const AttentionShape& s, const Block& at, T* scores, T* maximum, T* sum, T* y, index ldy) {
    for (index r = 0; r < at.queries; ++r) {
        T* row = scores + r * key_block;
        const T top = std::max(maximum[r], row_maximum<T>(at.keys, row));
        const T shrink = at.key == 0 ? T{0} : std::exp(maximum[r] - top);
        vec<T> added{};
        for_each_vector<T>(at.keys, [&](index j, auto n) {
            const vec<T> e = exp<T>(load_n(row + j, n) - top);
            added += fill_from<T>(e, n, T{0});
            store_n(row + j, e, n);
        });
        sum[r] = sum[r] * shrink + horizontal_sum<T>(added);
        maximum[r] = top;
        if (at.key > 0 && shrink != T{1})
            for_each_vector<T>(s.value_dim,
                               [&](index d, auto n) { store_n(y + r * ldy + d, load_n(y + r * ldy + d, n) * shrink, n); });
    }
}

}  // namespace

template <class T>
void attention_forward(const AttentionShape& s, const T* q, const T* k, const T* v, const AttentionMasks& masks,
                       const AttentionDropout& drop, T* y, T* maximum, T* share) {
    const index ldq = s.heads * s.key_dim, ldk = s.key_heads * s.key_dim, ldv = s.key_heads * s.value_dim,
                ldy = s.heads * s.value_dim;
    const index keys_packed = packed_size<T>(s.key_dim, key_block), values_packed = packed_size<T>(key_block, s.value_dim);
    const index own = query_block * key_block + keys_packed + values_packed;
    const int threads = get_num_threads();
    Scratch<T> scratch(threads * own);
    const index query_blocks = blocks_of(s.queries, query_block);
    parallel_for(s.batch * s.heads * query_blocks, s.flops(), threads, [&](index task, int thread) {
        const Head head(s, task / query_blocks / s.heads, task / query_blocks % s.heads);
        T* const scores = scratch + thread * own;
        T *const packed_keys = scores + query_block * key_block, *const packed_values = packed_keys + keys_packed;
        Block at{};
        at.query = task % query_blocks * query_block;
        at.queries = std::min(query_block, s.queries - at.query);
        const index row = (head.sample * s.heads + head.head) * s.queries + at.query;
        T *const top = maximum + row, *const sum = share + row;
        std::fill_n(top, at.queries, forbidden<T>);
        std::fill_n(sum, at.queries, T{0});
        const T* queries = q + (head.sample * s.queries + at.query) * ldq + head.head * s.key_dim;
        T* const out = y + (head.sample * s.queries + at.query) * ldy + head.head * s.value_dim;
        for (at.key = 0; at.key < s.keys; at.key += key_block) {
            if (at.key > 0 && out_of_sight(s, at, top)) break;
            at.keys = std::min(key_block, s.keys - at.key);
            const index first = head.sample * s.keys + at.key;
            multiply(at.queries, s.key_dim, queries, ldq, false,
                     pack(k + first * ldk + head.key_head * s.key_dim, ldk, true, s.key_dim, at.keys, packed_keys), scores,
                     key_block, false);
            finish_scores(s, masks, head.sample, at, scores);
            take_in(s, at, scores, top, sum, out, ldy);
            apply_dropout(s, drop, head, at, scores);
            multiply(at.queries, at.keys, scores, key_block, false,
                     pack(v + first * ldv + head.key_head * s.value_dim, ldv, false, at.keys, s.value_dim, packed_values),
                     out, ldy, at.key > 0);
        }
        for (index r = 0; r < at.queries; ++r) {
            sum[r] = 1 / sum[r];
            for_each_vector<T>(s.value_dim, [&](index d, auto n) {
                store_n(out + r * ldy + d, load_n(out + r * ldy + d, n) * sum[r], n);
            });
        }
    });
}

namespace {

// The scratch of one thread's backward pass.
template <class T>
struct Backward {
    T *scores, *gradients;                   // (query_block, key_block): probabilities, then what reaches the scores
    T *keys_t, *values_t, *keys;             // packed, of a key block
    T *queries, *dy;                         // packed, of a query block
    static index size(const AttentionShape& s) {
        return 2 * query_block * key_block + packed_size<T>(s.key_dim, key_block) + packed_size<T>(s.value_dim, key_block) +
               packed_size<T>(key_block, s.key_dim) + packed_size<T>(query_block, s.key_dim) +
               packed_size<T>(query_block, s.value_dim);
    }
    Backward(const AttentionShape& s, T* memory) {
        const auto take = [&](index size) {
            T* part = memory;
            memory += size;
            return part;
        };
        scores = take(query_block * key_block);
        gradients = take(query_block * key_block);
        keys_t = take(packed_size<T>(s.key_dim, key_block));
        values_t = take(packed_size<T>(s.value_dim, key_block));
        keys = take(packed_size<T>(key_block, s.key_dim));
        queries = take(packed_size<T>(query_block, s.key_dim));
        dy = take(packed_size<T>(query_block, s.value_dim));
    }
};

// scores -> probabilities
template <class T>
void probabilities(const Block& at, T* scores, const T* maximum, const T* share) {
    for (index r = 0; r < at.queries; ++r)
        for_each_vector<T>(at.keys, [&](index j, auto n) {
            T* p = scores + r * key_block + j;
            store_n(p, exp<T>(load_n(p, n) - maximum[r]) * share[r], n);
        });
}

// gradients (of the probabilities) -> gradients of q k: p (gradient - mean) scale, 0 where the score was forbidden.
template <class T>
void score_gradients(const AttentionShape& s, const Block& at, const T* p, const T* maximum, const T* means, T* gradients) {
    const T scale = static_cast<T>(s.scale);
    for (index r = 0; r < at.queries; ++r) {
        const T mean = means[r], factor = maximum[r] == forbidden<T> ? T{0} : scale;
        for_each_vector<T>(at.keys, [&](index j, auto n) {
            const index i = r * key_block + j;
            store_n(gradients + i, load_n(p + i, n) * (load_n(gradients + i, n) - mean) * factor, n);
        });
    }
}

}  // namespace

template <class T>
void attention_backward(const AttentionShape& s, const T* q, const T* k, const T* v, const AttentionMasks& masks,
                        const AttentionDropout& drop, const T* y, const T* maximum, const T* share, const T* dy, T* dq,
                        T* dk, T* dv) {
    const index ldq = s.heads * s.key_dim, ldk = s.key_heads * s.key_dim, ldv = s.key_heads * s.value_dim,
                ldy = s.heads * s.value_dim;
    const index rows = s.batch * s.heads * s.queries, group = s.heads / s.key_heads;
    // sum_j p drop dp = dy y, for every query
    const int threads = get_num_threads();
    Scratch<T> means(rows), scratch(threads * Backward<T>::size(s));
    parallel_for(s.batch * s.heads, 2.0 * static_cast<double>(rows * s.value_dim), [&](index task, int) {
        for (index i = 0; i < s.queries; ++i) {
            const index at = ((task / s.heads * s.queries + i) * s.heads + task % s.heads) * s.value_dim;
            vec<T> sum{};
            for_each_vector<T>(s.value_dim, [&](index d, auto n) { sum += load_n(y + at + d, n) * load_n(dy + at + d, n); });
            means[task * s.queries + i] = horizontal_sum<T>(sum);
        }
    });
    // A task owns one key head of one sample, so that its gradients are nobody else's.
    parallel_for(s.batch * s.key_heads, 2.5 * s.flops(), threads, [&](index task, int thread) {
        const index sample = task / s.key_heads, key_head = task % s.key_heads;
        const Backward<T> own(s, scratch + thread * Backward<T>::size(s));
        Block at{};
        for (at.key = 0; at.key < s.keys; at.key += key_block) {
            at.keys = std::min(key_block, s.keys - at.key);
            const T* const keys = k + (sample * s.keys + at.key) * ldk + key_head * s.key_dim;
            const T* const values = v + (sample * s.keys + at.key) * ldv + key_head * s.value_dim;
            T* const dkeys = dk + (keys - k);
            T* const dvalues = dv + (values - v);
            for (index j = 0; j < at.keys; ++j) {
                std::fill_n(dkeys + j * ldk, s.key_dim, T{});
                std::fill_n(dvalues + j * ldv, s.value_dim, T{});
            }
            const Panels<T> keys_t = pack(keys, ldk, true, s.key_dim, at.keys, own.keys_t);
            const Panels<T> values_t = pack(values, ldv, true, s.value_dim, at.keys, own.values_t);
            const Panels<T> packed_keys = pack(keys, ldk, false, at.keys, s.key_dim, own.keys);
            for (index h = key_head * group; h < (key_head + 1) * group; ++h)
                for (at.query = 0; at.query < s.queries; at.query += query_block) {
                    at.queries = std::min(query_block, s.queries - at.query);
                    const index row = (sample * s.heads + h) * s.queries + at.query;
                    if (at.key > 0 && out_of_sight(s, at, maximum + row)) continue;
                    const Head head(s, sample, h);
                    const T* const queries = q + (sample * s.queries + at.query) * ldq + h * s.key_dim;
                    const T* const d = dy + (sample * s.queries + at.query) * ldy + h * s.value_dim;
                    multiply(at.queries, s.key_dim, queries, ldq, false, keys_t, own.scores, key_block, false);
                    finish_scores(s, masks, sample, at, own.scores);
                    probabilities(at, own.scores, maximum + row, share + row);
                    multiply(at.queries, s.value_dim, d, ldy, false, values_t, own.gradients, key_block, false);
                    apply_dropout(s, drop, head, at, own.gradients);
                    score_gradients(s, at, own.scores, maximum + row, means + row, own.gradients);
                    apply_dropout(s, drop, head, at, own.scores);
                    multiply(at.keys, at.queries, own.scores, key_block, true,
                             pack(d, ldy, false, at.queries, s.value_dim, own.dy), dvalues, ldv, true);
                    multiply(at.keys, at.queries, own.gradients, key_block, true,
                             pack(queries, ldq, false, at.queries, s.key_dim, own.queries), dkeys, ldk, true);
                    multiply(at.queries, at.keys, own.gradients, key_block, false, packed_keys, dq + (queries - q), ldq,
                             at.key > 0);
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
