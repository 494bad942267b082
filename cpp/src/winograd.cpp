#include "winograd.h"

#include <type_traits>

#include "positions.h"
#include "tile.h"
#include "winograd_tiles.h"

namespace vivace::winograd {
namespace {

// Calls f with the sizes of area i's tiles as constants.
template <class F>
VIVACE_INLINE void with_sizes(int i, F&& f) {
    constexpr std::integral_constant<int, 2> two;
    constexpr std::integral_constant<int, 4> four;
    switch (i) {
        case 0: return f(four, four);
        case 1: return f(four, two);
        case 2: return f(two, four);
        default: return f(two, two);
    }
}

// How a side of the outputs is cut: into tiles of four, then of two.
struct Cut {
    index fours, twos;
    index outputs() const { return 4 * fours + 2 * twos; }
};

// The areas of n images cut so, some of them empty: tiles of 4x4 outputs, 4x2, 2x4 and 2x2.
struct Tiling {
    Cut rows, columns;
    Area areas[4];

    Tiling(index n, Cut down, Cut across)
        : rows(down), columns(across),
          areas{{4, 4, 0, 0, n, down.fours, across.fours},
                {4, 2, 0, 4 * across.fours, n, down.fours, across.twos},
                {2, 4, 4 * down.fours, 0, n, down.twos, across.fours},
                {2, 2, 4 * down.fours, 4 * across.fours, n, down.twos, across.twos}} {}
    // For a channel and a filter.
    index products() const {
        index sum = 0;
        for (const Area& area : areas) sum += area.elements() * area.count();
        return sum;
    }
    // These products, and what each element's kernel costs: to be made, and to come from memory.
    index cost() const {
        constexpr index kernel = 10;
        index sum = products();
        for (const Area& area : areas)
            if (area.count()) sum += kernel * area.elements();
        return sum;
    }
    // A bit for each area that is not empty.
    unsigned sizes() const {
        unsigned bits = 0;
        for (unsigned i = 0; i < 4; ++i)
            if (areas[i].count()) bits |= 1u << i;
        return bits;
    }
};

// The cheapest of: twos alone, fours alone, fours with twos for the rest.
Tiling tiling(index n, index p, index q) {
    const auto twos = [](index side) { return Cut{0, (side + 1) / 2}; };
    const auto fours = [](index side) { return Cut{(side + 3) / 4, 0}; };
    const auto both = [](index side) { return side % 4 == 3 ? Cut{side / 4 + 1, 0} : Cut{side / 4, (side % 4 + 1) / 2}; };
    Tiling best(n, twos(p), twos(q));
    for (const Tiling& other : {Tiling(n, fours(p), fours(q)), Tiling(n, both(p), both(q))})
        if (other.cost() < best.cost()) best = other;
    return best;
}

// Kernels transformed for one size of tiles: panel by panel (tile.h), element by element, channel by channel.
template <class T>
struct Kernels {
    index elements, channels, filters;

    index panel_count() const { return (filters + panel_columns<T> - 1) / panel_columns<T>; }
    index columns(index j) const { return std::min(panel_columns<T>, filters - j * panel_columns<T>); }
    index panel_width(index j) const { return vivace::panel_width<T>(columns(j)); }
    // A register more than an element's channels: elements a power of two apart would share the same few lines of L1.
    index element_stride() const { return channels * panel_columns<T> + lanes<T>; }
    index panel_size() const { return elements * element_stride(); }
    index size() const { return panel_count() * panel_size(); }

