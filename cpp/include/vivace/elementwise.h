// Activations that kernels fuse, softmax, dropout and row gathering. y may alias x, and dx may alias dy, in all of them.
#pragma once

#include "vivace/common.h"

namespace vivace {

template <class T>
void activation_forward(Activation a, index size, const T* x, T* y);

// dx = dy * f'(x), computed from the output y = f(x).
template <class T>
void activation_backward(Activation a, index size, const T* y, const T* dy, T* dx);

// Softmax over each of `rows` rows of `columns` elements, with the row's maximum subtracted first. y may be x.
template <class T>
void softmax_forward(index rows, index columns, const T* x, T* y);
template <class T>
void softmax_backward(index rows, index columns, const T* y, const T* dy, T* dx);

// The same of its logarithm: y = x - log(sum(exp(x))).
template <class T>
void log_softmax_forward(index rows, index columns, const T* x, T* y);
template <class T>
void log_softmax_backward(index rows, index columns, const T* y, const T* dy, T* dx);

// y = x * keep / (1 - rate), where keep(i) is bit-reproducible from (seed, stream, i) alone: Philox4x32-10
// (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). The same call on dy is the backward pass. Of a rate
// of 1, all are 0.
template <class T>
void dropout(index size, const T* x, double rate, std::uint64_t seed, std::uint64_t stream, T* y);

// The same of x (outer, steps, channels), where all steps share the fate of (outer, channels).
template <class T>
void spatial_dropout(index outer, index steps, index channels, const T* x, double rate, std::uint64_t seed,
                     std::uint64_t stream, T* y);

// y = a (keep ? x : l) + b, where l is the lowest value of selu, and a and b are such that mean 0 and variance 1 stay:
// a = ((1 - rate) (1 + rate l^2))^(-1/2), b = -a rate l (G. Klambauer et al., "Self-normalizing neural networks", 2017).
template <class T>
void alpha_dropout_forward(index size, const T* x, double rate, std::uint64_t seed, std::uint64_t stream, T* y);
template <class T>
void alpha_dropout_backward(index size, const T* dy, double rate, std::uint64_t seed, std::uint64_t stream, T* dx);

// y = x scale + offset, and y = (x - mean) / deviation: of x (outer, channels, inner), with numbers for each channel. offset
// and mean may be null: zeros.
template <class T>
void scale_channels(index outer, index channels, index inner, const T* x, const T* scale, const T* offset, T* y);
template <class T>
void standardize_channels(index outer, index channels, index inner, const T* x, const T* deviation, const T* mean, T* y);

// l1 sum |x| + l2 sum x^2, and its gradient: dx += l1 sign(x) + 2 l2 x.
template <class T>
double penalty(index size, const T* x, double l1, double l2);
template <class T>
void add_penalty_gradient(index size, const T* x, double l1, double l2, T* dx);

// out[r] = source[rows[r]], each row of `row_bytes` bytes. Row numbers must be in range.
void gather_rows(index count, index row_bytes, const void* source, const std::int64_t* rows, void* out);

// The same, rows of `row_size` bytes becoming as many floats of the same values.
void gather_bytes(index count, index row_size, const std::uint8_t* source, const std::int64_t* rows, float* out);

// table[rows[r]] += dy[r], in the order of r; rows of `columns` elements. The gradient of a lookup.
template <class T>
void scatter_add_rows(index count, index columns, const T* dy, const std::int64_t* rows, T* table);

// mask[r] = whether any element of row r differs from value (NaN does); y, which may be null, is x with 0 in the others.
template <class T>
void mask_rows(index rows, index columns, const T* x, T value, T* y, std::uint8_t* mask);

// 0 in the rows of x whose mask is 0.
template <class T>
void clear_masked_rows(index rows, index columns, const std::uint8_t* mask, T* x);

}  // namespace vivace
