// What shape values check, and how they say it.
#pragma once

#include <stdexcept>
#include <string>

#include "vivace/common.h"

namespace vivace {

template <std::size_t size>
std::string tuple(const index (&values)[size]) {
    std::string text;
    for (const index value : values) text += (text.empty() ? "(" : ", ") + std::to_string(value);
    return text + ")";
}

template <std::size_t size>
bool all_at_least(index bound, const index (&values)[size], std::size_t first = 0) {
    for (std::size_t i = first; i < size; ++i)
        if (values[i] < bound) return false;
    return true;
}

inline void require(const char* op, bool rule, const std::string& message) {
    if (!rule) throw std::invalid_argument(std::string(op) + ": " + message);
}

// There may be no samples, whose results are then empty; of everything else there must be some.
template <std::size_t size>
void require_sizes(const char* op, const index (&input)[size]) {
    require(op, input[0] >= 0 && all_at_least(1, input, 1),
            "every size of the input must be at least 1, that of the batch 0, received input " + tuple(input));
}

// Of a convolution over `rank` axes: input (n, axes, c), kernel (axes, c / groups, o), padding before and behind each axis.
template <std::size_t rank>
void require_convolution(const char* op, const index (&input)[rank + 2], const index (&kernel)[rank + 2],
                         const index (&strides)[rank], const index (&padding)[2 * rank], const index (&dilation)[rank],
                         index groups) {
    const std::string shapes = " (input " + tuple(input) + ", kernel " + tuple(kernel) + ")";
    require_sizes(op, input);
    require(op, all_at_least(1, kernel), "every size of the kernel must be at least 1, received kernel " + tuple(kernel));
    require(op, all_at_least(1, strides), "strides must be at least 1, received " + tuple(strides));
    require(op, all_at_least(1, dilation), "dilation must be at least 1, received " + tuple(dilation));
    require(op, all_at_least(0, padding), "padding must not be negative, received " + tuple(padding));
    constexpr index most = index{1} << 31;  // far from where sums of these overflow
    for (std::size_t i = 0; i < rank; ++i)
        require(op, strides[i] < most && dilation[i] < most && padding[2 * i] < most && padding[2 * i + 1] < most &&
                        input[i + 1] < most && kernel[i] < most,
                "sizes, strides, dilation and padding must be less than 2^31" + shapes);
    require(op, groups >= 1, "groups must be at least 1, received " + std::to_string(groups));
    const index channels = input[rank + 1], expected = kernel[rank] * groups;
    require(op, channels % groups == 0 && kernel[rank + 1] % groups == 0,
            "groups must divide the input's and the kernel's channels, received groups " + std::to_string(groups) + shapes);
    require(op, channels == expected, "input has " + std::to_string(channels) + " channels, kernel expects " +
                                          std::to_string(expected) + shapes);
    for (std::size_t i = 0; i < rank; ++i)
        require(op, input[i + 1] + padding[2 * i] + padding[2 * i + 1] > (kernel[i] - 1) * dilation[i],
                "the dilated kernel does not fit the padded input" + shapes);
}

}  // namespace vivace
