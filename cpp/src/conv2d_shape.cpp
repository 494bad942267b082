#include <algorithm>

#include "shapes.h"
#include "vivace/conv2d.h"

namespace vivace {

Conv2DShape conv2d_shape(const index (&input)[4], const index (&kernel)[4], const index (&strides)[2],
                         const index (&padding)[4], const index (&dilation)[2], index groups) {
    require_convolution("conv2d", input, kernel, strides, padding, dilation, groups);
    Conv2DShape s{};
    s.n = input[0], s.h = input[1], s.w = input[2], s.c = input[3];
    s.kh = kernel[0], s.kw = kernel[1], s.o = kernel[3];
    s.stride_h = strides[0], s.stride_w = strides[1];
    s.pad_top = padding[0], s.pad_bottom = padding[1], s.pad_left = padding[2], s.pad_right = padding[3];
    s.dilation_h = dilation[0], s.dilation_w = dilation[1];
    s.groups = groups;
    s.p = (s.h + s.pad_top + s.pad_bottom - (s.kh - 1) * s.dilation_h - 1) / s.stride_h + 1;
    s.q = (s.w + s.pad_left + s.pad_right - (s.kw - 1) * s.dilation_w - 1) / s.stride_w + 1;
    return s;
}

Conv2DMethod conv2d_method(const Conv2DShape& s, Direction direction) {
    const bool unit_steps = s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 && s.dilation_w == 1;
    if (s.kh == 1 && s.kw == 1 && s.groups == 1 && unit_steps && s.p == s.h && s.q == s.w) return Conv2DMethod::pointwise;
    if (s.groups == s.c && s.c > 1) return Conv2DMethod::depthwise;
    // Winograd's products must outweigh its transforms: of the kernel, once in a call, so there must be some pixels; of
    // the tiles, once for all channels, so there must be some of these; and of the weight gradient's sums, of which there
    // are 16 for the kernel's 9 elements.
    const bool to_kernel = direction == Direction::weight_gradient;
    const index enough_channels = to_kernel ? 32 : 16, enough_pixels = to_kernel ? 160 : 64;
    const index pad = std::max(std::max(s.pad_top, s.pad_bottom), std::max(s.pad_left, s.pad_right));
    if (s.kh == 3 && s.kw == 3 && unit_steps && s.groups == 1 && pad <= 2 && s.n * s.p * s.q >= enough_pixels &&
        std::min(s.c, s.o) >= enough_channels)
        return Conv2DMethod::winograd;
    return Conv2DMethod::direct;
}

}  // namespace vivace
