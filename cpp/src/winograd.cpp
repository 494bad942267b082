#include "winograd.h"

#include "padded.h"
#include "positions.h"
#include "tile.h"
#include "vivace/gemm.h"

namespace vivace::winograd {
namespace {

constexpr int size = 4;
constexpr index elements = size * size;  // of a transformed tile

// A square of pixels, `row` and `column` elements apart.
template <class T, int side, class N>
VIVACE_INLINE void load_tile(const T* from, index row, index column, vec<T> (&d)[side][side], N width) {
#pragma GCC unroll 4
    for (int i = 0; i < side; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < side; ++j) d[i][j] = load_n(from + i * row + j * column, width);
}

// A 4x4 input tile B' d B, rows then columns.
template <class T>
VIVACE_INLINE void transform_input(vec<T> (&d)[size][size]) {
#pragma GCC unroll 4
    for (int i = 0; i < size; ++i) {
        const vec<T> a = d[i][0] - d[i][2], b = d[i][1] + d[i][2], c = d[i][2] - d[i][1], e = d[i][1] - d[i][3];
        d[i][0] = a, d[i][1] = b, d[i][2] = c, d[i][3] = e;
    }
#pragma GCC unroll 4
    for (int j = 0; j < size; ++j) {
        const vec<T> a = d[0][j] - d[2][j], b = d[1][j] + d[2][j], c = d[2][j] - d[1][j], e = d[1][j] - d[3][j];
        d[0][j] = a, d[1][j] = b, d[2][j] = c, d[3][j] = e;
    }
}

// A 3x3 kernel G g G'.
template <class T>
VIVACE_INLINE void transform_kernel(const vec<T> (&g)[3][3], vec<T> (&u)[size][size]) {
    vec<T> t[size][3];
    const T half = T(0.5);
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
        const vec<T> outer = half * (g[0][j] + g[2][j]), inner = half * g[1][j];
        t[0][j] = g[0][j], t[1][j] = outer + inner, t[2][j] = outer - inner, t[3][j] = g[2][j];
    }
#pragma GCC unroll 4
    for (int i = 0; i < size; ++i) {
        const vec<T> outer = half * (t[i][0] + t[i][2]), inner = half * t[i][1];
        u[i][0] = t[i][0], u[i][1] = outer + inner, u[i][2] = outer - inner, u[i][3] = t[i][2];
    }
}

// The 2x2 outputs A' m A of a tile's products; element e stands at m + e * stride.
template <class T>
VIVACE_INLINE void transform_output(const T* m, index stride, vec<T> (&y)[2][2]) {
    vec<T> t[2][size];
#pragma GCC unroll 4
    for (int j = 0; j < size; ++j) {
        const vec<T> b = load(m + (size + j) * stride), c = load(m + (2 * size + j) * stride);
        t[0][j] = load(m + j * stride) + (b + c);
        t[1][j] = (b - c) - load(m + (3 * size + j) * stride);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
        y[i][0] = t[i][0] + (t[i][1] + t[i][2]);
        y[i][1] = (t[i][1] - t[i][2]) - t[i][3];
    }
}

// Tiles of 2x2 outputs over a batch of images, in order.
template <class T>
struct Tiles {
    const Padded<T>& in;  // reaches two pixels past the last tile's corner
    index n, rows, columns;

    index count() const { return n * rows * columns; }
    const T* start(index tile) const {
        const index column = tile % columns, row = tile / columns % rows, image = tile / columns / rows;
        return in.data + image * in.image_stride() + 2 * row * in.row_stride() + 2 * column * in.channels;
    }
};

// Transformed kernels: panel by panel (tile.h), element by element, channel by channel.
template <class T>
struct Kernels {
    index channels, filters;

