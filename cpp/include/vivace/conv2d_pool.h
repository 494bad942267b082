// Convolution, bias, ReLU and max pooling as one op, forward and backward.
//
// Forward, the convolution's full output is never stored: a tile of it is pooled while it stands in L1, and only the
// winners and their positions leave. Backward, only the winners carry gradient: of a 2x2 window one pixel in four, and
// none where ReLU was at 0. Both gradients of the convolution consume (values, positions) directly, which takes fewer
// operations than the dense computation could do at the machine's peak.
//
// The pool's windows must not overlap (stride = window) and not be padded; its input is the convolution's output. The
// structured gradients need a convolution with one group and, across the width, dilation 1; where they do not apply
// (each function says where) the dense gradients are computed from the scattered winners, with the same result up to
// rounding.
#pragma once

#include "vivace/conv2d.h"
#include "vivace/pool2d.h"

namespace vivace {

// Throws std::invalid_argument unless the pool takes the convolution's output in windows that tile it.
void check_conv2d_pool(const Conv2DShape& s, const Pool2DShape& pool);

// How one direction is computed.
enum class Conv2DPoolMethod {
    one_channel,  // one input channel, 3x3 kernel, 2x2 windows (src/one_channel.cpp)
    winograd,     // forward: 3x3 with 2x2 windows, with fewer products (src/winograd.h)
    direct,       // forward: implicit GEMM, pooled tile by tile
    separate,     // forward: windows too large for a tile, the two ops one after the other
    structured,   // gradients from the winners alone
    dense,        // gradients from the winners scattered over the convolution's output
};
template <class T>
Conv2DPoolMethod conv2d_pool_method(const Conv2DShape& s, const Pool2DShape& pool, Direction direction);

// y, positions (n, pool.p, pool.q, o): maximum of activation(x * w + bias) over each window, and where in the window it
// is (row * pool.kw + column; the first, if several; with relu, of the largest value before it, which matters only where
// y is 0 and no gradient flows). positions may be null. activation: linear or relu.
// A window has at most 256 elements.
template <class T>
void conv2d_pool_forward(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* w, const T* bias,
                         Activation activation, T* y, std::uint8_t* positions);

// The same with the kernel in the form of kernel_form(s, pool), or null (see conv2d.h).
template <class T>
void conv2d_pool_forward_prepared(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* w, const T* form,
                                  const T* bias, Activation activation, T* y, std::uint8_t* positions);
KernelForm kernel_form(const Conv2DShape& s, const Pool2DShape& pool);

// The gradients given dy (n, pool.p, pool.q, o) and what the forward pass returned. For relu, dy counts where y > 0.

// Overwrites dx. Structured where the channels fill whole registers.
template <class T>
void conv2d_pool_input_gradient(const Conv2DShape& s, const Pool2DShape& pool, const T* dy, const T* y,
                                const std::uint8_t* positions, Activation activation, const T* w, T* dx);

// dw += ..., db += ... (db may be null). Structured where the channels fill whole registers; one_channel in float32.
template <class T>
void conv2d_pool_weight_gradient(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* dy, const T* y,
                                 const std::uint8_t* positions, Activation activation, T* dw, T* db);

}  // namespace vivace
