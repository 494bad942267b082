// Pooling of volumes (n, d, h, w, c) in boxes of any place and size. Sequences and images are volumes of one row or slice.
#pragma once

#include <vector>

#include "vivace/common.h"

namespace vivace {

// [first, end) along an axis.
struct Window {
    index first, end;
    index size() const { return end - first; }
};

struct PoolAxis {
    index size;
    std::vector<Window> windows;   // of each output: the elements it is made of
    std::vector<Window> covering;  // of each element: the outputs whose windows have it

    index outputs() const { return static_cast<index>(windows.size()); }
};

// Output (z, p, q) sees the box of z's elements along the depth, p's along the height and q's along the width.
struct Pool3DShape {
    index n;
    PoolAxis depth, height, width;
    index c;
    index largest;  // elements of the largest box

    index input_size() const { return n * depth.size * height.size * width.size * c; }
    index output_size() const { return n * depth.outputs() * height.outputs() * width.outputs() * c; }
};

// Throws std::invalid_argument unless every window has elements, all of them on its axis, and begins and ends no earlier
// than the one before.
Pool3DShape pool3d_shape(const index (&input)[5], const std::vector<Window> (&windows)[3]);

// positions (output's shape): where in its box, row by row, the first maximum is; null: not wanted. A NaN wins over all.
// Boxes of at most 256 elements are indexed by bytes, larger ones by 32 bits.
template <class T, class Position>
void max_pool3d_forward(const Pool3DShape& s, const T* x, T* y, Position* positions);

// dx = the sum of dy over the boxes whose position it is.
template <class T, class Position>
void max_pool3d_backward(const Pool3DShape& s, const T* dy, const Position* positions, T* dx);

template <class T>
void average_pool3d_forward(const Pool3DShape& s, const T* x, T* y);
template <class T>
void average_pool3d_backward(const Pool3DShape& s, const T* dy, T* dx);

}  // namespace vivace