    index panel_count() const { return (filters + panel_columns<T> - 1) / panel_columns<T>; }
    index size() const { return panel_offset(panel_count()); }
    index panel_width(index j) const {
        return vivace::panel_width<T>(filters - j * panel_columns<T>);
    }
    // A register more than an element's channels: elements a power of two apart would share the same few lines of L1.
    index element_stride() const { return channels * panel_columns<T> + lanes<T>; }
    index panel_offset(index j) const { return elements * element_stride() * j; }
    // Transforms all of w, (3, 3, channels, filters).
    void transform(const T* w, T* u) const {
        parallel_for(panel_count(), static_cast<double>(4 * size()), [&](index j, int) { transform(w, j, u); });
    }
    // Panel j alone.
    void transform(const T* w, index j, T* u) const {
        const index width = panel_width(j), first = j * panel_columns<T>;
        const index columns = std::min(panel_columns<T>, filters - first), tap = channels * filters;
        T* panel = u + panel_offset(j);
        for (index c = 0; c < channels; ++c)
            for_each_vector<T>(columns, [&](index v, auto lanes_used) {
                vec<T> g[3][3], result[winograd::size][winograd::size];
                const T* source = w + c * filters + first + v;
#pragma GCC unroll 9
                for (int i = 0; i < 9; ++i) g[i / 3][i % 3] = load_n(source + i * tap, lanes_used);
                transform_kernel<T>(g, result);
#pragma GCC unroll 16
                for (int e = 0; e < elements; ++e) store(panel + e * element_stride() + c * width + v, result[e / 4][e % 4]);
            });
    }
};

// The products of a block of tiles with a panel of filters: element e of tile t, filter f is data[e * stride + t * width + f].
template <class T>
struct Products {
    T* data;
    index stride, width;
};

// C = A B for each element: `tiles` transformed inputs, the elements of which are `next` apart, with panel j.
template <class T>
void multiply_block(const T* inputs, index tiles, index next, const Kernels<T>& kernels, const T* panel, const Products<T>& out) {
    const index channels = kernels.channels, heights = (tiles + tile_rows - 1) / tile_rows, rows = (tiles + heights - 1) / heights;
    Batch<T> batch{tiles / rows, rows, channels, out.width, nullptr, channels, rows * channels, nullptr, 0, nullptr,
                   rows * out.width};
    Batch<T> rest = batch;
    rest.count = 1;
    rest.rows = tiles - batch.count * rows;
    for (index e = 0; e < elements; ++e) {
        batch.a = inputs + e * next;
        batch.b = rest.b = panel + e * kernels.element_stride();
        batch.c = out.data + e * out.stride;
        multiply_batch(batch);
        if (rest.rows == 0) continue;
        rest.a = batch.a + batch.count * batch.next_a;
        rest.c = batch.c + batch.count * batch.next_c;
        multiply_batch(rest);
    }
}

// `form`: the kernels transformed already, or null. All products, block by block: sink(first tile, tiles, first filter, filters, products) takes those of a block and a panel.
template <class T, class Sink>
void multiply(const Tiles<T>& tiles, const Kernels<T>& kernels, const T* w, const T* form, Sink&& sink) {
    const index channels = kernels.channels;
    // Each thread transforms small kernels for itself: written by another core, their way from there would take longer.
    const bool own = kernels.size() * static_cast<index>(sizeof(T)) <= 256 * 1024;
    // Tiles that are worked on at a time: a few heights of the microkernel use an element's kernels while these are in L1.
    const index heights = own ? std::clamp<index>(tiles.count() / (32 * tile_rows), 1, 4) : 4;
    const index block = heights * tile_rows;
    const index blocks = (tiles.count() + block - 1) / block, panels = kernels.panel_count();
    const int threads = get_num_threads();
    const index wanted = 4 * threads;
    const index panel_tasks = blocks >= wanted ? 1 : std::min(panels, (wanted - 1 + blocks) / blocks);
    const index per_thread = elements * block * (channels + panel_columns<T>);
    Scratch<T> scratch(threads * per_thread);
    const index copies = form ? 0 : own ? threads : 1;
    Scratch<T> transformed(copies * kernels.size());
    Scratch<bool> ready(copies * panels);
    std::fill_n(ready.get(), copies * panels, !own);
    if (!own && !form) kernels.transform(w, transformed.get());
    // The transforms take up to half as long as the products.
    const double flops = 3.0 * static_cast<double>(elements * tiles.count() * channels * kernels.filters);
    parallel_for(blocks * panel_tasks, flops, threads, [&](index task, int thread) {
        const Part mine(tiles.count(), blocks, task % blocks), my_panels(panels, panel_tasks, task / blocks);
        T* const inputs = scratch + thread * per_thread;
        T* const products = inputs + elements * block * channels;
        T* const my_kernels = transformed + (own ? thread * kernels.size() : 0);
        bool* const my_ready = ready + (own ? thread * panels : 0);
        const T* const ready_kernels = form ? form : my_kernels;
        for (index t = 0; t < mine.size(); ++t) {
            const T* start = tiles.start(mine.first + t);
            for_each_vector<T>(channels, [&](index c, auto width) {
                vec<T> d[size][size];
                load_tile(start + c, tiles.in.row_stride(), channels, d, width);
                transform_input<T>(d);
#pragma GCC unroll 16
                for (int e = 0; e < elements; ++e) store_n(inputs + (e * block + t) * channels + c, d[e / 4][e % 4], width);
            });
        }
        for (index j = my_panels.first; j < my_panels.last; ++j) {
            if (!form && !my_ready[j]) {
                kernels.transform(w, j, my_kernels);
                my_ready[j] = true;
            }
            const index width = kernels.panel_width(j);
            const Products<T> out{products, block * width, width};
            multiply_block(inputs, mine.size(), block * channels, kernels, ready_kernels + kernels.panel_offset(j), out);
            const index first = j * panel_columns<T>;
            sink(mine.first, mine.size(), first, std::min(panel_columns<T>, kernels.filters - first), out);
        }
    });
}

// y (n, p, q, filters) = the 3x3 kernels over `in`, which must reach past ragged tiles.
template <class T>
void convolve(const Padded<T>& in, index n, index p, index q, const Kernels<T>& kernels, const T* w, const T* form,
              const T* bias, bool relu, T* y) {
    const Tiles<T> tiles{in, n, (p + 1) / 2, (q + 1) / 2};
    const index filters = kernels.filters;
    multiply(tiles, kernels, w, form, [&](index first_tile, index count, index first, index columns, const Products<T>& products) {
        for (index t = 0; t < count; ++t) {
            const index tile = first_tile + t, column = tile % tiles.columns * 2, row = tile / tiles.columns % tiles.rows * 2;
            T* const out = y + ((tile / tiles.columns / tiles.rows * p + row) * q + column) * filters + first;
            for_each_vector<T>(columns, [&](index v, auto lanes_used) {
                vec<T> sums[2][2];
                transform_output<T>(products.data + t * products.width + v, products.stride, sums);
                const vec<T> b = bias ? load_n(bias + first + v, lanes_used) : vec<T>{};
                for (index i = 0; i < std::min<index>(2, p - row); ++i)
                    for (index j = 0; j < std::min<index>(2, q - column); ++j) {
                        const vec<T> sum = sums[i][j] + b;
                        store_n(out + (i * q + j) * filters + v, relu ? maximum(vec<T>{}, sum) : sum, lanes_used);
                    }
            });
        }
    });
}

}  // namespace

