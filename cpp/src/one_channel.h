// Convolution of one input channel by 3x3 kernels, pooled in 2x2 windows: what stands first in a network for grey pictures.
#pragma once

#include "windows.h"

namespace vivace::one_channel {

// As in conv2d_pool.h, for shapes that conv2d_pool_method() says are `one_channel`; x is padded. relu or nothing.
template <class T>
void conv2d_pool_forward(const Windows& windows, const T* x, const T* w, const T* bias, bool relu, T* y,
                         std::uint8_t* positions);
void conv2d_pool_weight_gradient(const Conv2DShape& s, const Pool2DShape& pool, const float* x, const float* dy,
                                 const float* y, const std::uint8_t* positions, bool relu, float* dw, float* db);

}  // namespace vivace::one_channel
