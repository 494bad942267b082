// Images taken at other places: under affine maps, and along one axis.
#pragma once

#include <vector>

#include "vivace/common.h"

namespace vivace {

// What lies outside of an image: `constant` a value; `nearest` the border's pixels; `reflect` the image mirrored at its
// outer edges; `wrap` the image again.
enum class Fill { constant, nearest, reflect, wrap };

// How images (n, h, w, c) are taken, `share` of which in a row are moved alike (see images.h).
struct Affine {
    index n, h, w, c;
    Fill fill;
    bool bilinear;  // or the nearest pixel
    double value;   // of `constant`
    index share = 1;
};

// y(i, p, q) = x(i) at column a0 q + a1 p + a2 and row b0 q + b1 p + b2, where maps (n / share, 2, 3) holds a and b.
template <class T>
void affine_forward(const Affine& s, const double* maps, const T* x, T* y);
template <class T>
void affine_backward(const Affine& s, const double* maps, const T* dy, T* dx);

// What is drawn, each time two numbers, first and second. A turn by `first` full turns about the centre, counterclockwise; a
// zoom about the centre that shows 1 + first as much of the height and 1 + second of the width; a shift by `first` heights
// down and `second` widths to the right; a shear that takes from `first` rows further to the right for each row and `second`
// columns further down for each column, or, as likely, both the other way.
enum class Movement { turn, zoom, shift, shear };

struct RandomMovement {
    Movement movement;
    double lower[2], upper[2];  // of what is drawn
    bool alike;                 // second = first
};

// Maps (n, 2, 3) of n images, image i's from (seed, stream, i) alone.
void random_maps(const RandomMovement& r, index n, index h, index w, std::uint64_t seed, std::uint64_t stream, double* maps);

// affine_forward and affine_backward with these maps.
template <class T>
void random_affine_forward(const Affine& s, const RandomMovement& r, std::uint64_t seed, std::uint64_t stream, const T* x,
                           T* y);
template <class T>
void random_affine_backward(const Affine& s, const RandomMovement& r, std::uint64_t seed, std::uint64_t stream, const T* dy,
                            T* dx);

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
