// Scaled dot-product attention of several heads, in blocks: the matrix of scores is never stored.
//
//   p(b,h,i,j) = softmax over j of  scale sum_d q(b,i,h,d) k(b,j,g,d)      g = h / (heads / key_heads)
//   y(b,i,h,:) = sum_j p(b,h,i,j) drop(b,h,i,j) v(b,j,g,:)
//
// A score that may not be attended to counts as -1e9; a query that may attend to nothing attends to all keys equally,
// or its y is 0, as the masks say.
// T. Dao et al., "FlashAttention", 2022; M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018.
#pragma once

#include "vivace/common.h"

namespace vivace {

struct AttentionShape {
    index batch, heads, key_heads, queries, keys, key_dim, value_dim;
    double scale;
    bool causal;       // query i attends to keys 0 ... i only
    index window = 0;  // and to keys less than so many steps away; 0: to all

    double flops() const {
        return 2.0 * static_cast<double>(batch * heads * queries) * static_cast<double>(keys * (key_dim + value_dim));
    }
};

// What may be attended to: where all given masks are not 0. Null: everything.
struct AttentionMasks {
    const std::uint8_t* query;      // (batch, queries)
    const std::uint8_t* key;        // (batch, keys)
    const std::uint8_t* attention;  // (batch, queries, keys)
    bool zero_blind = false;        // y is 0 for a query that may attend to nothing
};

// Dropout of the probabilities, a function of (seed, stream, position) as in `dropout`. rate 0: none.
struct AttentionDropout {
    double rate;
    std::uint64_t seed, stream;
};

// q (batch, queries, heads, key_dim), k (batch, keys, key_heads, key_dim), v (batch, keys, key_heads, value_dim),
// y (batch, queries, heads, value_dim); maximum and share (batch, heads, queries) are kept for backward: the largest
// score of each query, in units of ln 2, and 1 / sum_j exp(score - its maximum); both are null in inference.
template <class T>
void attention_forward(const AttentionShape& s, const T* q, const T* k, const T* v, const AttentionMasks& masks,
                       const AttentionDropout& drop, T* y, T* maximum, T* share);

// Computes the scores again, block by block. Overwrites dq, dk and dv.
template <class T>
void attention_backward(const AttentionShape& s, const T* q, const T* k, const T* v, const AttentionMasks& masks,
                        const AttentionDropout& drop, const T* y, const T* maximum, const T* share, const T* dy, T* dq,
                        T* dk, T* dv);

// The same with q multiplied by a number that is learned, and whose gradient is added to dscale.
template <class T>
void scaled_attention_forward(const AttentionShape& s, T scale, const T* q, const T* k, const T* v,
                              const AttentionMasks& masks, const AttentionDropout& drop, T* y, T* maximum, T* share);
template <class T>
void scaled_attention_backward(const AttentionShape& s, T scale, const T* q, const T* k, const T* v,
                               const AttentionMasks& masks, const AttentionDropout& drop, const T* y, const T* maximum,
                               const T* share, const T* dy, T* dq, T* dk, T* dv, T* dscale);

// The probabilities themselves, p (batch, heads, queries, keys), before dropout, from what forward has left.
template <class T>
void attention_scores(const AttentionShape& s, const T* q, const T* k, const AttentionMasks& masks, const T* maximum,
                      const T* share, T* p);

// Adds to dq and dk what a gradient of p brings.
template <class T>
void attention_scores_backward(const AttentionShape& s, const T* q, const T* k, const T* p, const T* dp, T* dq, T* dk);

// How a query and a key make a score: scale q k, or the sum over d of weight_d tanh(scale (q_d + k_d)).
template <class T>
struct Scoring {
    bool by_sums;
    T scale;
    const T* weight;  // of `weights` numbers: one for each d, or one for all; null: 1
    index weights;
};

// Attention of one head that stores its probabilities, p (batch, queries, keys): for scores that are no product, and for those
// who ask for them. Hidden scores are lowered by 1e9, so that those of a query that may attend to nothing keep their
// gradients, as in Keras. Dropout's mask is that of `dropout` on p; unless it is null, `dropped` is p after it.
template <class T>
void stored_attention_forward(const AttentionShape& s, const Scoring<T>& scoring, const T* q, const T* k, const T* v,
                              const AttentionMasks& masks, const AttentionDropout& drop, T* p, T* dropped, T* y);

// ddropped, the gradient of `dropped`, may be null. dq, dk and dv are overwritten; dweight (of as many elements as there are
// weights) and dscale, which may be null, are added to.
template <class T>
void stored_attention_backward(const AttentionShape& s, const Scoring<T>& scoring, const T* q, const T* k, const T* v,
                               const AttentionDropout& drop, const T* p, const T* dy, const T* ddropped, T* dq, T* dk,
                               T* dv, T* dweight, T* dscale);

// Attention between projections: of queries, keys and values to heads, and of all heads to the output.
//
//   q = query Wq + bq, k = key Wk + bk, v = value Wv + bv;   y = (attention(q, k, v) sigmoid(query Wg + bg)) Wo + bo
//
// Without a gate the sigmoid is left out.
struct MultiHeadShape {
    AttentionShape attention;
    index query_size, key_size, value_size, outputs;  // features of each step
    bool bias, gate;

    index query_rows() const { return attention.batch * attention.queries; }
    index key_rows() const { return attention.batch * attention.keys; }
    index query_width() const { return attention.heads * attention.key_dim; }
    index key_width() const { return attention.key_heads * attention.key_dim; }
    index value_width() const { return attention.key_heads * attention.value_dim; }
    index attended_width() const { return attention.heads * attention.value_dim; }
};

template <class T>
struct Projection {
    T *kernel, *bias;  // (inputs, outputs) and (outputs); the bias may be null
};

// The projections, or (with T not const) their gradients. The gate's are null if there is none.
template <class T>
struct MultiHeadWeights {
    Projection<T> query, key, gate, value, output;
};

// What forward leaves for backward, in one piece of memory: projected queries, keys, values and gates, what was attended
// to, and the softmax's two numbers for each query.
template <class T>
struct MultiHeadKept {
    T *q, *k, *v, *gate, *attended, *maximum, *share;

    static index size(const MultiHeadShape& s);
    MultiHeadKept(const MultiHeadShape& s, T* memory);
};

// query (batch, queries, query_size), key and value (batch, keys, their size), y (batch, queries, outputs); kept has
// MultiHeadKept::size elements, and is null in inference; so is p, (batch, heads, queries, keys), where nobody asks for the
// probabilities.
template <class T>
void multi_head_forward(const MultiHeadShape& s, const T* query, const T* key, const T* value,
                        const MultiHeadWeights<const T>& weights, const AttentionMasks& masks,
                        const AttentionDropout& drop, T* kept, T* y, T* p);

// Adds to the weights' gradients. dquery, dkey and dvalue are overwritten; those that are one array get the sum, and all
// may be null. dp, the gradient of the probabilities, may be null.
template <class T>
void multi_head_backward(const MultiHeadShape& s, const T* query, const T* key, const T* value,
                         const MultiHeadWeights<const T>& weights, const AttentionMasks& masks,
                         const AttentionDropout& drop, T* kept, const T* dy, const T* p, const T* dp,
                         const MultiHeadWeights<T>& gradients, T* dquery, T* dkey, T* dvalue);

}  // namespace vivace
