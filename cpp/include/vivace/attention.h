// Scaled dot-product attention of several heads, in blocks: the matrix of scores is never stored.
//
//   p(b,h,i,j) = softmax over j of  scale sum_d q(b,i,h,d) k(b,j,g,d)      g = h / (heads / key_heads)
//   y(b,i,h,:) = sum_j p(b,h,i,j) drop(b,h,i,j) v(b,j,g,:)
//
// A score that may not be attended to counts as -1e9; a query that may attend to nothing attends to all keys equally.
// T. Dao et al., "FlashAttention", 2022; M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018.
#pragma once

#include "vivace/common.h"

namespace vivace {

struct AttentionShape {
    index batch, heads, key_heads, queries, keys, key_dim, value_dim;
    double scale;
    bool causal;  // query i attends to keys 0 ... i only

    double flops() const {
        return 2.0 * static_cast<double>(batch * heads * queries) * static_cast<double>(keys * (key_dim + value_dim));
    }
};

// What may be attended to: where all given masks are not 0. Null: everything.
struct AttentionMasks {
    const std::uint8_t* query;      // (batch, queries)
    const std::uint8_t* key;        // (batch, keys)
    const std::uint8_t* attention;  // (batch, queries, keys)
};

// Dropout of the probabilities, a function of (seed, stream, position) as in `dropout`. rate 0: none.
struct AttentionDropout {
    double rate;
    std::uint64_t seed, stream;
};

// q (batch, queries, heads, key_dim), k (batch, keys, key_heads, key_dim), v (batch, keys, key_heads, value_dim),
// y (batch, queries, heads, value_dim); maximum and share (batch, heads, queries) are kept for backward: the largest
// score of each query, in units of ln 2, and 1 / sum_j exp(score - its maximum).
template <class T>
void attention_forward(const AttentionShape& s, const T* q, const T* k, const T* v, const AttentionMasks& masks,
                       const AttentionDropout& drop, T* y, T* maximum, T* share);

// Computes the scores again, block by block. Overwrites dq, dk and dv.
template <class T>
void attention_backward(const AttentionShape& s, const T* q, const T* k, const T* v, const AttentionMasks& masks,
                        const AttentionDropout& drop, const T* y, const T* maximum, const T* share, const T* dy, T* dq,
                        T* dk, T* dv);

}  // namespace vivace
