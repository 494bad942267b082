// Einstein's sum over two arrays, as a batch of matrix products.
//
//   y = activation(einsum("x,w->y", x, w) + bias)
//
// An axis of all three arrays counts the products; one of x and y is a row, one of w and y a column; those of x and w are
// summed over, and those of x alone before anything else. Arrays whose axes stand so that strides tell where a matrix is are read and written in place;
// others are put in order first.
#pragma once

#include <string>
#include <vector>

#include "vivace/common.h"

namespace vivace {

class Einsum {
public:
    // The arrays' axes by name, and sizes of those of x and w. bias: the sizes of its axes, the last ones of y's, 1 where it
    // is the same for all; none: no bias. Throws std::invalid_argument if names or sizes do not fit.
    Einsum(const std::u32string& x, const std::u32string& w, const std::u32string& y, const std::vector<index>& x_sizes,
           const std::vector<index>& w_sizes, const std::vector<index>& bias);

    index x_size = 1, w_size = 1, y_size = 1, bias_size = 0;  // elements
    std::vector<index> y_sizes;

    // An array seen as matrices: where the next one, a row and a column begin. Unless it is `direct` it has to be put in
    // order first; then these are strides in order.
    struct Layout {
        std::vector<index> sizes, strides;  // axes in order, products first
        index next = 0, row = 0, column = 0, size = 1;
        bool direct = false;
    };
    Layout x, w, y;
    std::vector<index> x_offsets;  // of the elements along the axes that x alone has
    index products = 1, rows = 1, inner = 1, columns = 1;
    std::vector<index> bias_sizes, bias_strides;  // along y's axes, joined where they are one
    bool is_dense = false;            // one product of dense matrices and a bias for each column: a dense layer
};

template <class T>
void einsum_forward(const Einsum& s, const T* x, const T* w, const T* bias, Activation activation, T* y);

// Overwrites dx; dw is overwritten, or added to with `add`; dbias is added to. Each may be null: not wanted.
template <class T>
void einsum_backward(const Einsum& s, const T* x, const T* w, const T* dy, T* dx, T* dw, T* dbias, bool add);

}  // namespace vivace
