// Depthwise 2-D convolution: every input channel has filters of its own. The shape is that of a `conv2d` with as many
// groups as channels; each op computes what conv2d's of the same name does.
//
//   y(n,p,q,c*m + k) = b(c*m + k) + sum_{i,j} x(n, p*stride_h + i*dilation_h - pad_top,
//                                                  q*stride_w + j*dilation_w - pad_left, c) * w(i,j,c,k),  m = O / C
#pragma once

#include "vivace/conv2d.h"

namespace vivace {

// Throws std::invalid_argument unless groups equal the input's channels.
void check_depthwise2d(const Conv2DShape& s);

template <class T>
void depthwise2d_forward(const Conv2DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y);

// Overwrites dx.
template <class T>
void depthwise2d_input_gradient(const Conv2DShape& s, const T* dy, const T* w, T* dx);

// dw and db accumulate; db may be null.
template <class T>
void depthwise2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db);

}  // namespace vivace
