// The naive reference of every op whose fast version is more than a loop: written straight from the formula, summed in
// double, no tiles, no threads. Tests compare every path with it.
#pragma once

#include "vivace/activations.h"
#include "vivace/conv3d.h"
#include "vivace/pool2d.h"
#include "vivace/pool3d.h"
#include "vivace/resample.h"
#include "vivace/rnn.h"

namespace vivace::reference {

template <class T>
void gemm(index m, index n, index k, const T* a, bool transpose_a, const T* b, bool transpose_b, T* c, bool accumulate);

template <class T>
void conv2d_forward(const Conv2DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y);
template <class T>
void conv2d_input_gradient(const Conv2DShape& s, const T* dy, const T* w, T* dx);
template <class T>
void conv2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db);

template <class T>
void conv3d_forward(const Conv3DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y);
template <class T>
void conv3d_input_gradient(const Conv3DShape& s, const T* dy, const T* w, T* dx);
template <class T>
void conv3d_weight_gradient(const Conv3DShape& s, const T* x, const T* dy, T* dw, T* db);

template <class T, class Position>
void max_pool2d_forward(const Pool2DShape& s, const T* x, T* y, Position* positions);
template <class T, class Position>
void max_pool2d_backward(const Pool2DShape& s, const T* dy, const Position* positions, T* dx);
template <class T>
void average_pool2d_forward(const Pool2DShape& s, const T* x, T* y);
template <class T>
void average_pool2d_backward(const Pool2DShape& s, const T* dy, T* dx);

template <class T, class Position>
void max_pool3d_forward(const Pool3DShape& s, const T* x, T* y, Position* positions);
template <class T, class Position>
void max_pool3d_backward(const Pool3DShape& s, const T* dy, const Position* positions, T* dx);
template <class T>
void average_pool3d_forward(const Pool3DShape& s, const T* x, T* y);
template <class T>
void average_pool3d_backward(const Pool3DShape& s, const T* dy, T* dx);

// h (batch, steps, units): the states. No mask, no initial state.
template <class T>
void rnn_forward(const RnnShape& s, const T* x, const T* w, const T* u, const T* bias, T* h);

template <class T>
void function_forward(Function f, const Parameters& p, index size, const T* x, T* y);

template <class T>
void affine_forward(const Affine& s, const double* maps, const T* x, T* y);

}  // namespace vivace::reference