template <class T>
index transformed_size(const Conv2DShape& s) {
    return Kernels<T>{s.c, s.o}.size();
}

template <class T>
void transform_kernel(const Conv2DShape& s, const T* w, T* form) {
    Kernels<T>{s.c, s.o}.transform(w, form);
}

template <class T>
void conv2d_forward(const Conv2DShape& s, const T* x, const T* w, const T* form, const T* bias, bool relu, T* y) {
    const Padded<T> in(x, s.n, s.h, s.w, s.c, s.pad_top, s.pad_bottom + s.p % 2, s.pad_left, s.pad_right + s.q % 2);
    convolve(in, s.n, s.p, s.q, Kernels<T>{s.c, s.o}, w, form, bias, relu, y);
}

template <class T>
void conv2d_input_gradient(const Conv2DShape& s, const T* dy, const T* w, T* dx) {
    const Padded<T> in(dy, s.n, s.p, s.q, s.o, 2 - s.pad_top, 2 - s.pad_bottom + s.h % 2, 2 - s.pad_left,
                       2 - s.pad_right + s.w % 2);
    // The kernel mirrored, channels and filters exchanged.
    Scratch<T> mirrored(s.kernel_size());
    const index row_blocks = (s.c + 15) / 16;
    parallel_for(9 * row_blocks, static_cast<double>(8 * s.kernel_size()), [&](index task, int) {
        const T* from = w + task / row_blocks * s.c * s.o;
        T* to = mirrored + (8 - task / row_blocks) * s.c * s.o;
        const index first = task % row_blocks * 16, last = std::min(s.c, first + 16);
        for (index o = 0; o < s.o; ++o)
            for (index c = first; c < last; ++c) to[o * s.c + c] = from[c * s.o + o];
    });
    convolve(in, s.n, s.h, s.w, Kernels<T>{s.o, s.c}, mirrored.get(), static_cast<const T*>(nullptr),
             static_cast<const T*>(nullptr), false, dx);
}

