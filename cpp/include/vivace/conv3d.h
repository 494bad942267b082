// 3-D convolution over volumes (n, d, h, w, c): conv2d.h's sum with a third axis, the depth, before the others; and
// transposed convolution, which is its input gradient used forwards. Of depth 1 both are 2-D.
#pragma once

#include "vivace/conv2d.h"

namespace vivace {

// Build it with conv3d_shape(), which validates.
struct Conv3DShape {
    index n, d, h, w, c;   // input
    index kd, kh, kw, o;   // kernel (kd, kh, kw, c / groups, o)
    index r, p, q;         // output (n, r, p, q, o)
    index stride_d, pad_front, dilation_d;
    Conv2DShape images;    // the slices that meet in a kernel stand side by side as channels: an image for each output slice

    index groups() const { return images.groups; }
    index input_size() const { return n * d * h * w * c; }
    index kernel_size() const { return images.kernel_size(); }
    index output_size() const { return images.output_size(); }
};

// Throws std::invalid_argument naming the rule and the values. The axes are depth, height, width; padding is
// (front, back, top, bottom, left, right).
Conv3DShape conv3d_shape(const index (&input)[5], const index (&kernel)[5], const index (&strides)[3],
                         const index (&padding)[6], const index (&dilation)[3], index groups);

// y = activation(x * w + bias). bias (o) may be null. No aliasing.
template <class T>
void conv3d_forward(const Conv3DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y);

template <class T>
void conv3d_input_gradient(const Conv3DShape& s, const T* dy, const T* w, T* dx);

// dw += gradient of the kernel; db += gradient of the bias (db may be null).
template <class T>
void conv3d_weight_gradient(const Conv3DShape& s, const T* x, const T* dy, T* dw, T* db);

// y, of s's input shape, = activation(conv3d_input_gradient(x) + bias), for x of s's output shape. bias (c) may be null.
template <class T>
void conv3d_transpose_forward(const Conv3DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y);

// Its weight gradient, given dy: dw += ..., db += ... (db may be null). (Its input gradient is conv3d_forward.)
template <class T>
void conv3d_transpose_weight_gradient(const Conv3DShape& s, const T* x, const T* dy, T* dw, T* db);

}  // namespace vivace
