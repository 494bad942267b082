// Convolution as implicit GEMM: the column matrix of im2col is never stored. A run of neighbouring channels (and, with
// dilation 1, of a whole kernel row: NHWC keeps it contiguous) is one tap of the microkernel in tile.h; the three
// directions differ only in what is a row, a tap and a panel:
//
//   direction        rows of C            taps                        panels of B
//   forward          output pixels        kernel rows                 the kernel, packed
//   input gradient   input pixels         kernel rows, mirrored       the kernel, transposed and packed
//   weight gradient  kernel elements      output rows                 dy, in place
//
// Zero padding is made real: a padded image is copied once into scratch, so that the inner loop never asks.
#include "vivace/conv2d.h"

#include "padded.h"
#include "tile.h"
#include "vivace/depthwise2d.h"
#include "vivace/elementwise.h"
#include "vivace/gemm.h"
#include "winograd.h"

namespace vivace {
namespace {

// A small array of offsets, on the scratch stack.
struct Offsets : Scratch<index> {
    using Scratch<index>::Scratch;
};

// Walks the pixels of an (n, rows, columns) grid in order without a division per pixel.
struct PixelWalk {
    index rows, columns, image, row, column;

    PixelWalk(index first, index rows_, index columns_)
        : rows(rows_), columns(columns_), image(first / (rows_ * columns_)), row(first / columns_ % rows_),
          column(first % columns_) {}
    void next() {
        if (++column < columns) return;
        column = 0;
        if (++row < rows) return;
        row = 0;
        ++image;
    }
};

// An activation that the tiles do not apply.
template <class T>
void finish(const Conv2DShape& s, Activation activation, T* y) {
    if (activation != Activation::linear && activation != Activation::relu)
        activation_forward(activation, s.output_size(), y, y);
}

}  // namespace

KernelForm kernel_form(const Conv2DShape& s) {
    const Conv2DMethod method = conv2d_method(s, Direction::forward);
    if (method == Conv2DMethod::winograd) return {KernelForm::transformed, winograd::tile_sizes(s)};
    return {method == Conv2DMethod::direct ? KernelForm::panels : KernelForm::original};
}

template <class T>
index kernel_form_size(const Conv2DShape& s, KernelForm form) {
    if (form.kind == KernelForm::panels) return s.groups * packed_size<T>(s.kh * s.kw * (s.c / s.groups), s.o / s.groups);
    return form.kind == KernelForm::transformed ? winograd::transformed_size<T>(s, form.tile_sizes) : 0;
}

template <class T>
void prepare_kernel(const Conv2DShape& s, KernelForm form, const T* w, T* prepared) {
    if (form.kind == KernelForm::transformed) return winograd::transform_kernel(s, form.tile_sizes, w, prepared);
    if (form.kind == KernelForm::original) return;
    const index og = s.o / s.groups, k = s.kh * s.kw * (s.c / s.groups);
    for (index g = 0; g < s.groups; ++g)
        pack_panels(w + g * og, s.o, false, index{0}, k, k, og, prepared + g * packed_size<T>(k, og));
}

template <class T>
void conv2d_forward(const Conv2DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y) {
    conv2d_forward_prepared(s, x, w, static_cast<const T*>(nullptr), bias, activation, y);
}

template <class T>
void conv2d_forward_prepared(const Conv2DShape& s, const T* x, const T* w, const T* form, const T* bias,
                             Activation activation, T* y) {
    const Conv2DMethod method = conv2d_method(s, Direction::forward);
    if (method == Conv2DMethod::pointwise)
        return dense_forward(s.n * s.p * s.q, s.c, s.o, x, w, bias, activation, y);
    if (method == Conv2DMethod::depthwise) return depthwise2d_forward(s, x, w, bias, activation, y);
    if (method == Conv2DMethod::winograd) {
        winograd::conv2d_forward(s, x, w, form, bias, activation == Activation::relu, y);
        return finish(s, activation, y);
    }
    const Padded<T> in = padded_input(s, x);
    const Runs runs(s);
    const index cg = s.c / s.groups, og = s.o / s.groups, k = s.kh * s.kw * cg;
    Offsets offsets(runs.count());
    for (index t = 0; t < runs.count(); ++t) offsets[t] = runs.offset(s, t, in.row_stride());
    Scratch<T> packed(form ? 0 : packed_size<T>(k, og));
    for (index g = 0; g < s.groups; ++g) {
        if (!form) pack_panels(w + g * og, s.o, false, index{0}, k, k, og, packed.get());
        const T* panels = form ? form + g * packed_size<T>(k, og) : packed.get();
        Tile<T> tile{};
        tile.offsets = offsets;
        tile.taps = runs.count();
        tile.k = runs.length;
        tile.bias = bias ? bias + g * og : nullptr;
        tile.relu = activation == Activation::relu;
        multiply_gathered(s.n * s.p * s.q, packed_panels(panels, k, og), tile,
                          [&](index first, index rows, const T** a, T** c) {
                              PixelWalk pixel(first, s.p, s.q);
                              for (index r = 0; r < rows; ++r, pixel.next()) {
                                  a[r] = in.data + pixel.image * in.image_stride() +
                                         pixel.row * s.stride_h * in.row_stride() + pixel.column * s.stride_w * s.c +
                                         g * cg;
                                  c[r] = y + (first + r) * s.o + g * og;
                              }
                          });
    }
    finish(s, activation, y);
}

namespace {

// One axis of the input gradient. Input coordinates with the same phase (h + pad) mod stride meet the same kernel
// taps; over such a phase the gradient is a stride-1 convolution of dy: coordinate t*stride + phase - pad takes
// dy(t - shift(i)) for the taps i with (i*dilation) mod stride == phase.
struct Axis {
    index size, out, k, stride, pad, dilation;