    // Panel j of the kernels at w, the elements of which are `tap` apart.
    template <int rows, int columns_>
    void transform(const T* w, index tap, index j, T* panel) const {
        const index width = panel_width(j), first = j * panel_columns<T>, stride = element_stride();
        for (index c = 0; c < channels; ++c) {
            // Far apart in memory, the elements come in no order that the hardware foresees.
            constexpr index ahead = 8;
#pragma GCC unroll 9
            for (int i = 0; i < 9; ++i) __builtin_prefetch(w + i * tap + (c + ahead) * filters + first);
            for_each_vector<T>(columns(j), [&](index v, auto lanes_used) {
                const T* from = w + c * filters + first + v;
                T* to = panel + c * width + v;
                transform_kernel<T, rows, columns_>(
                    [&](int i, int k) { return load_n(from + (3 * i + k) * tap, lanes_used); },
                    [&](int i, int k, vec<T> u) { store(to + (i * (columns_ + 2) + k) * stride, u); });
            });
        }
    }
};

// The kernels for several sizes of tiles (a bit each), one after the other.
template <class T>
struct KernelSet {
    unsigned sizes;
    index channels, filters;

    Kernels<T> of(int i) const {
        constexpr index elements[4] = {36, 24, 24, 16};
        return {elements[i], channels, filters};
    }
    index offset(int i) const {
        index sum = 0;
        for (int before = 0; before < i; ++before)
            if (sizes >> before & 1) sum += of(before).size();
        return sum;
    }
    index size() const { return offset(4); }
    void transform(const T* w, T* to) const {
        const index panels = of(0).panel_count();
        parallel_for(4 * panels, static_cast<double>(4 * size()), [&](index task, int) {
            const int i = static_cast<int>(task / panels);
            if (!(sizes >> i & 1)) return;
            const Kernels<T> kernels = of(i);
            const index j = task % panels;
            with_sizes(i, [&](auto rows, auto columns) {
                T* const panel = to + offset(i) + j * kernels.panel_size();
                kernels.template transform<rows.value, columns.value>(w, channels * filters, j, panel);
            });
        });
    }
};

// The products of a block of tiles with a panel of filters: element e of tile t, filter f is data[e * stride + t * width + f].
template <class T>
struct Products {
    T* data;
    index stride, width;
};

// Transformed inputs of some tiles: element e of tile t is data + e * stride + t * channels.
template <class T>
struct Inputs {
    T* data;
    index stride, channels;

    // Somewhat more than the tiles' own: elements a power of two apart would share the same few lines of L1.
    static index stride_for(index tiles, index channels) { return tiles * channels + panel_columns<T>; }

    template <int rows, int columns>
    void transform(const Padded<T>& in, const Area& area, const Part& tiles) const {
        for (index t = 0; t < tiles.size(); ++t) {
            const T* start = area.start(in, tiles.first + t);
            for_each_vector<T>(channels, [&](index c, auto width) {
                const T* from = start + c;
                T* to = data + t * channels + c;
                transform_input<T, rows, columns>(
                    [&](int i, int j) { return load_n(from + i * in.row_stride() + j * channels, width); },
                    [&](int i, int j, vec<T> d) { store_n(to + (i * (columns + 2) + j) * stride, d, width); });
            });
        }
    }
};

// C = A B, or C += A B, for each element, over as many channels as the panel of kernels has, from `inputs` on.
template <class T>
void multiply_block(const Inputs<T>& inputs, index tiles, const Kernels<T>& kernels, const T* panel, index element_stride,
                    const Products<T>& out, bool accumulate) {
    const index heights = (tiles + tile_rows - 1) / tile_rows, rows = (tiles + heights - 1) / heights;
    Batch<T> batch{tiles / rows, rows, kernels.channels, out.width, nullptr, inputs.channels, rows * inputs.channels,
                   nullptr, 0, nullptr, rows * out.width, accumulate};
    Batch<T> rest = batch;
    rest.count = 1;
    rest.rows = tiles - batch.count * rows;
    for (index e = 0; e < kernels.elements; ++e) {
        batch.a = inputs.data + e * inputs.stride;
        batch.b = rest.b = panel + e * element_stride;
        batch.c = out.data + e * out.stride;
        multiply_batch(batch);
        if (rest.rows == 0) continue;
        rest.a = batch.a + batch.count * batch.next_a;
        rest.c = batch.c + batch.count * batch.next_c;
        multiply_batch(rest);
    }
}

// Two ways to all products of an input's tiles with the kernels w, or with `form`, which is what transform_kernel() makes
// of them. Both give them to sink(area, its sizes of tiles as constants, tiles, first filter, filters, products), those of some
// tiles and a panel of filters at a time.
template <class T>
struct Multiplication {
    const Padded<T>& in;
    const Tiling& tiling;
    index filters;
    const T *w, *form;

