// 2-D convolution (cross-correlation) over NHWC images, any stride, padding, dilation and groups.
//
//   y(n,p,q,o) = b(o) + sum_{i,j,c} x(n, p*stride_h + i*dilation_h - pad_top,
//                                        q*stride_w + j*dilation_w - pad_left, g*C/G + c) * w(i,j,c,o)
//
// where g = o / (O/G) is the group of output channel o, and x is 0 outside the image.
#pragma once

#include "vivace/common.h"

namespace vivace {

// The geometry of one convolution. Build it with conv2d_shape(), which validates.
struct Conv2DShape {
    index n, h, w, c;                                // input (n, h, w, c)
    index kh, kw, o;                                 // kernel (kh, kw, c / groups, o)
    index p, q;                                      // output (n, p, q, o)
    index stride_h, stride_w;
    index pad_top, pad_bottom, pad_left, pad_right;
    index dilation_h, dilation_w;
    index groups;

    index input_size() const { return n * h * w * c; }
    index kernel_size() const { return kh * kw * (c / groups) * o; }
    index output_size() const { return n * p * q * o; }
    // Multiply-adds count as two operations; the same for each of the three directions.
    index flops() const { return 2 * output_size() * kh * kw * (c / groups); }
};

// Validates and derives the output size. Throws std::invalid_argument naming the rule and the values.
//   input (n,h,w,c); kernel (kh,kw,c/groups,o); padding (top, bottom, left, right).
Conv2DShape conv2d_shape(const index (&input)[4], const index (&kernel)[4], const index (&strides)[2],
                         const index (&padding)[4], const index (&dilation)[2], index groups);

enum class Direction { forward, input_gradient, weight_gradient };

// How one direction is computed. The rule is conv2d_method(), and looks at nothing but the shape.
enum class Conv2DMethod {
    pointwise,  // a 1x1 kernel: a matrix product (gemm.h)
    depthwise,  // channels that never meet (depthwise2d.h)
    winograd,   // 3x3 with fewer products (src/winograd.h)
    direct,     // implicit GEMM (src/conv2d.cpp)
};
Conv2DMethod conv2d_method(const Conv2DShape& s, Direction direction);

// y = activation(x * w + bias). bias (o) may be null. No aliasing.
template <class T>
void conv2d_forward(const Conv2DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y);

// The same with the kernel also in the form that the method reads, made once where the kernel stays as it is (inference):
// `form` is what prepare_kernel made of w for this shape, or null.
template <class T>
void conv2d_forward_prepared(const Conv2DShape& s, const T* x, const T* w, const T* form, const T* bias,
                             Activation activation, T* y);

struct KernelForm {
    enum Kind {
        original,     // pointwise, depthwise: nothing to prepare
        panels,       // direct: packed for the microkernel
        transformed,  // winograd
    } kind;
    unsigned tile_sizes = 0;  // transformed: for which ones (src/winograd.h)
};
KernelForm kernel_form(const Conv2DShape& s);
// Elements of the form; 0 for the original.
template <class T>
index kernel_form_size(const Conv2DShape& s, KernelForm form);
template <class T>
void prepare_kernel(const Conv2DShape& s, KernelForm form, const T* w, T* prepared);

// dx = gradient of the input, given dy (n,p,q,o). Overwrites dx.
template <class T>
void conv2d_input_gradient(const Conv2DShape& s, const T* dy, const T* w, T* dx);

// dw += gradient of the kernel; db += gradient of the bias (db may be null).
template <class T>
void conv2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db);

// The textbook method: the column matrix is stored, then multiplied (GEMM). For comparison and teaching.
namespace im2col {
template <class T>
void conv2d_forward(const Conv2DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y);
template <class T>
void conv2d_input_gradient(const Conv2DShape& s, const T* dy, const T* w, T* dx);
template <class T>
void conv2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db);
}  // namespace im2col

}  // namespace vivace
