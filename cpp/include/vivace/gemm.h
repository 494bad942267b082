// General matrix multiply and the dense (fully connected) layer built on it.
#pragma once

#include "vivace/common.h"

namespace vivace {

// c (m,n) = a (m,k) b (k,n), or += when accumulate. With transpose_a, a is stored (k,m); with transpose_b, b (n,k).
template <class T>
void gemm(index m, index n, index k, const T* a, bool transpose_a, const T* b, bool transpose_b, T* c, bool accumulate);

// y (n,o) = activation(x (n,i) w (i,o) + bias (o)). bias may be null.
template <class T>
void dense_forward(index n, index i, index o, const T* x, const T* w, const T* bias, Activation activation, T* y);

// dx (n,i) = dy (n,o) w^T. Overwrites dx.
template <class T>
void dense_input_gradient(index n, index i, index o, const T* dy, const T* w, T* dx);

// dw += x^T dy;  db += column sums of dy (db may be null).
template <class T>
void dense_weight_gradient(index n, index i, index o, const T* x, const T* dy, T* dw, T* db);

}  // namespace vivace