template <class T>
void conv2d_pool_forward(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* w, const T* form, const T* bias,
                         bool relu, T* y, std::uint8_t* positions) {
    const Padded<T> in = padded_input(s, x);
    const Tiles<T> tiles{in, s.n, pool.p, pool.q};
    multiply(tiles, Kernels<T>{s.c, s.o}, w, form,
             [&](index first_tile, index count, index first, index columns, const Products<T>& products) {
                 for (index t = 0; t < count; ++t) {
                     const index out = (first_tile + t) * s.o + first;
                     for_each_vector<T>(columns, [&](index v, auto lanes_used) {
                         vec<T> sums[2][2];
                         transform_output<T>(products.data + t * products.width + v, products.stride, sums);
                         const Winner<T> winner = winner_of_four<T>(sums[0][0], sums[0][1], sums[1][0], sums[1][1]);
                         // The bias is the same for all four, and rounding keeps their order.
                         const vec<T> best = bias ? winner.value + load_n(bias + first + v, lanes_used) : winner.value;
                         store_n(y + out + v, relu ? maximum(vec<T>{}, best) : best, lanes_used);
                         if (positions) store_positions<T>(positions + out + v, winner.position, lanes_used);
                     });
                 }
             });
}

namespace {

// A 2x2 tile of the output's gradient A y A', one element after the other.
template <class T>
VIVACE_INLINE void transform_gradient(const vec<T> (&y)[2][2], vec<T> (&d)[size][size]) {
    vec<T> t[size][2];
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) t[0][j] = y[0][j], t[1][j] = y[0][j] + y[1][j], t[2][j] = y[0][j] - y[1][j], t[3][j] = -y[1][j];
#pragma GCC unroll 4
    for (int i = 0; i < size; ++i)
        d[i][0] = t[i][0], d[i][1] = t[i][0] + t[i][1], d[i][2] = t[i][0] - t[i][1], d[i][3] = -t[i][1];
}

// The 3x3 gradient G' m G of a kernel; element e stands at m + e * stride.
template <class T, class N>
VIVACE_INLINE void transform_sums(const T* m, index stride, vec<T> (&g)[3][3], N width) {
    vec<T> t[3][size];
    const T half = T(0.5);
#pragma GCC unroll 4
    for (int j = 0; j < size; ++j) {
        const vec<T> b = load_n(m + (size + j) * stride, width), c = load_n(m + (2 * size + j) * stride, width);
        t[0][j] = load_n(m + j * stride, width) + half * (b + c);
        t[1][j] = half * (b - c);
        t[2][j] = half * (b + c) + load_n(m + (3 * size + j) * stride, width);
    }
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
        g[i][0] = t[i][0] + half * (t[i][1] + t[i][2]);
        g[i][1] = half * (t[i][1] - t[i][2]);
        g[i][2] = half * (t[i][1] + t[i][2]) + t[i][3];
    }
}

}  // namespace