    index first(index phase) const { return std::max<index>(0, (pad - phase + stride - 1) / stride); }  // of t
    index last(index phase) const {  // one past the last t
        const index top = size - 1 + pad - phase;
        return top < 0 ? 0 : top / stride + 1;
    }
    bool meets(index phase, index i) const { return i * dilation % stride == phase; }
    index shift(index phase, index i) const { return (i * dilation - phase) / stride; }

    // How far the taps reach before dy's first and past its last element.
    index reach_before() const { return reach([&](index phase, index i) { return shift(phase, i) - first(phase); }); }
    index reach_after() const {
        return reach([&](index phase, index i) { return last(phase) - 1 - shift(phase, i) - (out - 1); });
    }

private:
    template <class F>
    index reach(F&& distance) const {
        index far = 0;
        for (index phase = 0; phase < stride; ++phase)
            for (index i = 0; i < k; ++i)
                if (meets(phase, i) && first(phase) < last(phase)) far = std::max(far, distance(phase, i));
        return far;
    }
};

}  // namespace

template <class T>
void conv2d_input_gradient(const Conv2DShape& s, const T* dy, const T* w, T* dx) {
    const Conv2DMethod method = conv2d_method(s, Direction::input_gradient);
    if (method == Conv2DMethod::pointwise) return dense_input_gradient(s.n * s.p * s.q, s.c, s.o, dy, w, dx);
    if (method == Conv2DMethod::depthwise) return depthwise2d_input_gradient(s, dy, w, dx);
    if (method == Conv2DMethod::winograd) return winograd::conv2d_input_gradient(s, dy, w, dx);
    const Axis down{s.h, s.p, s.kh, s.stride_h, s.pad_top, s.dilation_h};
    const Axis right{s.w, s.q, s.kw, s.stride_w, s.pad_left, s.dilation_w};
    const index top = down.reach_before(), left = right.reach_before();
    const Padded<T> grad(dy, s.n, s.p, s.q, s.o, top, down.reach_after(), left, right.reach_after());
    const index cg = s.c / s.groups, og = s.o / s.groups;
    // With stride and dilation 1 the mirrored kernel row is one contiguous run of dy.
    const bool whole_row = s.groups == 1 && s.stride_w == 1 && (s.dilation_w == 1 || s.kw == 1);
    const index length = whole_row ? s.kw * og : og;
    Offsets offsets(s.kh * s.kw);
    Scratch<T> packed(packed_size<T>(s.kh * s.kw * og, cg));

    for (index task = 0; task < s.groups * s.stride_h * s.stride_w; ++task) {
        const index g = task % s.groups, phase_h = task / s.groups % s.stride_h,
                    phase_w = task / s.groups / s.stride_h;
        const index first_h = down.first(phase_h), rows_h = down.last(phase_h) - first_h;
        const index first_w = right.first(phase_w), rows_w = right.last(phase_w) - first_w;
        if (rows_h <= 0 || rows_w <= 0) continue;

        index taps = 0, k = 0;
        for (index i = 0; i < s.kh; ++i) {
            if (!down.meets(phase_h, i)) continue;
            const index row = (first_h + top - down.shift(phase_h, i)) * grad.row_stride();
            if (whole_row) offsets[taps++] = row + (first_w + left - (s.kw - 1)) * s.o;
            for (index j = s.kw - 1; j >= 0; --j) {
                if (!right.meets(phase_w, j)) continue;
                if (!whole_row) offsets[taps++] = row + (first_w + left - right.shift(phase_w, j)) * s.o;
                k += og;
            }
        }
        index packed_rows = 0;
        for (index i = 0; i < s.kh; ++i)
            for (index j = s.kw - 1; j >= 0; --j) {
                if (!down.meets(phase_h, i) || !right.meets(phase_w, j)) continue;
                pack_panels(w + (i * s.kw + j) * cg * s.o + g * og, s.o, true, packed_rows, og, k, cg, packed.get());
                packed_rows += og;
            }
        Tile<T> tile{};
        tile.offsets = offsets;
        tile.taps = taps;
        tile.k = length;
        multiply_gathered(
            s.n * rows_h * rows_w, packed_panels(packed.get(), k, cg), tile,
            [&](index first, index rows, const T** a, T** c) {
                PixelWalk pixel(first, rows_h, rows_w);
                for (index r = 0; r < rows; ++r, pixel.next()) {
                    a[r] = grad.data + pixel.image * grad.image_stride() + pixel.row * grad.row_stride() +
                           pixel.column * s.o + g * og;
                    const index h = (first_h + pixel.row) * s.stride_h + phase_h - s.pad_top;
                    const index col = (first_w + pixel.column) * s.stride_w + phase_w - s.pad_left;
                    c[r] = dx + ((pixel.image * s.h + h) * s.w + col) * s.c + g * cg;
                }
            });
    }
}

namespace {

// The weight gradient sums over every output row. Its tasks are (group of tiles) x (group of output rows): tiles first,
// since they share nothing; only a kernel with few tiles splits the sum too, into parts that depend on nothing but the
// shape, so that the result has the same bits for every thread count.
template <class T>
struct WeightGradient {
    // Pixels that a tile sums at least before it goes back to memory: reading and writing dw must not set the pace.
    static constexpr index min_steps = 256;

