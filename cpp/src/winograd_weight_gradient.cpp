// The weight gradient by Winograd's algorithm: the forward transforms transposed,
//
//   dw = sum over tiles of A' [ (B' d B) . (G dy G') ] A        d: 6x6 inputs, dy: the gradient of 4x4 outputs
//
// The sum over tiles is the inner dimension of 36 matrix products, taken a chunk of tiles at a time: all threads transform
// it, then share the products.
#include "padded.h"
#include "tile.h"
#include "vivace/gemm.h"
#include "winograd.h"
#include "winograd_tiles.h"

namespace vivace::winograd {
namespace {

constexpr int size = 6;
constexpr index elements = size * size;  // of a transformed tile
constexpr index chunk = 160;             // tiles

// The transformed tiles of a chunk, so that a product finds its factors in order.
template <class T>
struct Chunk {
    index channels, filters;
    // A row of inputs more than their channels: rows a power of two apart would share the same few lines of L1.
    index input_row() const { return channels + lanes<T>; }
    index panels() const { return (filters + panel_columns<T> - 1) / panel_columns<T>; }
    index inputs_size() const { return elements * chunk * input_row() + tile_rows; }
    index gradients_size() const { return elements * panels() * chunk * panel_columns<T>; }
    T *inputs, *gradients;  // (element, tile, channel); (element, panel, tile, filter)

    // Tile t of the chunk: its inputs start at `in`, its outputs' gradients at `grad`.
    void transform(index t, const T* in, index in_row, const T* grad, index grad_row) const {
        for_each_vector<T>(channels, [&](index c, auto width) {
            T* to = inputs + t * input_row() + c;
            transform_input<T, 4, 4>([&](int i, int j) { return load_n(in + i * in_row + j * channels + c, width); },
                                     [&](int i, int j, vec<T> d) {
                                         store_n(to + (i * size + j) * chunk * input_row(), d, width);
                                     });
        });
        for_each_vector<T>(filters, [&](index o, auto width) {
            vec<T> half[size][4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j) {
                vec<T> line[4], values[size];
#pragma GCC unroll 4
                for (int i = 0; i < 4; ++i) line[i] = load_n(grad + i * grad_row + j * filters + o, width);
                Line<4>::output_gradient<T>(line, values);
#pragma GCC unroll 6
                for (int i = 0; i < size; ++i) half[i][j] = values[i];
            }
            T* to = gradients + (o / panel_columns<T> * chunk + t) * panel_columns<T> + o % panel_columns<T>;
#pragma GCC unroll 6
            for (int i = 0; i < size; ++i) {
                vec<T> values[size];
                Line<4>::output_gradient<T>(half[i], values);
#pragma GCC unroll 6
                for (int j = 0; j < size; ++j) store(to + (i * size + j) * panels() * chunk * panel_columns<T>, values[j]);
            }
        });
    }

    // sums (channel, filter) of some channels and a panel of filters = or += an element's products, of `tiles` tiles.
    void multiply(index element, const Part& mine, index panel, index tiles, T* sums, bool accumulate) const {
        static constexpr index no_offset[1] = {0};
        const index row_tiles = (mine.size() + tile_rows - 1) / tile_rows;
        Tile<T> tile{};
        tile.offsets = no_offset;
        tile.taps = 1;
        tile.k = tiles;
        tile.a_step = input_row();
        tile.b = gradients + (element * panels() + panel) * chunk * panel_columns<T>;
        tile.ldb = panel_columns<T>;
        tile.columns = panel_columns<T>;
        tile.accumulate = accumulate;
        for (index m = 0; m < row_tiles; ++m) {
            const Part rows(mine.size(), row_tiles, m);
            tile.rows = rows.size();
            tile.a[0] = inputs + element * chunk * input_row() + mine.first + rows.first;
            for (index r = 0; r < tile.rows; ++r) tile.c[r] = sums + (rows.first + r) * panel_columns<T>;
            multiply_by_columns(tile);
        }
    }