    KernelSet<T> kernel_set() const { return {tiling.sizes(), in.channels, filters}; }
    // The transforms take up to half as long as the products.
    double cost() const { return 3 * static_cast<double>(tiling.products()) * static_cast<double>(in.channels * filters); }
    template <class Sink>
    void run(Sink&& sink) const {
        const index kernel_bytes = kernel_set().size() * static_cast<index>(sizeof(T));
        const index input_bytes = tiling.products() * in.channels * static_cast<index>(sizeof(T));
        if (kernel_bytes > 1024 * 1024 && input_bytes <= 5 * 1024 * 1024)
            by_panels(sink);
        else
            by_blocks(sink, kernel_bytes <= 1024 * 1024);
    }

    // Many tiles: a block of them is transformed where a core's L2 keeps it, and meets all kernels there. `own`: each thread
    // transforms the kernels for itself, if they are few; written by another core, their way from there would take longer.
    template <class Sink>
    void by_blocks(Sink& sink, bool own) const;

    // Large kernels and few tiles: all of these are transformed, then each panel of kernels is, piece by piece, and meets
    // them while it is in L2.
    template <class Sink>
    void by_panels(Sink& sink) const;
};

// How an area's work is cut into tasks: blocks of tiles times groups of panels.
struct Tasks {
    index first, block, blocks, panel_groups;