    const Conv2DShape& s;
    const Padded<T> in;
    const Runs runs;
    const index cg, og, row_tiles, panels, tiles, tile_tasks, sum_tasks, rows_per_chunk;
    Offsets row_offsets;  // of each output row's first window in the padded input

    WeightGradient(const Conv2DShape& shape, const T* x)
        : s(shape), in(padded_input(shape, x)), runs(shape), cg(s.c / s.groups), og(s.o / s.groups),
          row_tiles((runs.length + tile_rows - 1) / tile_rows),
          panels((og + panel_columns<T> - 1) / panel_columns<T>),
          tiles(s.groups * runs.count() * row_tiles * panels), tile_tasks(std::min<index>(tiles, 16)),
          sum_tasks(std::min(s.n * s.p, (16 + tiles - 1) / tiles)),
          rows_per_chunk(std::max<index>(min_steps / s.q + 1, 192 * 1024 / bytes_per_row())), row_offsets(s.n * s.p) {
        for (index row = 0; row < s.n * s.p; ++row)
            row_offsets[row] = row / s.p * in.image_stride() + row % s.p * s.stride_h * in.row_stride();
    }

    index bytes_per_row() const {
        return static_cast<index>(sizeof(T)) * (in.row_stride() * s.stride_h + s.q * s.o);
    }

