// General matrix multiply and the dense (fully connected) layer built on it.
#pragma once

#include "vivace/common.h"

namespace vivace {

// c (m,n) = a (m,k) b (k,n), or += when accumulate. With transpose_a, a is stored (k,m); with transpose_b, b (n,k).
template <class T>
void gemm(index m, index n, index k, const T* a, bool transpose_a, const T* b, bool transpose_b, T* c, bool accumulate);

// The same on parts of larger matrices: ld* is the distance from one stored row to the next. bias (n) may be null.
template <class T>
void gemm_strided(index m, index n, index k, const T* a, index lda, bool transpose_a, const T* b, index ldb,
                  bool transpose_b, const T* bias, T* c, index ldc, bool accumulate);

// sums (columns) += column sums of x (rows, columns), whose rows are ldx apart.
template <class T>
void add_column_sums(index rows, index columns, const T* x, index ldx, T* sums);

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