    // dw (3, 3, channels, filters) += A' m A for some channels and a panel of filters, of the sums of the elements, which are
    // `next` apart.
    void add_kernel_gradient(const Part& mine, index panel, const T* sums, index next, T* dw) const {
        for (index c = mine.first; c < mine.last; ++c, sums += panel_columns<T>)
            add_kernel_gradient(c, panel, sums, next, dw);
    }
    void add_kernel_gradient(index c, index panel, const T* m, index next, T* dw) const {
        const index first = panel * panel_columns<T>;
        T* const to = dw + c * filters + first;
        const index columns = std::min(panel_columns<T>, filters - first);
        // Far apart in memory, they come in no order that the hardware foresees.
        for (index e = 0; e < elements; ++e) __builtin_prefetch(m + e * next + 4 * panel_columns<T>);
        alignas(64) T g[9][panel_columns<T>];
        for_each_vector<T>(columns, [&](index o, auto) {
            vec<T> half[3][size];
#pragma GCC unroll 6
            for (int j = 0; j < size; ++j) {
                vec<T> line[size], values[3];
#pragma GCC unroll 6
                for (int i = 0; i < size; ++i) line[i] = load(m + o + (i * size + j) * next);
                Line<4>::kernel_gradient<T>(line, values);
#pragma GCC unroll 3
                for (int i = 0; i < 3; ++i) half[i][j] = values[i];
            }
#pragma GCC unroll 3
            for (int i = 0; i < 3; ++i) {
                vec<T> values[3];
                Line<4>::kernel_gradient<T>(half[i], values);
#pragma GCC unroll 3
                for (int j = 0; j < 3; ++j) store(g[i * 3 + j] + o, values[j]);
            }
        });
        // Each of the nine once: often a power of two apart, they may push each other out of the caches.
        for (index tap = 0; tap < 9; ++tap)
            for_each_vector<T>(columns, [&](index o, auto width) {
                T* const weight = to + tap * channels * filters + o;
                store_n(weight, load_n(weight, width) + load(g[tap] + o), width);
            });
    }
};

}  // namespace

template <class T>
void conv2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db) {
    const Area tiles{4, 4, 0, 0, s.n, (s.p + 3) / 4, (s.q + 3) / 4};
    const index below = 4 * tiles.rows - s.p, right = 4 * tiles.columns - s.q;  // what ragged tiles lack
    const Padded<T> in(x, s.n, s.h, s.w, s.c, s.pad_top, s.pad_bottom + below, s.pad_left, s.pad_right + right);
    const Padded<T> grad(dy, s.n, s.p, s.q, s.o, 0, below, 0, right);
    Chunk<T> parts{s.c, s.o, nullptr, nullptr};
    const Scratch<T> inputs(parts.inputs_size()), gradients(parts.gradients_size());
    parts.inputs = inputs, parts.gradients = gradients;
    const index chunks = (tiles.count() + chunk - 1) / chunk, panels = parts.panels();
    const auto transform = [&](const Part& part) {
        const index blocks = (part.size() + 7) / 8;
        parallel_for(blocks, static_cast<double>(4 * elements * part.size() * (s.c + s.o)), [&](index task, int) {
            const Part mine(part.size(), blocks, task);
            for (index t = mine.first; t < mine.last; ++t)
                parts.transform(t, tiles.start(in, part.first + t), in.row_stride(), tiles.start(grad, part.first + t),
                                grad.row_stride());
        });
    };
    const double flops = 2.0 * static_cast<double>(elements * s.c * s.o) * static_cast<double>(tiles.count());
    // A panel's row more than there are: elements a power of two apart would share the same few lines of L1.
    if (chunks == 1 && s.c * s.o > 128 * 128) {
        // The sums of a large kernel would fill more than the caches: they are made for a few channels at a time, and used.
        const index groups = (s.c + 63) / 64, next = ((s.c + groups - 1) / groups + 1) * panel_columns<T>;
        const int threads = get_num_threads();
        const Scratch<T> sums(threads * elements * next);
        transform(Part(tiles.count(), 1, 0));
        parallel_for(groups * panels, flops, threads, [&](index task, int thread) {
            const Part mine(s.c, groups, task % groups);
            T* const my_sums = sums + thread * elements * next;
            for (index e = 0; e < elements; ++e)
                parts.multiply(e, mine, task / groups, tiles.count(), my_sums + e * next, false);
            parts.add_kernel_gradient(mine, task / groups, my_sums, next, dw);
        });
    } else {
        const index next = (panels * s.c + 1) * panel_columns<T>, groups = (s.c + 15) / 16;
        const Scratch<T> sums(elements * next);
        for (index i = 0; i < chunks; ++i) {
            const Part part(tiles.count(), chunks, i);
            transform(part);
            parallel_for(elements * panels, flops / static_cast<double>(chunks), [&](index task, int) {
                const index e = task / panels, panel = task % panels;
                T* const to = sums + e * next + panel * s.c * panel_columns<T>;
                parts.multiply(e, Part(s.c, 1, 0), panel, part.size(), to, i > 0);
            });
        }
        parallel_for(panels * groups, static_cast<double>(2 * elements * s.c * s.o), [&](index task, int) {
            const Part mine(s.c, groups, task % groups);
            const index panel = task / groups;
            parts.add_kernel_gradient(mine, panel, sums + (panel * s.c + mine.first) * panel_columns<T>, next, dw);
        });
    }
    if (db) add_column_sums(s.n * s.p * s.q, s.o, dy, s.o, db);
}

template void conv2d_weight_gradient(const Conv2DShape&, const float*, const float*, float*, float*);
template void conv2d_weight_gradient(const Conv2DShape&, const double*, const double*, double*, double*);

}  // namespace vivace::winograd