    // Sums output rows [rows.first, rows.last) for the given tiles. A chunk of rows that fits L2 serves all of the
    // task's tiles before the next chunk is touched.
    void run(Part my_tiles, Part rows, const T* dy, index ldy, T* dw, T* db) const {
        Tile<T> tile{};
        tile.k = s.q;
        tile.a_step = s.stride_w * s.c;
        tile.accumulate = true;
        for (index row = rows.first; row < rows.last; row += rows_per_chunk) {
            tile.offsets = row_offsets + row;
            tile.taps = std::min(rows_per_chunk, rows.last - row);
            for (index i = my_tiles.first; i < my_tiles.last; ++i) {
                const index m = i % row_tiles, t = i / row_tiles % runs.count(), j = i / row_tiles / runs.count() % panels,
                            g = i / row_tiles / runs.count() / panels;
                const Part elements(runs.length, row_tiles, m);
                const T* b = dy + row * s.q * ldy + g * og + j * panel_columns<T>;
                const Panels<T> panel{b, std::min(panel_columns<T>, og - j * panel_columns<T>), 0, ldy};
                panel.select(0, tile);
                tile.rows = elements.size();
                tile.a[0] = in.data + runs.offset(s, t, in.row_stride()) + g * cg + elements.first;
                for (index r = 0; r < tile.rows; ++r)
                    tile.c[r] = dw + (t * runs.length + elements.first + r) * s.o + g * og + j * panel_columns<T>;
                multiply_by_columns(tile);
                if (db && t == 0 && m == 0)
                    add_column_sums(tile.taps * s.q, tile.columns, b, ldy, db + g * og + j * panel_columns<T>);
            }
        }
    }
};

}  // namespace

template <class T>
void conv2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db) {
    const Conv2DMethod method = conv2d_method(s, Direction::weight_gradient);
    if (method == Conv2DMethod::pointwise) return dense_weight_gradient(s.n * s.p * s.q, s.c, s.o, x, dy, dw, db);
    if (method == Conv2DMethod::depthwise) return depthwise2d_weight_gradient(s, x, dy, dw, db);
    if (method == Conv2DMethod::winograd) return winograd::conv2d_weight_gradient(s, x, dy, dw, db);
    const WeightGradient<T> gradient(s, x);
    const index pixels = s.n * s.p * s.q;
    // The microkernel reads dy by whole registers: a ragged channel count needs spare columns behind the last row.
    const bool ragged = gradient.og % lanes<T> != 0;
    const index ldy = ragged ? s.o + lanes<T> : s.o;
    Scratch<T> spare(ragged ? pixels * ldy : 0);
    if (ragged)
        parallel_blocks(pixels, static_cast<double>(s.o), [&](index first, index last) {
            for (index i = first; i < last; ++i) {
                std::copy_n(dy + i * s.o, s.o, spare + i * ldy);
                std::fill_n(spare + i * ldy + s.o, lanes<T>, T{});
            }
        });
    const T* source = ragged ? spare.get() : dy;

    const index parts = gradient.sum_tasks, part_size = parts > 1 ? s.kernel_size() + s.o : 0;
    Scratch<T> partial(parts * part_size);
    std::fill_n(partial.get(), parts * part_size, T{});
    const double flops = static_cast<double>(s.flops());
    parallel_for(gradient.tile_tasks * parts, flops, [&](index task, int) {
        const index part = task / gradient.tile_tasks;
        const Part tiles(gradient.tiles, gradient.tile_tasks, task % gradient.tile_tasks);
        const Part rows(s.n * s.p, parts, part);
        T* sums = parts > 1 ? partial + part * part_size : dw;
        T* bias_sums = parts > 1 && db ? sums + s.kernel_size() : db;
        gradient.run(tiles, rows, source, ldy, sums, bias_sums);
    });
    for (index part = 0; part < (parts > 1 ? parts : 0); ++part) {
        const T* sums = partial + part * part_size;
        for (index i = 0; i < s.kernel_size(); ++i) dw[i] += sums[i];
        for (index i = 0; db && i < s.o; ++i) db[i] += sums[s.kernel_size() + i];
    }
}

#define INSTANTIATE(T)                                                                                          \
    template void conv2d_forward(const Conv2DShape&, const T*, const T*, const T*, Activation, T*);             \
    template void conv2d_forward_prepared(const Conv2DShape&, const T*, const T*, const T*, const T*, Activation, \
                                          T*);                                                                  \
    template index kernel_form_size<T>(const Conv2DShape&, KernelForm);                                         \
    template void prepare_kernel(const Conv2DShape&, KernelForm, const T*, T*);                                 \
    template void conv2d_input_gradient(const Conv2DShape&, const T*, const T*, T*);                            \
    template void conv2d_weight_gradient(const Conv2DShape&, const T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
