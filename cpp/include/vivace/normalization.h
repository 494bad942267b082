// Normalization over groups of channels (batch, group and instance normalization) and over rows (layer and root mean
// square normalization). gamma and beta, one for each channel or column, may be null: 1 and 0.
#pragma once

#include "vivace/common.h"

namespace vivace {

// x (samples, rows, channels); a sample's channels are split into `groups` equal groups with statistics of their own.
// Batch normalization is one sample with a group for every channel.
struct GroupNormShape {
    index samples, rows, channels, groups;

    index size() const { return samples * rows * channels; }
    index group_size() const { return channels / groups; }
};

// Mean and variance (divided by the count, not the count - 1), each (samples, groups), over the rows whose mask
// (samples, rows) is not 0; a null mask counts all. Of no rows both are 0.
template <class T>
void group_norm_moments(const GroupNormShape& s, const T* x, const std::uint8_t* mask, T* mean, T* variance);

// y = (x - mean) / sqrt(variance + epsilon) * gamma + beta, plus the residual, of x's shape, unless that is null; with
// `relu` negative values become 0. y may alias x and the residual.
template <class T>
void group_norm_forward(const GroupNormShape& s, const T* x, const T* mean, const T* variance, double epsilon,
                        const T* gamma, const T* beta, const T* residual, bool relu, T* y);

// With n = (x - mean) / sqrt(variance + epsilon), g = dy gamma and the sums over a group, m of whose elements count:
//   dx = (g - counts (sum(g) + n sum(g n)) / m) / sqrt(variance + epsilon)      dgamma += sum(dy n)   dbeta += sum(dy)
// With `constant`, mean and variance did not come from x: dx = g / sqrt(variance + epsilon). dx, dgamma and dbeta may be
// null: not wanted; dx may alias dy. Behind a ReLU give its output y, otherwise null: dy then first becomes the gradient
// before the ReLU, which is the residual's.
template <class T>
void group_norm_backward(const GroupNormShape& s, const T* x, const std::uint8_t* mask, const T* mean,
                         const T* variance, double epsilon, const T* gamma, const T* y, T* dy, bool constant, T* dx,
                         T* dgamma, T* dbeta);

// What a row is normalized by. layer: (x - mean) / sqrt(variance + epsilon); rms: x / sqrt(mean(x^2) + epsilon);
// deviation: x / sqrt(variance + epsilon).
enum class RowNorm { layer, rms, deviation };

// y = normalized(x) * gamma + beta over each of the rows; mean and scale (rows, null in inference) are kept for
// backward, where scale is 1 / sqrt(...). y may alias x.
template <class T>
void row_norm_forward(RowNorm kind, index rows, index columns, const T* x, const T* gamma, const T* beta,
                      double epsilon, T* y, T* mean, T* scale);

// dgamma and dbeta accumulate, and may be null, as may dx. dx may alias dy.
template <class T>
void row_norm_backward(RowNorm kind, index rows, index columns, const T* x, const T* gamma, const T* mean,
                       const T* scale, const T* dy, T* dx, T* dgamma, T* dbeta);

}  // namespace vivace