    index count() const { return blocks * panel_groups; }
    index end() const { return first + count(); }
};

// `products`: of all areas, for a channel and a filter.
template <class T>
Tasks tasks_of(const Area& area, const Kernels<T>& kernels, index products, int threads, index first) {
    if (area.count() == 0) return {first, 0, 0, 0};
    // A few heights of the microkernel use an element's kernels while these are in L1, as many as leave a block's inputs in L2.
    const index height_bytes = kernels.elements * tile_rows * kernels.channels * static_cast<index>(sizeof(T));
    const index most = std::clamp<index>(128 * 1024 / height_bytes, 1, 4);
    // Blocks of all areas cost alike: a thread's share is then one area or few, and it transforms the kernels of these alone.
    constexpr index blocks_of_all = 16;
    const index heights = std::clamp<index>(products / (blocks_of_all * tile_rows * kernels.elements), 1, most);
    const index block = heights * tile_rows, blocks = (area.count() + block - 1) / block;
    const index alike = 1 + products / (block * kernels.elements), wanted = 4 * threads;
    return {first, block, blocks, std::min(kernels.panel_count(), (wanted + alike - 1) / alike)};
}

template <class T>
template <class Sink>
void Multiplication<T>::by_blocks(Sink& sink, bool own) const {
    const KernelSet<T> set = kernel_set();
    const int threads = get_num_threads();
    const index channels = in.channels, panels = set.of(0).panel_count();
    Tasks tasks[4];
    index count = 0, inputs_size = 0, products_size = 0;
    for (int i = 0; i < 4; ++i) {
        const Kernels<T> kernels = set.of(i);
        tasks[i] = tasks_of(tiling.areas[i], kernels, tiling.products(), threads, count);
        count = tasks[i].end();
        inputs_size = std::max(inputs_size, kernels.elements * Inputs<T>::stride_for(tasks[i].block, channels));
        products_size = std::max(products_size, kernels.elements * tasks[i].block * panel_columns<T>);
    }
    const index copies = form ? 0 : own ? threads : 1, per_thread = inputs_size + products_size;
    Scratch<T> scratch(threads * per_thread), transformed(copies * set.size());
    Scratch<bool> done(copies * 4 * panels);  // by whom: a flag for each thread, area and panel
    std::fill_n(done.get(), copies * 4 * panels, !own);
    if (!own && !form) set.transform(w, transformed.get());
    parallel_for(count, cost(), threads, [&](index task, int thread) {
        int i = 0;
        while (task >= tasks[i].end()) ++i;
        const Area& area = tiling.areas[i];
        const Kernels<T> kernels = set.of(i);
        const index number = task - tasks[i].first, blocks = tasks[i].blocks;
        const Part mine(area.count(), blocks, number % blocks), my_panels(panels, tasks[i].panel_groups, number / blocks);
        const Inputs<T> inputs{scratch + thread * per_thread, Inputs<T>::stride_for(tasks[i].block, channels), channels};
        T* const my_kernels = transformed + (own ? thread * set.size() : 0) + set.offset(i);
        bool* const my_done = done + (own ? thread * 4 + i : i) * panels;
        with_sizes(i, [&](auto rows, auto columns) {
            inputs.template transform<rows.value, columns.value>(in, area, mine);
            for (index j = my_panels.first; j < my_panels.last; ++j) {
                const T* panel = (form ? form + set.offset(i) : my_kernels) + j * kernels.panel_size();
                if (!form && !my_done[j]) {
                    T* const to = my_kernels + j * kernels.panel_size();
                    kernels.template transform<rows.value, columns.value>(w, channels * filters, j, to);
                    my_done[j] = true;
                }
                const index width = kernels.panel_width(j);
                const Products<T> out{inputs.data + inputs_size, tasks[i].block * width, width};
                multiply_block(inputs, mine.size(), kernels, panel, kernels.element_stride(), out, false);
                sink(area, rows, columns, mine, j * panel_columns<T>, kernels.columns(j), out);
            }
        });
    });
}

template <class T>
template <class Sink>
void Multiplication<T>::by_panels(Sink& sink) const {
    constexpr index piece = 64, block = 8;  // channels of a piece; tiles that a task transforms
    const KernelSet<T> set = kernel_set();
    const int threads = get_num_threads();
    const index channels = in.channels, panels = set.of(0).panel_count();
    Inputs<T> inputs[4];
    index tiles = 0, inputs_size = 0, products_size = 0;
    for (int i = 0; i < 4; ++i) {
        const index count = tiling.areas[i].count();
        inputs[i] = {nullptr, Inputs<T>::stride_for(count, channels), channels};
        tiles = std::max(tiles, count);
        if (count) inputs_size += tiling.areas[i].elements() * inputs[i].stride;
        products_size = std::max(products_size, tiling.areas[i].elements() * count * panel_columns<T>);
    }
    const index kernels_size = Kernels<T>{set.of(0).elements, piece, filters}.panel_size();
    const index per_thread = products_size + kernels_size;
    Scratch<T> all_inputs(inputs_size), scratch(threads * per_thread);
    T* next = all_inputs;
    for (int i = 0; i < 4; ++i) {
        inputs[i].data = next;
        if (tiling.areas[i].count()) next += tiling.areas[i].elements() * inputs[i].stride;
    }
    const index blocks = (tiles + block - 1) / block;
    parallel_for(4 * blocks, cost() / 8, threads, [&](index task, int) {
        const int i = static_cast<int>(task / blocks);
        const Part mine(tiling.areas[i].count(), blocks, task % blocks);
        const Inputs<T> to{inputs[i].data + mine.first * channels, inputs[i].stride, channels};
        with_sizes(i, [&](auto rows, auto columns) {
            to.template transform<rows.value, columns.value>(in, tiling.areas[i], mine);
        });
    });
    parallel_for(4 * panels, cost(), threads, [&](index task, int thread) {
        const int i = static_cast<int>(task / panels);
        const index j = task % panels, count = tiling.areas[i].count();
        if (count == 0) return;
        T* const products = scratch + thread * per_thread;
        T* const panel = products + products_size;
        const Kernels<T> whole = set.of(i);
        const index width = whole.panel_width(j);
        const Products<T> out{products, count * width, width};
        with_sizes(i, [&](auto rows, auto columns) {
            for (index c = 0; c < channels; c += piece) {
                const Kernels<T> kernels{whole.elements, std::min(piece, channels - c), filters};
                const Kernels<T>& stored = form ? whole : kernels;
                if (!form)
                    kernels.template transform<rows.value, columns.value>(w + c * filters, channels * filters, j, panel);
                const T* start = form ? form + set.offset(i) + j * whole.panel_size() + c * width : panel;
                const Inputs<T> from{inputs[i].data + c, inputs[i].stride, channels};
                multiply_block(from, count, kernels, start, stored.element_stride(), out, c > 0);
            }
            sink(tiling.areas[i], rows, columns, Part(count, 1, 0), j * panel_columns<T>, whole.columns(j), out);
        });
    });
}

// y (n, p, q, filters) = the 3x3 kernels over `in`, which must reach past ragged tiles.
template <class T>
void convolve(const Padded<T>& in, const Tiling& tiling, index p, index q, index filters, const T* w, const T* form,
              const T* bias, bool relu, T* y) {
    const auto sink = [&](const Area& area, auto rows, auto columns, const Part& tiles, index first, index width,
                          const Products<T>& products) {
        for (index tile = tiles.first; tile < tiles.last; ++tile) {
            const index row = area.first_row(tile), column = area.first_column(tile);
            const index last_row = std::min<index>(rows.value, p - row);
            const index last_column = std::min<index>(columns.value, q - column);
            T* const out = y + ((area.image(tile) * p + row) * q + column) * filters + first;
            for_each_vector<T>(width, [&](index v, auto lanes_used) {
                vec<T> sums[rows.value][columns.value];
                transform_output<T, rows.value, columns.value>(
                    products.data + (tile - tiles.first) * products.width + v, products.stride, sums);
                const vec<T> b = bias ? load_n(bias + first + v, lanes_used) : vec<T>{};
                for (index i = 0; i < last_row; ++i)
                    for (index j = 0; j < last_column; ++j) {
                        const vec<T> sum = sums[i][j] + b;
                        store_n(out + (i * q + j) * filters + v, relu ? maximum(vec<T>{}, sum) : sum, lanes_used);
                    }
            });
        }
    };
    Multiplication<T>{in, tiling, filters, w, form}.run(sink);
}

// What a tiling computes beyond the outputs there are, which the input must have pixels for.
index beyond(const Cut& cut, index outputs) { return cut.outputs() - outputs; }

// Convolutions have as many outputs as they say, those with pooling as many as the windows take.
Tiling tiling(const Conv2DShape& s) { return tiling(s.n, s.p, s.q); }
Tiling tiling(const Pool2DShape& pool) { return tiling(pool.n, 2 * pool.p, 2 * pool.q); }

}  // namespace

unsigned tile_sizes(const Conv2DShape& s) { return tiling(s).sizes(); }
unsigned tile_sizes(const Pool2DShape& pool) { return tiling(pool).sizes(); }

template <class T>
index transformed_size(const Conv2DShape& s, unsigned sizes) {
    return KernelSet<T>{sizes, s.c, s.o}.size();
}

template <class T>
void transform_kernel(const Conv2DShape& s, unsigned sizes, const T* w, T* form) {
    KernelSet<T>{sizes, s.c, s.o}.transform(w, form);
}

template <class T>
void conv2d_forward(const Conv2DShape& s, const T* x, const T* w, const T* form, const T* bias, bool relu, T* y) {
    const Tiling tiles = tiling(s);
    const Padded<T> in(x, s.n, s.h, s.w, s.c, s.pad_top, s.pad_bottom + beyond(tiles.rows, s.p), s.pad_left,
                       s.pad_right + beyond(tiles.columns, s.q));
    convolve(in, tiles, s.p, s.q, s.o, w, form, bias, relu, y);
}

template <class T>
void conv2d_input_gradient(const Conv2DShape& s, const T* dy, const T* w, T* dx) {
    const Tiling tiles = tiling(s.n, s.h, s.w);
    const Padded<T> in(dy, s.n, s.p, s.q, s.o, 2 - s.pad_top, 2 - s.pad_bottom + beyond(tiles.rows, s.h), 2 - s.pad_left,
                       2 - s.pad_right + beyond(tiles.columns, s.w));
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
    convolve(in, tiles, s.h, s.w, s.c, mirrored.get(), static_cast<const T*>(nullptr),
             static_cast<const T*>(nullptr), false, dx);
}

template <class T>
void conv2d_pool_forward(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* w, const T* form, const T* bias,
                         bool relu, T* y, std::uint8_t* positions) {
    const Tiling tiles = tiling(pool);
    const index below = std::max<index>(0, beyond(tiles.rows, s.p)), right = std::max<index>(0, beyond(tiles.columns, s.q));
    const Padded<T> in(x, s.n, s.h, s.w, s.c, s.pad_top, s.pad_bottom + below, s.pad_left, s.pad_right + right);
    const auto sink = [&](const Area& area, auto rows, auto columns, const Part& part, index first, index width,
                          const Products<T>& products) {
        pool_with_care<T>([&](auto careful, vec<T>& sum) {
            for (index tile = part.first; tile < part.last; ++tile) {
                const index row = area.first_row(tile) / 2, column = area.first_column(tile) / 2;
                const index last_row = std::min<index>(rows.value / 2, pool.p - row);
                const index last_column = std::min<index>(columns.value / 2, pool.q - column);
                const index corner = ((area.image(tile) * pool.p + row) * pool.q + column) * s.o + first;
                for_each_vector<T>(width, [&](index v, auto lanes_used) {
                    vec<T> sums[rows.value][columns.value];
                    transform_output<T, rows.value, columns.value>(
                        products.data + (tile - part.first) * products.width + v, products.stride, sums);
                    // The bias is the same for all four, and rounding keeps their order.
                    const vec<T> b = bias ? load_n(bias + first + v, lanes_used) : vec<T>{};
                    for (index i = 0; i < last_row; ++i)
                        for (index j = 0; j < last_column; ++j) {
                            const vec<T>*const top = sums[2 * i] + 2 * j, *const bottom = sums[2 * i + 1] + 2 * j;
                            const Winner<T> winner =
                                winner_of_four<careful.value, T>(top[0], top[1], bottom[0], bottom[1], sum);
                            const vec<T> best = winner.value + b;
                            const index out = corner + (i * pool.q + j) * s.o + v;
                            store_n(y + out, relu ? maximum(vec<T>{}, best) : best, lanes_used);
                            if (positions) store_positions<T>(positions + out, winner.position, lanes_used);
                        }
                });
            }
        });
    };
    Multiplication<T>{in, tiles, s.o, w, form}.run(sink);
}

#define INSTANTIATE(T)                                                                                           \
    template index transformed_size<T>(const Conv2DShape&, unsigned);                                            \
    template void transform_kernel(const Conv2DShape&, unsigned, const T*, T*);                                  \
    template void conv2d_forward(const Conv2DShape&, const T*, const T*, const T*, const T*, bool, T*);          \
    template void conv2d_input_gradient(const Conv2DShape&, const T*, const T*, T*);                             \
    template void conv2d_pool_forward(const Conv2DShape&, const Pool2DShape&, const T*, const T*, const T*,      \
                                      const T*, bool, T*, std::uint8_t*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace::winograd
