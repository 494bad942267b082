// Attention between projections: the products before and behind it, in one call, and all of them once more backward.
#include "map.h"
#include "vivace/attention.h"
#include "vivace/elementwise.h"
#include "vivace/gemm.h"

namespace vivace {
namespace {

constexpr index line = 16;  // elements: every part of what is kept begins on a line of the caches

index whole_lines(index size) { return (size + line - 1) / line * line; }

// Pieces of one memory, one after the other.
template <class T>
struct Memory {
    T* next;
    T* take(index size) {
        T* const piece = next;
        next += whole_lines(size);
        return piece;
    }
};

template <class T>
void gate_output(index size, const T* attended, const T* gate, T* gated) {
    map(size, cheap, gated, [](vec<T> a, vec<T> g) { return a * g; }, attended, gate);
}

// What one projection hands back: the gradients of its weights, and of its input, whose array others may add to.
template <class T>
void project_backward(index rows, index inputs, index outputs, const T* x, const Projection<const T>& weights, const T* dy,
                      const Projection<T>& gradients, T* dx, bool add) {
    dense_weight_gradient(rows, inputs, outputs, x, dy, gradients.kernel, gradients.bias);
    if (dx) gemm(rows, inputs, outputs, dy, false, weights.kernel, true, dx, add);
}

}  // namespace

template <class T>
MultiHeadKept<T>::MultiHeadKept(const MultiHeadShape& s, T* memory) {
    const AttentionShape& a = s.attention;
    Memory<T> parts{memory};
    q = parts.take(s.query_rows() * s.query_width());
    k = parts.take(s.key_rows() * s.key_width());
    v = parts.take(s.key_rows() * s.value_width());
    attended = parts.take(s.query_rows() * s.attended_width());
    maximum = parts.take(a.batch * a.heads * a.queries);
    share = parts.take(a.batch * a.heads * a.queries);
    gate = s.gate ? parts.take(s.query_rows() * s.attended_width()) : nullptr;
}

template <class T>
index MultiHeadKept<T>::size(const MultiHeadShape& s) {
    const AttentionShape& a = s.attention;
    return whole_lines(s.query_rows() * s.query_width()) + whole_lines(s.key_rows() * s.key_width()) +
           whole_lines(s.key_rows() * s.value_width()) + 2 * whole_lines(a.batch * a.heads * a.queries) +
           (s.gate ? 2 : 1) * whole_lines(s.query_rows() * s.attended_width());
}

template <class T>
void multi_head_forward(const MultiHeadShape& s, const T* query, const T* key, const T* value,
                        const MultiHeadWeights<const T>& weights, const AttentionMasks& masks,
                        const AttentionDropout& drop, T* kept, T* y, T* p) {
    Scratch<T> forgotten(kept ? 0 : MultiHeadKept<T>::size(s));
    const MultiHeadKept<T> own(s, kept ? kept : forgotten.get());
    const index queries = s.query_rows(), keys = s.key_rows(), width = s.attended_width();
    const auto project = [](index rows, index inputs, index outputs, const T* x, const Projection<const T>& w,
                            Activation activation, T* out) {
        dense_forward(rows, inputs, outputs, x, w.kernel, w.bias, activation, out);
    };
    project(queries, s.query_size, s.query_width(), query, weights.query, Activation::linear, own.q);
    project(keys, s.key_size, s.key_width(), key, weights.key, Activation::linear, own.k);
    project(keys, s.value_size, s.value_width(), value, weights.value, Activation::linear, own.v);
    attention_forward<T>(s.attention, own.q, own.k, own.v, masks, drop, own.attended, own.maximum, own.share);
    Scratch<T> gated(s.gate ? queries * width : 0);
    if (s.gate) {
        project(queries, s.query_size, width, query, weights.gate, Activation::sigmoid, own.gate);
        gate_output<T>(queries * width, own.attended, own.gate, gated);
    }
    project(queries, width, s.outputs, s.gate ? gated.get() : own.attended, weights.output, Activation::linear, y);
    if (p) attention_scores<T>(s.attention, own.q, own.k, masks, own.maximum, own.share, p);
}

template <class T>
void multi_head_backward(const MultiHeadShape& s, const T* query, const T* key, const T* value,
                         const MultiHeadWeights<const T>& weights, const AttentionMasks& masks,
                         const AttentionDropout& drop, T* kept, const T* dy, const T* p, const T* dp,
                         const MultiHeadWeights<T>& gradients, T* dquery, T* dkey, T* dvalue) {
    const MultiHeadKept<T> own(s, kept);
    const index queries = s.query_rows(), keys = s.key_rows(), width = s.attended_width(), size = queries * width;
    Scratch<T> scratch(MultiHeadKept<T>::size(s));
    const MultiHeadKept<T> d(s, scratch);  // gradients of what was kept
    const T* attended = own.attended;
    if (s.gate) {
        gate_output<T>(size, own.attended, own.gate, d.gate);
        attended = d.gate;
    }
    project_backward<T>(queries, width, s.outputs, attended, weights.output, dy, gradients.output, d.attended, false);
    if (s.gate) {
        map(size, cheap, d.gate, [](vec<T> of_gated, vec<T> a, vec<T> g) { return of_gated * a * (g * (T{1} - g)); }, d.attended,
            own.attended, own.gate);
        gate_output<T>(size, d.attended, own.gate, d.attended);
    }
    attention_backward<T>(s.attention, own.q, own.k, own.v, masks, drop, own.attended, own.maximum, own.share, d.attended,
                          d.q, d.k, d.v);
    if (dp) attention_scores_backward<T>(s.attention, own.q, own.k, p, dp, d.q, d.k);
    project_backward(queries, s.query_size, s.query_width(), query, weights.query, d.q, gradients.query, dquery, false);
    project_backward(keys, s.value_size, s.value_width(), value, weights.value, d.v, gradients.value, dvalue, dvalue == dquery);
    project_backward(keys, s.key_size, s.key_width(), key, weights.key, d.k, gradients.key, dkey,
                     dkey == dquery || dkey == dvalue);
    if (s.gate)
        project_backward(queries, s.query_size, width, query, weights.gate, d.gate, gradients.gate, dquery, true);
}

#define INSTANTIATE(T)                                                                                                    \
    template struct MultiHeadKept<T>;                                                                                     \
    template void multi_head_forward(const MultiHeadShape&, const T*, const T*, const T*,                                 \
                                     const MultiHeadWeights<const T>&, const AttentionMasks&, const AttentionDropout&,    \
                                     T*, T*, T*);                                                                         \
    template void multi_head_backward(const MultiHeadShape&, const T*, const T*, const T*,                                \
                                      const MultiHeadWeights<const T>&, const AttentionMasks&, const AttentionDropout&,   \
                                      T*, const T*, const T*, const T*, const MultiHeadWeights<T>&, T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
