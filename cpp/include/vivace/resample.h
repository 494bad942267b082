// Images taken at other places: under affine maps, and along one axis.
#pragma once

#include "vivace/common.h"

namespace vivace {

// What lies outside of an image: `constant` a value; `nearest` the border's pixels; `reflect` the image mirrored at its
// outer edges; `wrap` the image again.
enum class Fill { constant, nearest, reflect, wrap };

// How images (n, h, w, c) are taken.
struct Affine {
    index n, h, w, c;
    Fill fill;
    bool bilinear;  // or the nearest pixel
    double value;   // of `constant`
};

// y(i, p, q) = x(i) at column a0 q + a1 p + a2 and row b0 q + b1 p + b2, where maps (n, 2, 3) holds a and b of each image.
template <class T>
void affine_forward(const Affine& s, const double* maps, const T* x, T* y);
template <class T>
void affine_backward(const Affine& s, const double* maps, const T* dy, T* dx);

// y(o, p, i) = sum_k weights(p, k) x(o, first(p) + k, i), for x (outer, inputs, inner) and y (outer, outputs, inner): the
// product with a matrix whose nonzero elements stand close together. first(p) + width must not exceed `inputs`.
template <class T>
void multiply_bands(index outer, index inputs, index outputs, index inner, index width, const std::int32_t* first,
                    const T* weights, const T* x, T* y);

}  // namespace vivace
