// Images taken at other places: under affine maps, and along one axis.
#pragma once

#include <vector>

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

// Such a matrix.
struct Bands {
    index inputs, width;
    std::vector<std::int32_t> first;  // of each output
    std::vector<double> weights;      // (outputs, width)
    std::vector<float> rounded;

    index outputs() const { return static_cast<index>(first.size()); }
    const float* weights_as(float) const { return rounded.data(); }
    const double* weights_as(double) const { return weights.data(); }
};

// Arrays (n, ..., c), and a matrix for each of the axes between.
struct Resampling {
    index n, c;
    std::vector<Bands> axes;

    index input_size() const;
    index output_size() const;
};

// y = x multiplied by all of them, the last axis first.
template <class T>
void resample(const Resampling& s, const T* x, T* y);

// Zeros around (n, a, b, c, channels): so many before and behind along a, b and c.
struct Margins {
    index n, sizes[3], before[3], behind[3], channels;

    index whole(int axis) const { return before[axis] + sizes[axis] + behind[axis]; }
    index inner_size() const { return n * sizes[0] * sizes[1] * sizes[2] * channels; }
    index outer_size() const { return n * whole(0) * whole(1) * whole(2) * channels; }
};

// y = x with them. x = y without them.
template <class T>
void pad(const Margins& s, const T* x, T* y);
template <class T>
void crop(const Margins& s, const T* y, T* x);

}  // namespace vivace
