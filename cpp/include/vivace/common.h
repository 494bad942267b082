// Types shared by every op family.
//
// Conventions that hold everywhere:
//  * arrays are dense, row-major; images are NHWC ("channels last"), kernels HWIO;
//  * activations and activation gradients are overwritten (=), parameter gradients accumulate (+=);
//  * shapes are checked once, by the shape values, which throw std::invalid_argument;
//    kernels themselves cannot fail, print or exit;
//  * a result has the same bits for every thread count.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vivace {

using index = std::ptrdiff_t;

// Element-wise functions that a kernel may fuse behind its bias.
enum class Activation { linear, relu, sigmoid, tanh };

}  // namespace vivace
