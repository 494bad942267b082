#include "vivace/pool2d.h"

#include <limits>

#include "parallel.h"
#include "positions.h"
#include "shapes.h"

namespace vivace {
namespace {

// The part of window row or column `i` that lies inside the image: [first, last).
struct Span {
    index start, first, last;  // start: where the window begins, possibly in the padding
    Span(index i, index stride, index pad, index window, index size)
        : start(i * stride - pad), first(std::max<index>(start, 0)), last(std::min(start + window, size)) {}
};

// Calls f(n, p, rows) for every row of output windows in parallel.
template <class T, class F>
void for_each_row(const Pool2DShape& s, F&& f) {
    parallel_for(s.n * s.p, static_cast<double>(s.input_size() * 4), [&](index task, int) {
        f(task / s.p, task % s.p, Span(task % s.p, s.stride_h, s.pad_top, s.kh, s.h));
    });
}

bool windows_overlap(const Pool2DShape& s) { return s.stride_h < s.kh || s.stride_w < s.kw; }

// Backward passes write each input element once where windows do not overlap: a task owns the input rows from its
// window row's first to the next one's (so also the gap that no window covers). Overlapping windows add up, in
// window order, within one image per task.
template <class T, class F>
void for_each_backward_row(const Pool2DShape& s, T* dx, F&& f) {
    const index image = s.h * s.w * s.c;
    const double cost = static_cast<double>(s.input_size() * 4);
    if (windows_overlap(s)) {
        parallel_for(s.n, cost, [&](index n, int) {
            std::fill_n(dx + n * image, image, T{});
            for (index p = 0; p < s.p; ++p) f(n, p, Span(p, s.stride_h, s.pad_top, s.kh, s.h));
        });
        return;
    }
    const bool covered = s.stride_h == s.kh && s.stride_w == s.kw;
    parallel_for(s.n * s.p, cost, [&](index task, int) {
        const index n = task / s.p, p = task % s.p;
        const Span rows(p, s.stride_h, s.pad_top, s.kh, s.h);
        const index next = p + 1 < s.p ? Span(p + 1, s.stride_h, s.pad_top, s.kh, s.h).first : s.h;
        T* out = dx + n * image;
        // Whatever no window reaches is zero: all of it first where there are gaps, else the rest of the last windows.
        const index reached = s.q * s.stride_w - s.pad_left;
        if (!covered) {
            std::fill(out + rows.first * s.w * s.c, out + next * s.w * s.c, T{});
        } else {
            for (index h = rows.first; h < rows.last && reached < s.w; ++h)
                std::fill(out + (h * s.w + reached) * s.c, out + (h + 1) * s.w * s.c, T{});
            std::fill(out + rows.last * s.w * s.c, out + std::max(next, rows.last) * s.w * s.c, T{});
        }
        f(n, p, rows);
    });
}

}  // namespace

Pool2DShape pool2d_shape(const index (&input)[4], const index (&window)[2], const index (&strides)[2],
                         const index (&padding)[4]) {
    require_sizes("pool2d", input);
    require("pool2d", all_at_least(1, window), "the window must be at least (1, 1), received " + tuple(window));
    require("pool2d", all_at_least(1, strides), "strides must be at least 1, received " + tuple(strides));
    for (index i = 0; i < 4; ++i)
        require("pool2d", padding[i] >= 0 && padding[i] < window[i / 2],
                "padding must not be negative and be smaller than the window, received padding " +
                    std::to_string(padding[i]) + " with window " + tuple(window));
    const index h = input[1] + padding[0] + padding[1], w = input[2] + padding[2] + padding[3];
    require("pool2d", window[0] <= h && window[1] <= w,
            "window " + tuple(window) + " does not fit the padded input " + tuple({h, w}));
    Pool2DShape s{input[0], input[1], input[2], input[3], window[0], window[1], 0, 0, strides[0], strides[1],
                  padding[0], padding[1], padding[2], padding[3]};
    s.p = (h - window[0]) / strides[0] + 1;
    s.q = (w - window[1]) / strides[1] + 1;
    return s;
}

template <class T, class Position>
void max_pool2d_forward(const Pool2DShape& s, const T* x, T* y, Position* positions) {
    using Ints = vec<int_of<T>>;
    for_each_row<T>(s, [&](index n, index p, const Span& rows) {
        for (index q = 0; q < s.q; ++q) {
            const Span columns(q, s.stride_w, s.pad_left, s.kw, s.w);
            const index out = ((n * s.p + p) * s.q + q) * s.c;
            for_each_vector<T>(s.c, [&](index c, auto width) {
                vec<T> best = broadcast(-std::numeric_limits<T>::infinity());
                Ints where = Ints{} + static_cast<int_of<T>>((rows.first - rows.start) * s.kw + columns.first - columns.start);
                for (index h = rows.first; h < rows.last; ++h)
                    for (index w = columns.first; w < columns.last; ++w) {
                        const vec<T> v = load_n(x + ((n * s.h + h) * s.w + w) * s.c + c, width);
                        const Ints wins = (v > best) | (v != v);  // NaN wins and stays: nothing exceeds it
                        best = wins ? v : best;
                        const auto here = static_cast<int_of<T>>((h - rows.start) * s.kw + (w - columns.start));
                        where = wins ? Ints{} + here : where;
                    }
                store_n(y + out + c, best, width);
                if (positions) store_positions<T>(positions + out + c, where, width);
            });
        }
    });
}

template <class T, class Position>
void max_pool2d_backward(const Pool2DShape& s, const T* dy, const Position* positions, T* dx) {
    const bool overlap = windows_overlap(s);
    for_each_backward_row(s, dx, [&](index n, index p, const Span& rows) {
        for (index q = 0; q < s.q; ++q) {
            const Span columns(q, s.stride_w, s.pad_left, s.kw, s.w);
            const index in = ((n * s.p + p) * s.q + q) * s.c;
            for_each_vector<T>(s.c, [&](index c, auto width) {
                const vec<T> gradient = load_n(dy + in + c, width);
                const auto where = load_positions<T>(positions + in + c, width);
                for (index h = rows.first; h < rows.last; ++h)
                    for (index w = columns.first; w < columns.last; ++w) {
                        const auto here = static_cast<int_of<T>>((h - rows.start) * s.kw + (w - columns.start));
                        vec<T> v = where == here ? gradient : vec<T>{};
                        T* out = dx + ((n * s.h + h) * s.w + w) * s.c + c;
                        if (overlap) v += load_n(out, width);
                        store_n(out, v, width);
                    }
            });
        }
    });
}

template <class T>
void average_pool2d_forward(const Pool2DShape& s, const T* x, T* y) {
    for_each_row<T>(s, [&](index n, index p, const Span& rows) {
        for (index q = 0; q < s.q; ++q) {
            const Span columns(q, s.stride_w, s.pad_left, s.kw, s.w);
            const T count = static_cast<T>((rows.last - rows.first) * (columns.last - columns.first));
            T* out = y + ((n * s.p + p) * s.q + q) * s.c;
            for_each_vector<T>(s.c, [&](index c, auto width) {
                vec<T> sum{};
                for (index h = rows.first; h < rows.last; ++h)
                    for (index w = columns.first; w < columns.last; ++w)
                        sum += load_n(x + ((n * s.h + h) * s.w + w) * s.c + c, width);
                store_n(out + c, sum / count, width);
            });
        }
    });
}

template <class T>
void average_pool2d_backward(const Pool2DShape& s, const T* dy, T* dx) {
    const bool overlap = windows_overlap(s);
    for_each_backward_row(s, dx, [&](index n, index p, const Span& rows) {
        for (index q = 0; q < s.q; ++q) {
            const Span columns(q, s.stride_w, s.pad_left, s.kw, s.w);
            const T count = static_cast<T>((rows.last - rows.first) * (columns.last - columns.first));
            const T* in = dy + ((n * s.p + p) * s.q + q) * s.c;
            for_each_vector<T>(s.c, [&](index c, auto width) {
                const vec<T> share = load_n(in + c, width) / count;
                for (index h = rows.first; h < rows.last; ++h)
                    for (index w = columns.first; w < columns.last; ++w) {
                        T* out = dx + ((n * s.h + h) * s.w + w) * s.c + c;
                        store_n(out, overlap ? load_n(out, width) + share : share, width);
                    }
            });
        }
    });
}

#define INSTANTIATE_POSITIONS(T, Position)                                               \
    template void max_pool2d_forward(const Pool2DShape&, const T*, T*, Position*);       \
    template void max_pool2d_backward(const Pool2DShape&, const T*, const Position*, T*);
#define INSTANTIATE(T)                                                        \
    INSTANTIATE_POSITIONS(T, std::uint8_t)                                    \
    INSTANTIATE_POSITIONS(T, std::uint32_t)                                   \
    template void average_pool2d_forward(const Pool2DShape&, const T*, T*);   \
    template void average_pool2d_backward(const Pool2DShape&, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
