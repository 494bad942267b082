// One array of several: sums, products and extrema of arrays of the same shape, element by element; and arrays joined.
#pragma once

#include "vivace/common.h"

namespace vivace {

enum class Merge { add, subtract, multiply, average, maximum, minimum };

// y = x_1 op x_2 op ..., of `count` inputs; subtract: of two; average: their sum times 1 / count. A NaN wins an extremum. y may
// be one of the inputs.
template <class T>
void merge_forward(Merge merge, index count, index size, const T* const* x, T* y);

// dx_i = the gradient of x_i. Extrema are taken in order, each input against the largest (or smallest) of those before;
// equal ones halve the gradient. The first of dx may be dy.
template <class T>
void merge_backward(Merge merge, index count, index size, const T* const* x, const T* dy, T* const* dx);

// Row r of y is that of x_1, x_2, ..., of columns[i] elements, one after the other.
template <class T>
void concatenate(index rows, index count, const index* columns, const T* const* x, T* y);
template <class T>
void split(index rows, index count, const index* columns, const T* y, T* const* x);

}  // namespace vivace
