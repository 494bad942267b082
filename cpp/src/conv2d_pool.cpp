#include "vivace/conv2d_pool.h"

#include <stdexcept>
#include <string>

#include "one_channel.h"
#include "padded.h"
#include "positions.h"
#include "tile.h"
#include "windows.h"
#include "winograd.h"

namespace vivace {
namespace {

// Maximum over `size` rows of a stored tile, with its position; first maximum wins, NaN wins over all.
template <class T>
void pool_rows(const T* tile, index size, index columns, bool relu, T* y, std::uint8_t* positions) {
    for_each_vector<T>(columns, [&](index c, auto width) {
        Winner<T> winner(load(tile + c));
        for (index i = 1; i < size; ++i) winner.meet(load(tile + i * panel_columns<T> + c), i);
        store_n(y + c, relu ? maximum(vec<T>{}, winner.value) : winner.value, width);
        if (positions) store_positions<T>(positions + c, winner.position, width);
    });
}

}  // namespace

void check_conv2d_pool(const Conv2DShape& s, const Pool2DShape& pool) {
    const auto require = [](bool rule, const char* message) {
        if (!rule) throw std::invalid_argument(std::string("conv2d_pool: ") + message);
    };
    require(pool.n == s.n && pool.h == s.p && pool.w == s.q && pool.c == s.o,
            "the pool's input must be the convolution's output");
    require(pool.stride_h == pool.kh && pool.stride_w == pool.kw, "the pool's strides must equal its window");
    require(!(pool.pad_top + pool.pad_bottom + pool.pad_left + pool.pad_right), "the pool must not be padded");
    require(pool.kh * pool.kw <= 256, "the window must have at most 256 elements");
    require(s.groups == 1, "the convolution must have one group");
}

template <class T>
Conv2DPoolMethod conv2d_pool_method(const Conv2DShape& s, const Pool2DShape& pool, Direction direction) {
    const bool windows_2x2 = pool.kh == 2 && pool.kw == 2;
    const bool one_channel = s.c == 1 && s.kh == 3 && s.kw == 3 && s.stride_h == 1 && s.stride_w == 1 &&
                             s.dilation_h == 1 && s.dilation_w == 1 && windows_2x2;
    if (direction == Direction::forward) {
        if (one_channel) return Conv2DPoolMethod::one_channel;
        if (pool.kh * pool.kw > tile_rows) return Conv2DPoolMethod::separate;
        const bool winograd = conv2d_method(s, direction) == Conv2DMethod::winograd && windows_2x2;
        return winograd ? Conv2DPoolMethod::winograd : Conv2DPoolMethod::direct;
    }
    if (direction == Direction::weight_gradient && one_channel && std::is_same_v<T, float>)
        return Conv2DPoolMethod::one_channel;
    // Blocks are found by their distance from an image's start, in an integer of T's width.
    const index distance = std::max((s.h + s.pad_top + s.pad_bottom) * (s.w + s.pad_left + s.pad_right) * s.c, s.kernel_size());
    const bool structured = distance < (index{1} << 31) && s.groups == 1 && s.dilation_w == 1 && s.c % lanes<T> == 0;
    return structured ? Conv2DPoolMethod::structured : Conv2DPoolMethod::dense;
}

KernelForm kernel_form(const Conv2DShape& s, const Pool2DShape& pool) {
    switch (conv2d_pool_method<float>(s, pool, Direction::forward)) {
        case Conv2DPoolMethod::winograd: return {KernelForm::transformed, winograd::tile_sizes(pool)};
        case Conv2DPoolMethod::direct: return {KernelForm::panels};
        case Conv2DPoolMethod::separate: return kernel_form(s);
        default: return {KernelForm::original};
    }
}

template <class T>
void conv2d_pool_forward(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* w, const T* bias,
                         Activation activation, T* y, std::uint8_t* positions) {
    conv2d_pool_forward_prepared(s, pool, x, w, static_cast<const T*>(nullptr), bias, activation, y, positions);
}

template <class T>
void conv2d_pool_forward_prepared(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* w, const T* form,
                                  const T* bias, Activation activation, T* y, std::uint8_t* positions) {
    const Conv2DPoolMethod method = conv2d_pool_method<T>(s, pool, Direction::forward);
    if (method == Conv2DPoolMethod::separate) {
        Scratch<T> full(s.output_size());
        conv2d_forward_prepared(s, x, w, form, bias, activation, full.get());
        max_pool2d_forward(pool, full.get(), y, positions);
        return;
    }
    const bool relu = activation == Activation::relu;
    if (method == Conv2DPoolMethod::winograd)
        return winograd::conv2d_pool_forward(s, pool, x, w, form, bias, relu, y, positions);
    const Padded<T> in = padded_input(s, x);
    const Windows windows{s, pool, in.row_stride(), in.image_stride()};
    if (method == Conv2DPoolMethod::one_channel)
        return one_channel::conv2d_pool_forward(windows, in.data, w, bias, relu, y, positions);
    const Runs runs(s);
    const index k = s.kh * s.kw * s.c;
    Scratch<index> offsets(runs.count());
    for (index t = 0; t < runs.count(); ++t) offsets[t] = runs.offset(s, t, in.row_stride());
    Scratch<T> packed(form ? 0 : packed_size<T>(k, s.o));
    const Panels<T> panels = packed_panels(form ? form : packed.get(), k, s.o);

    const index size = pool.kh * pool.kw;  // pixels in a window
    const index all = s.n * windows.count(), per_tile = tile_rows / size;
    const index tiles = (all + per_tile - 1) / per_tile;
    // With few tiles (one image) threads share out the kernel's panels, each packed by the thread that uses it: packed by
    // another, its way from that core's cache would take as long as the products.
    const bool few = tiles <= 64 && panels.count() > 1;
    const index tasks = few ? 1 : std::min(tiles, std::max<index>(16, tiles / 8)), panel_tasks = few ? panels.count() : 1;
    if (!few && !form) pack_panels(w, s.o, false, index{0}, k, k, s.o, packed.get());
    parallel_for(tasks * panel_tasks, static_cast<double>(s.flops()), [&](index task, int) {
        const Part mine(tiles, tasks, task % tasks), my_panels(panels.count(), panel_tasks, task / tasks);
        if (few && !form) {
            const index first = my_panels.first * panel_columns<T>, columns = std::min(panel_columns<T>, s.o - first);
            pack_panels(w + first, s.o, false, index{0}, k, k, columns, packed + first * k);
        }
        alignas(64) T result[tile_rows * panel_columns<T>];
        Tile<T> tile{};
        tile.offsets = offsets;
        tile.taps = runs.count();
        tile.k = runs.length;
        for (index r = 0; r < tile_rows; ++r) tile.c[r] = result + r * panel_columns<T>;
        for (index j = my_panels.first; j < my_panels.last; ++j) {
            panels.select(j, tile);
            const index columns = tile.columns;
            tile.bias = bias ? bias + j * panel_columns<T> : nullptr;
            for (index i = mine.first; i < mine.last; ++i) {
                const Part part(all, tiles, i);
                index r = 0;
                for (index window = part.first; window < part.last; ++window) {
                    const T* start = in.data + window / windows.count() * in.image_stride() +
                                     windows.start(window % windows.count());
                    for (index position = 0; position < size; ++position)
                        tile.a[r++] = start + windows.pixel(position);
                }
                tile.rows = r;
                multiply_by_rows(tile);
                for (index window = part.first; window < part.last; ++window) {
                    const index out = window * s.o + j * panel_columns<T>;
                    pool_rows(result + (window - part.first) * size * panel_columns<T>, size, columns, relu, y + out,
                              positions ? positions + out : nullptr);
                }
            }
        }
    });
}

#define INSTANTIATE(T)                                                                                                \
    template Conv2DPoolMethod conv2d_pool_method<T>(const Conv2DShape&, const Pool2DShape&, Direction);                \
    template void conv2d_pool_forward(const Conv2DShape&, const Pool2DShape&, const T*, const T*, const T*,           \
                                      Activation, T*, std::uint8_t*);                                                 \
    template void conv2d_pool_forward_prepared(const Conv2DShape&, const Pool2DShape&, const T*, const T*, const T*,  \
                                               const T*, Activation, T*, std::uint8_t*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
