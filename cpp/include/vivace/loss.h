// Losses. `losses` receives one value per row; the backward pass scales row r by scale[r], into which the caller
// folds sample weights and the reduction (for instance 1/n for a mean).
#pragma once

#include "vivace/common.h"

namespace vivace {

// Fused softmax and cross-entropy with integer labels in [0, columns):
//   probabilities = softmax(logits);  losses(r) = -log probabilities(r, labels(r)), computed from the logits.
template <class T>
void sparse_softmax_crossentropy_forward(index rows, index columns, const T* logits, const std::int64_t* labels,
                                         T* probabilities, T* losses);
// dlogits = (probabilities - onehot(labels)) * scale(r)
template <class T>
void sparse_softmax_crossentropy_backward(index rows, index columns, const T* probabilities, const std::int64_t* labels,
                                          const T* scale, T* dlogits);

// The same with a target distribution (rows, columns):  losses(r) = -sum_c targets log softmax(logits).
template <class T>
void softmax_crossentropy_forward(index rows, index columns, const T* logits, const T* targets, T* probabilities,
                                  T* losses);
// dlogits = (probabilities * sum(targets(r)) - targets) * scale(r)
template <class T>
void softmax_crossentropy_backward(index rows, index columns, const T* probabilities, const T* targets, const T* scale,
                                   T* dlogits);

// Fused sigmoid and binary cross-entropy, mean over the columns:
//   losses(r) = mean_c( max(z,0) - z t + log(1 + exp(-|z|)) )
template <class T>
void sigmoid_crossentropy_forward(index rows, index columns, const T* logits, const T* targets, T* probabilities,
                                  T* losses);
// dlogits = (probabilities - targets) * scale(r) / columns
template <class T>
void sigmoid_crossentropy_backward(index rows, index columns, const T* probabilities, const T* targets, const T* scale,
                                   T* dlogits);

// losses(r) = mean_c (y - t)^2
template <class T>
void mean_squared_error_forward(index rows, index columns, const T* y, const T* targets, T* losses);
// dy = 2 (y - t) * scale(r) / columns
template <class T>
void mean_squared_error_backward(index rows, index columns, const T* y, const T* targets, const T* scale, T* dy);

// Number of rows whose largest element (the first, if several) stands at column labels(r).
template <class T>
index count_correct(index rows, index columns, const T* y, const std::int64_t* labels);

// The sum of all losses, in double.
template <class T>
double total(index size, const T* losses);

}  // namespace vivace
