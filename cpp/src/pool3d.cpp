#include "vivace/pool3d.h"

#include "parallel.h"
#include "positions.h"
#include "shapes.h"

namespace vivace {
namespace {

PoolAxis pool_axis(index size, const std::vector<Window>& windows) {
    const Window none{0, 0};
    const Window* before = &none;
    require("pool3d", !windows.empty(), "every axis must have a window");
    for (const Window& window : windows) {
        require("pool3d",
                window.first >= before->first && window.end >= before->end && window.first < window.end && window.end <= size,
                "windows must have elements, lie in an axis of " + std::to_string(size) + ", and ascend, received [" +
                    std::to_string(window.first) + ", " + std::to_string(window.end) + ")");
        before = &window;
    }
    PoolAxis axis{size, windows, {}};
    Window covering{0, 0};
    for (index i = 0; i < size; ++i) {
        while (covering.end < axis.outputs() && windows[static_cast<std::size_t>(covering.end)].first <= i) ++covering.end;
        while (covering.first < covering.end && windows[static_cast<std::size_t>(covering.first)].end <= i) ++covering.first;
        axis.covering.push_back(covering);
    }
    return axis;
}

// Elements along the width, of one slice and one row of a sample, with the windows that belong to these two.
struct Line {
    index sample, first;  // first: number of the first element in the whole array
    Window depth, height;
    index at_depth, at_height;
};

// Calls f(line) for each line of a volume in parallel: `depth` and `height` hold the windows or what covers the elements.
template <class F>
void for_each_line(const Pool3DShape& s, const std::vector<Window>& depth, const std::vector<Window>& height, index width,
                   F&& f) {
    const index slices = static_cast<index>(depth.size()), rows = static_cast<index>(height.size());
    const double cost = 4 * static_cast<double>(std::max(s.input_size(), s.output_size()));
    parallel_for(s.n * slices * rows, cost, [&](index task, int) {
        const index slice = task / rows % slices, row = task % rows;
        f(Line{task / rows / slices, task * width * s.c, depth[static_cast<std::size_t>(slice)],
               height[static_cast<std::size_t>(row)], slice, row});
    });
}

// Calls f(element of the output, elements of its box, lanes, for_each_of_box) for each vector of channels of each output;
// for_each_of_box(g) calls g(element of the input, its number in the box).
template <class T, class F>
void for_each_box(const Pool3DShape& s, F&& f) {
    const index row = s.width.size * s.c, slice = s.height.size * row;
    for_each_line(s, s.depth.windows, s.height.windows, s.width.outputs(), [&](const Line& line) {
        const index start = (line.sample * s.depth.size + line.depth.first) * slice + line.height.first * row;
        for (index q = 0; q < s.width.outputs(); ++q) {
            const Window columns = s.width.windows[static_cast<std::size_t>(q)];
            for_each_vector<T>(s.c, [&](index i, auto lanes_used) {
                f(line.first + q * s.c + i, line.depth.size() * line.height.size() * columns.size(), lanes_used,
                  [&](auto&& g) {
                      index at = 0;
                      for (index d = 0; d < line.depth.size(); ++d)
                          for (index h = 0; h < line.height.size(); ++h)
                              for (index w = columns.first; w < columns.end; ++w, ++at)
                                  g(start + d * slice + h * row + w * s.c + i, at);
                  });
            });
        }
    });
}

// The other way round: calls f(element of the input, lanes, for_each_output), and for_each_output(g) calls g(element of the
// output, number of the input's element in its box, elements of the box).
template <class T, class F>
void for_each_element(const Pool3DShape& s, F&& f) {
    const index row = s.width.outputs() * s.c, slice = s.height.outputs() * row;
    for_each_line(s, s.depth.covering, s.height.covering, s.width.size, [&](const Line& line) {
        const index start = line.sample * s.depth.outputs() * slice;
        for (index w = 0; w < s.width.size; ++w) {
            const Window columns = s.width.covering[static_cast<std::size_t>(w)];
            for_each_vector<T>(s.c, [&](index i, auto lanes_used) {
                f(line.first + w * s.c + i, lanes_used, [&](auto&& g) {
                    for (index z = line.depth.first; z < line.depth.end; ++z)
                        for (index p = line.height.first; p < line.height.end; ++p)
                            for (index q = columns.first; q < columns.end; ++q) {
                                const Window &deep = s.depth.windows[static_cast<std::size_t>(z)],
                                             &down = s.height.windows[static_cast<std::size_t>(p)],
                                             &across = s.width.windows[static_cast<std::size_t>(q)];
                                const index at = ((line.at_depth - deep.first) * down.size() + line.at_height - down.first) *
                                                     across.size() + w - across.first;
                                g(start + z * slice + p * row + q * s.c + i, at, deep.size() * down.size() * across.size());
                            }
                });
            });
        }
    });
}

// Where no element is in two windows, gradients are written box by box.
bool boxes_meet(const Pool3DShape& s) {
    for (const PoolAxis* axis : {&s.depth, &s.height, &s.width})
        for (const Window& covering : axis->covering)
            if (covering.size() > 1) return true;
    return false;
}

template <class T>
void fill_gaps(const Pool3DShape& s, T* dx) {
    bool gaps = false;
    for (const PoolAxis* axis : {&s.depth, &s.height, &s.width})
        for (const Window& covering : axis->covering) gaps |= covering.size() == 0;
    if (gaps) parallel_blocks(s.input_size(), 4, [&](index first, index last) { std::fill(dx + first, dx + last, T{}); });
}

}  // namespace

Pool3DShape pool3d_shape(const index (&input)[5], const std::vector<Window> (&windows)[3]) {
    require_sizes("pool3d", input);
    Pool3DShape s{input[0], pool_axis(input[1], windows[0]), pool_axis(input[2], windows[1]), pool_axis(input[3], windows[2]),
                  input[4], 1};
    for (const PoolAxis* axis : {&s.depth, &s.height, &s.width}) {
        index largest = 0;
        for (const Window& window : axis->windows) largest = std::max(largest, window.size());
        s.largest *= largest;
    }
    return s;
}

template <class T, class Position>
void max_pool3d_forward(const Pool3DShape& s, const T* x, T* y, Position* positions) {
    for_each_box<T>(s, [&](index out, index, auto lanes_used, auto&& for_each_of_box) {
        Winner<T> best(vec<T>{});
        for_each_of_box([&](index in, index at) {
            const vec<T> v = load_n(x + in, lanes_used);
            if (at == 0)
                best = Winner<T>(v);
            else
                best.meet(v, at);
        });
        store_n(y + out, best.value, lanes_used);
        if (positions) store_positions<T>(positions + out, best.position, lanes_used);
    });
}

template <class T, class Position>
void max_pool3d_backward(const Pool3DShape& s, const T* dy, const Position* positions, T* dx) {
    if (!boxes_meet(s)) {
        fill_gaps(s, dx);
        return for_each_box<T>(s, [&](index out, index, auto lanes_used, auto&& for_each_of_box) {
            const vec<T> gradient = load_n(dy + out, lanes_used);
            const auto position = load_positions<T>(positions + out, lanes_used);
            for_each_of_box([&](index in, index at) {
                store_n(dx + in, position == static_cast<int_of<T>>(at) ? gradient : vec<T>{}, lanes_used);
            });
        });
    }
    for_each_element<T>(s, [&](index in, auto lanes_used, auto&& for_each_output) {
        vec<T> sum{};
        for_each_output([&](index out, index at, index) {
            const auto here = load_positions<T>(positions + out, lanes_used) == static_cast<int_of<T>>(at);
            sum += here ? load_n(dy + out, lanes_used) : vec<T>{};
        });
        store_n(dx + in, sum, lanes_used);
    });
}

template <class T>
void average_pool3d_forward(const Pool3DShape& s, const T* x, T* y) {
    for_each_box<T>(s, [&](index out, index count, auto lanes_used, auto&& for_each_of_box) {
        vec<T> sum{};
        for_each_of_box([&](index in, index) { sum += load_n(x + in, lanes_used); });
        store_n(y + out, sum / static_cast<T>(count), lanes_used);
    });
}

template <class T>
void average_pool3d_backward(const Pool3DShape& s, const T* dy, T* dx) {
    if (!boxes_meet(s)) {
        fill_gaps(s, dx);
        return for_each_box<T>(s, [&](index out, index count, auto lanes_used, auto&& for_each_of_box) {
            const vec<T> share = load_n(dy + out, lanes_used) / static_cast<T>(count);
            for_each_of_box([&](index in, index) { store_n(dx + in, share, lanes_used); });
        });
    }
    for_each_element<T>(s, [&](index in, auto lanes_used, auto&& for_each_output) {
        vec<T> sum{};
        for_each_output([&](index out, index, index count) {
            sum += load_n(dy + out, lanes_used) / static_cast<T>(count);
        });
        store_n(dx + in, sum, lanes_used);
    });
}

#define INSTANTIATE_POSITIONS(T, Position)                                               \
    template void max_pool3d_forward(const Pool3DShape&, const T*, T*, Position*);       \
    template void max_pool3d_backward(const Pool3DShape&, const T*, const Position*, T*);
#define INSTANTIATE(T)                                                        \
    INSTANTIATE_POSITIONS(T, std::uint8_t)                                    \
    INSTANTIATE_POSITIONS(T, std::uint32_t)                                   \
    template void average_pool3d_forward(const Pool3DShape&, const T*, T*);   \
    template void average_pool3d_backward(const Pool3DShape&, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
