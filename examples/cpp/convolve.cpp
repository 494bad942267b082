// The kernels from C++: a 3x3 box filter over a small image.
#include <cstdio>
#include <vector>

#include "vivace/conv2d.h"

int main() {
    // One 4x4 image of one channel; one 3x3 filter; padding 1 on every side.
    const vivace::Conv2DShape shape = vivace::conv2d_shape({1, 4, 4, 1}, {3, 3, 1, 1}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1);
    std::vector<float> image(16), kernel(9, 1.0f), filtered(16);
    for (int i = 0; i < 16; ++i) image[static_cast<std::size_t>(i)] = static_cast<float>(i);
    vivace::conv2d_forward<float>(shape, image.data(), kernel.data(), nullptr, vivace::Activation::linear,
                                  filtered.data());
    for (int row = 0; row < 4; ++row) {
        for (int column = 0; column < 4; ++column)
            std::printf("%5.0f", static_cast<double>(filtered[static_cast<std::size_t>(4 * row + column)]));
        std::printf("\n");
    }
}