// The forward transforms transposed: dw = G' [sum over tiles of (B' d B) . (A dy A')] G. The sum over tiles is the inner
// dimension of 16 matrix products, taken a chunk of tiles at a time: all threads transform it, then share the products.
template <class T>
void conv2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db) {
    static constexpr index no_offset[1] = {0};
    constexpr index chunk = 160;
    const Padded<T> in(x, s.n, s.h, s.w, s.c, s.pad_top, s.pad_bottom + s.p % 2, s.pad_left, s.pad_right + s.q % 2);
    const Padded<T> grad(dy, s.n, s.p, s.q, s.o, 0, s.p % 2, 0, s.q % 2);
    const Tiles<T> tiles{in, s.n, (s.p + 1) / 2, (s.q + 1) / 2};
    const index chunks = (tiles.count() + chunk - 1) / chunk, panels = (s.o + panel_columns<T> - 1) / panel_columns<T>;
    // A row of inputs more than their channels: rows a power of two apart would share the same few lines of L1.
    const index input_row = s.c + lanes<T>, row_tiles = (s.c + tile_rows - 1) / tile_rows;
    Scratch<T> inputs(elements * chunk * input_row + tile_rows), sums(elements * s.c * s.o);
    Scratch<T> gradients(elements * panels * chunk * panel_columns<T>);  // element, panel, tile, filter
    for (index i = 0; i < chunks; ++i) {
        const Part part(tiles.count(), chunks, i);
        parallel_for((part.size() + 7) / 8, static_cast<double>(16 * elements * part.size() * (s.c + s.o)) / 4, [&](index task, int) {
            for (index t = task * 8; t < std::min(part.size(), task * 8 + 8); ++t) {
                const T* start = tiles.start(part.first + t);
                for_each_vector<T>(s.c, [&](index c, auto width) {
                    vec<T> d[size][size];
                    load_tile(start + c, in.row_stride(), s.c, d, width);
                    transform_input<T>(d);
#pragma GCC unroll 16
                    for (int e = 0; e < elements; ++e)
                        store_n(inputs + (e * chunk + t) * input_row + c, d[e / 4][e % 4], width);
                });
                const index tile = part.first + t, column = tile % tiles.columns, row = tile / tiles.columns % tiles.rows;
                const T* corner = grad.data + tile / tiles.columns / tiles.rows * grad.image_stride() +
                                  2 * row * grad.row_stride() + 2 * column * s.o;
                for_each_vector<T>(s.o, [&](index o, auto width) {
                    vec<T> y[2][2], d[size][size];
                    load_tile(corner + o, grad.row_stride(), s.o, y, width);
                    transform_gradient<T>(y, d);
                    const index panel = o / panel_columns<T>;
#pragma GCC unroll 16
                    for (int e = 0; e < elements; ++e)
                        store(gradients + ((e * panels + panel) * chunk + t) * panel_columns<T> + o % panel_columns<T>,
                              d[e / 4][e % 4]);
                });
            }
        });
        const double flops = 2.0 * static_cast<double>(elements * part.size() * s.c * s.o);
        parallel_for(elements * panels, flops, [&](index task, int) {
            const index e = task / panels, first = task % panels * panel_columns<T>;
            Tile<T> tile{};
            tile.offsets = no_offset;
            tile.taps = 1;
            tile.k = part.size();
            tile.a_step = input_row;
            tile.b = gradients + task * chunk * panel_columns<T>;
            tile.ldb = panel_columns<T>;
            tile.columns = std::min(panel_columns<T>, s.o - first);
            tile.accumulate = i > 0;
            for (index m = 0; m < row_tiles; ++m) {
                const Part rows(s.c, row_tiles, m);
                tile.rows = rows.size();
                tile.a[0] = inputs + e * chunk * input_row + rows.first;
                for (index r = 0; r < tile.rows; ++r) tile.c[r] = sums + (e * s.c + rows.first + r) * s.o + first;
                multiply_by_columns(tile);
            }
        });
    }
    parallel_for(s.c, static_cast<double>(32 * s.c * s.o), [&](index c, int) {
        for_each_vector<T>(s.o, [&](index o, auto width) {
            vec<T> g[3][3];
            transform_sums<T>(sums + c * s.o + o, s.c * s.o, g, width);
            for (index tap = 0; tap < 9; ++tap) {
                T* to = dw + (tap * s.c + c) * s.o + o;
                store_n(to, load_n(to, width) + g[tap / 3][tap % 3], width);
            }
        });
    });
    if (db) add_column_sums(s.n * s.p * s.q, s.o, dy, s.o, db);
}

#define INSTANTIATE(T)                                                                                           \
    template index transformed_size<T>(const Conv2DShape&);                                                      \
    template void transform_kernel(const Conv2DShape&, const T*, T*);                                            \
    template void conv2d_forward(const Conv2DShape&, const T*, const T*, const T*, const T*, bool, T*);          \
    template void conv2d_input_gradient(const Conv2DShape&, const T*, const T*, T*);                             \
    template void conv2d_weight_gradient(const Conv2DShape&, const T*, const T*, T*, T*);                        \
    template void conv2d_pool_forward(const Conv2DShape&, const Pool2DShape&, const T*, const T*, const T*,      \
                                      const T*, bool, T*, std::uint8_t*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace::winograd
