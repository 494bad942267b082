// An image batch with zero borders made real, so that no inner loop ever asks whether a pixel exists.
#pragma once

#include <cstring>

#include "parallel.h"
#include "vivace/conv2d.h"

namespace vivace {

// Without borders it is the original, not a copy.
template <class T>
class Padded {
public:
    Padded(const T* x, index n, index h, index w, index c, index top, index bottom, index left, index right)
        : height(h + top + bottom), width(w + left + right), channels(c),
          scratch_(top + bottom + left + right ? n * height * width * c : 0), data(x) {
        if (!(top + bottom + left + right)) return;
        const std::size_t row_bytes = static_cast<std::size_t>(w * c) * sizeof(T);
        parallel_for(n * height, static_cast<double>(n * height * width * c), [&](index row, int) {
            T* out = scratch_ + row * width * c;
            const index source = row % height - top;
            if (source < 0 || source >= h) {
                std::fill_n(out, width * c, T{});
                return;
            }
            std::fill_n(out, left * c, T{});
            std::memcpy(out + left * c, x + ((row / height) * h + source) * w * c, row_bytes);
            std::fill_n(out + (left + w) * c, right * c, T{});
        });
        data = scratch_;
    }
    index row_stride() const { return width * channels; }
    index image_stride() const { return height * row_stride(); }

    const index height, width, channels;

private:
    Scratch<T> scratch_;

public:
    const T* data;
};

template <class T>
Padded<T> padded_input(const Conv2DShape& s, const T* x) {
    return {x, s.n, s.h, s.w, s.c, s.pad_top, s.pad_bottom, s.pad_left, s.pad_right};
}

// Runs of input elements that neighbour each other for one kernel row (or one kernel element), in kernel order.
struct Runs {
    index taps_h, taps_w;  // kernel rows; runs in each
    index length;

    explicit Runs(const Conv2DShape& s) {
        const bool whole_row = s.groups == 1 && (s.dilation_w == 1 || s.kw == 1);
        taps_h = s.kh;
        taps_w = whole_row ? 1 : s.kw;
        length = whole_row ? s.kw * s.c : s.c / s.groups;
    }
    index count() const { return taps_h * taps_w; }
    // Where run t starts, relative to the first input element of a window.
    index offset(const Conv2DShape& s, index t, index row_stride) const {
        return t / taps_w * s.dilation_h * row_stride + t % taps_w * s.dilation_w * s.c;
    }
};

}  // namespace vivace
