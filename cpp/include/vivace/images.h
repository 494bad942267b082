// Changes of images that keep their pixels where they are, or move whole rows: flips, the place of a part, tones. What is
// random depends on (seed, stream) and the image's number alone, so the backward pass draws it again.
#pragma once

#include "vivace/common.h"

namespace vivace {

// n images (h, w, c), of which `share` in a row have in common what is drawn: images whose channels come first are n times
// channels images of one channel, of which as many as there are channels belong together.
struct Images {
    index n, h, w, c, share = 1;

    index size() const { return n * h * w * c; }
    index drawn() const { return n / share; }
};

// Mirrors each image with probability 1/2, for each direction that is wanted. The same call on dy is the backward pass. y must
// not alias x.
template <class T>
void random_flip(const Images& s, bool vertical, bool horizontal, std::uint64_t seed, std::uint64_t stream, const T* x, T* y);

// Where a part of height x width begins.
struct Corner {
    index top, left;
};

// A place where such a part lies within the images, each as likely. `crop` of resample.h takes it out.
Corner random_corner(const Images& s, index height, index width, std::uint64_t seed, std::uint64_t stream);

// Changes of an image's values, by two numbers that are drawn for it, first and second; `gray` is the mean of a pixel's three
// channels with the weights 0.2989, 0.587 and 0.114 (of a single channel, that channel), `cut` is into the range.
//   brightness     cut(x + first)
//   contrast       cut((x - mean) first + mean), with the mean of each channel of the image
//   solarization   v = cut(x + first); where it is not below second, least + most - v
//   degeneration   cut(x + first (gray - x))
//   grayscale      gray, with the probability first
//   inversion      most - x, with the probability first
//   posterization  the first `bits` of cut(x)'s eight, as a part of the range: bits a whole number from first's lower bound on,
//                  below the upper one unless both are the same. It has no gradient.
// Of three channels, in terms of the largest V of a pixel's, their spread C and the hue:
//   hue            cut, the hue turned by first full circles, or with probability 1/2 as far the other way
//   saturation     C times first / (1 - first), within V times the range
// what V does not exceed has no hue: of `hue` the least value, of `saturation` 0.
enum class ToneChange { brightness, contrast, solarization, degeneration, grayscale, inversion, posterization, hue, saturation };

struct Tone {
    ToneChange change;
    double lower[2], upper[2];  // between which the numbers are drawn
    double least, most;         // the range
};

// y may alias x. Gray needs three channels, or one.
template <class T>
void random_tone_forward(const Images& s, const Tone& tone, std::uint64_t seed, std::uint64_t stream, const T* x, T* y);

// The gradient at x; what was cut has none. dx may alias dy.
template <class T>
void random_tone_backward(const Images& s, const Tone& tone, std::uint64_t seed, std::uint64_t stream, const T* x, const T* dy,
                          T* dx);

// Each channel of each image stretched from its smallest and largest value to the range. A channel of a single value, or with
// a NaN, stays as it is.
template <class T>
void stretch_forward(const Images& s, double least, double most, const T* x, T* y);
template <class T>
void stretch_backward(const Images& s, double least, double most, const T* x, const T* dy, T* dx);

// The histogram of each channel of each image, of so many bins, made even: of the values v = 255 (x - least) / (most - least),
// with b(v) = v (bins - 1) / 255 cut to a bin's number, y is in v's place
//   round(255 (N(b(v)) - N(b0)) / (N - N(b0))),   N(b): values of bins up to b, b0: the first that has any, N: all values.
// A channel of a single bin stays as it is.
template <class T>
void equalize(const Images& s, index bins, double least, double most, const T* x, T* y);

}  // namespace vivace
