// The pooling windows over a convolution's output.
#pragma once

#include "vivace/conv2d_pool.h"

namespace vivace {

// One pooled window: where it stands, and where its first pixel's receptive field starts in the padded input.
struct Windows {
    const Conv2DShape& s;
    const Pool2DShape& pool;
    index row_stride, image_stride;  // of the padded input

    index count() const { return pool.p * pool.q; }  // in one image
    index start(index window) const {
        return window / pool.q * pool.kh * s.stride_h * row_stride + window % pool.q * pool.kw * s.stride_w * s.c;
    }
    // From the receptive field of a window's first pixel to that of the pixel at `position`.
    index pixel(index position) const {
        return position / pool.kw * s.stride_h * row_stride + position % pool.kw * s.stride_w * s.c;
    }
};

}  // namespace vivace
