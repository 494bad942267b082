// 3x3 convolution by the minimal filtering algorithm F(2x2, 3x3): 16 products per channel for a tile of 2x2 outputs where
// the direct sum takes 36. (S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, Fast
// Algorithms for Convolutional Neural Networks, CVPR 2016.)
//
//   Y = A' [ (G g G') . (B' d B) ] A        d: 4x4 inputs, g: 3x3 kernel, Y: 2x2 outputs; . elementwise
//
// Summed over channels, each of the 16 elements is a matrix product of its own, (tiles, channels) x (channels, filters).
//
// Error: the transforms add, subtract and halve, so integers stay exact as long as they fit, and a rounded output is within
// (channels + 8) * eps / 2 * 9 * max|x| * sum|w|  of the true one (tested). Root mean square on normal data, 32 to 256
// channels: outputs and input gradients 0.6 times the direct sum's error, because each sum is a ninth as long; weight
// gradients 1.9 to 2.2 times. Larger tiles would need fewer products still, but their transforms multiply by up to 8 and
// lose a digit.
#pragma once

#include "vivace/conv2d_pool.h"

namespace vivace::winograd {

// The transformed kernels, for convolutions forwards: made in every call where `form` is null.
template <class T>
index transformed_size(const Conv2DShape& s);
template <class T>
void transform_kernel(const Conv2DShape& s, const T* w, T* form);

// For shapes that conv2d_method() says are `winograd`. As in conv2d.h and conv2d_pool.h, where the windows
// are 2x2: each tile is one. relu or nothing.
template <class T>
void conv2d_forward(const Conv2DShape& s, const T* x, const T* w, const T* form, const T* bias, bool relu, T* y);
template <class T>
void conv2d_input_gradient(const Conv2DShape& s, const T* dy, const T* w, T* dx);
template <class T>
void conv2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db);
template <class T>
void conv2d_pool_forward(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* w, const T* form, const T* bias,
                         bool relu, T* y, std::uint8_t* positions);

}  // namespace vivace::winograd
