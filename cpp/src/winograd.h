// 3x3 convolution by minimal filtering, F(m x m, 3x3): for a tile of 4x4 outputs 36 products per channel where the direct
// sum takes 144; for one of 2x2, 16 instead of 36. (S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and
// S. Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016.)
//
//   Y = A' [ (G g G') . (B' d B) ] A        d: (m + 2)^2 inputs, g: 3x3 kernel, Y: m^2 outputs; . elementwise
//
// Summed over channels, each of the elements is a matrix product of its own, (tiles, channels) x (channels, filters).
// Tiles of four, tiles of two, and tiles of 4x2 and 2x4 between them cover the outputs as cheaply as their number allows.
// The weight gradient sums over tiles of four instead.
//
// Error: tiles of two add, subtract and halve, so integers stay exact as long as they fit, and a rounded output is within
// (channels + 8) * eps / 2 * 9 * max|x| * sum|w|  of the true one. Tiles of four multiply by fractions (winograd_tiles.h);
// their bound is  (channels + 24) * eps / 2 * 752 * max|x| * sum|w|. Root mean square on normal data, 32 to 512 channels,
// next to the direct sum's error: tiles of two 0.6 times, as each sum is a ninth as long, tiles of four 1.7 to 2.4 times,
// weight gradients 1.4 to 3.7 times, most with AVX-512, by which direct sums are shorter (tested: at most 3, there 4).
#pragma once

#include "vivace/conv2d_pool.h"

namespace vivace::winograd {

// The sizes of tiles that a shape's outputs are cut into, forwards (for convolutions with pooling: `pool`), a bit each:
// 4x4, 4x2, 2x4 and 2x2. Each needs the kernels transformed in its own way.
unsigned tile_sizes(const Conv2DShape& s);
unsigned tile_sizes(const Pool2DShape& pool);

// The transformed kernels, for convolutions forwards: made in every call where `form` is null.
template <class T>
index transformed_size(const Conv2DShape& s, unsigned sizes);
template <class T>
void transform_kernel(const Conv2DShape& s, unsigned sizes, const T* w, T* form);

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
