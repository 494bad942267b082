// Max and average pooling over NHWC images. Padding never wins a maximum and never enters an average.
#pragma once

#include "vivace/common.h"

namespace vivace {

struct Pool2DShape {
    index n, h, w, c;      // input (n, h, w, c)
    index kh, kw;          // window
    index p, q;            // output (n, p, q, c)
    index stride_h, stride_w;
    index pad_top, pad_bottom, pad_left, pad_right;

    index input_size() const { return n * h * w * c; }
    index output_size() const { return n * p * q * c; }
};

// Validates and derives the output size. padding (top, bottom, left, right), each smaller than the window.
Pool2DShape pool2d_shape(const index (&input)[4], const index (&window)[2], const index (&strides)[2],
                         const index (&padding)[4]);

// A window of at most 256 positions is indexed by a byte, a larger one by 32 bits.
template <class T, class Position>
void max_pool2d_forward(const Pool2DShape& s, const T* x, T* y, Position* positions /* null: not wanted */);

// dx = 0 but for dy at the position of each window's first maximum. Overlapping windows add up.
template <class T, class Position>
void max_pool2d_backward(const Pool2DShape& s, const T* dy, const Position* positions, T* dx);

template <class T>
void average_pool2d_forward(const Pool2DShape& s, const T* x, T* y);
template <class T>
void average_pool2d_backward(const Pool2DShape& s, const T* dy, T* dx);

}  // namespace vivace
