#include "vivace/conv2d_pool.h"

#include <stdexcept>
#include <string>

#include "padded.h"
#include "positions.h"
#include "tile.h"
#include "vivace/elementwise.h"
#include "winograd.h"

namespace vivace {
namespace {

// One pooled window: where it stands, and where its first pixel's receptive field starts in the padded input.
struct Windows {
    const Conv2DShape& s;
    const Pool2DShape& pool;
    index row_stride, image_stride;  // of the padded input

    index count() const { return pool.p * pool.q; }  // in one image
    index start(index window) const {
        return window / pool.q * pool.kh * s.stride_h * row_stride + window % pool.q * pool.kw * s.stride_w * s.c;
    }
    // From the receptive field of a window's first pixel to that of the pixel at `position`.
    index pixel(index position) const {
        return position / pool.kw * s.stride_h * row_stride + position % pool.kw * s.stride_w * s.c;
    }
};

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

// `count` neighbouring windows of one input channel and a register of filters, whose 9 weights stay in registers: each pixel
// meets all of the windows' sums that it is part of, so that there are enough of them to hide an FMA's latency.
template <int count, class T, class N>
VIVACE_INLINE void one_channel_windows(const T* field, index row, const vec<T> (&weights)[9], vec<T> bias, bool relu,
                                       index filters, T* y, std::uint8_t* positions, N width) {
    vec<T> sum[count][4];
#pragma GCC unroll 2
    for (int w = 0; w < count; ++w)
#pragma GCC unroll 4
        for (int at = 0; at < 4; ++at) sum[w][at] = bias;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
#pragma GCC unroll 6
        for (int j = 0; j < 2 * count + 2; ++j) {
            const vec<T> pixel = broadcast(field[i * row + j]);
#pragma GCC unroll 2
            for (int w = 0; w < count; ++w)
#pragma GCC unroll 4
                for (int at = 0; at < 4; ++at) {
                    const int ki = i - at / 2, kj = j - 2 * w - at % 2;
                    if (ki >= 0 && ki < 3 && kj >= 0 && kj < 3) sum[w][at] += pixel * weights[ki * 3 + kj];
                }
        }
#pragma GCC unroll 2
    for (int w = 0; w < count; ++w) {
        const Winner<T> winner = winner_of_four<T>(sum[w][0], sum[w][1], sum[w][2], sum[w][3]);
        store_n(y + w * filters, relu ? maximum(vec<T>{}, winner.value) : winner.value, width);
        if (positions) store_positions<T>(positions + w * filters, winner.position, width);
    }
}

// A row of windows for each register of filters at a time.
template <class T>
void one_channel_forward(const Windows& windows, const T* x, const T* w, const T* bias, bool relu, T* y,
                         std::uint8_t* positions) {
    const index filters = windows.s.o, row = windows.row_stride, columns = windows.pool.q;
    const index rows = windows.s.n * windows.pool.p, tasks = std::min<index>(rows, 64);
    // A single image of 28x28 takes 6.2 microseconds on one thread, 4.3 on two: it is worth it earlier than FLOPs tell.
    const double cost = 6 * static_cast<double>(windows.s.flops());
    parallel_for(tasks, cost, [&](index task, int) {
        const Part mine(rows, tasks, task);
        for_each_vector<T>(filters, [&](index o, auto width) {
            vec<T> weights[9];
            for (index i = 0; i < 9; ++i) weights[i] = load_n(w + i * filters + o, width);
            const vec<T> b = bias ? load_n(bias + o, width) : vec<T>{};
            for (index r = mine.first; r < mine.last; ++r) {
                const T* field = x + r / windows.pool.p * windows.image_stride + r % windows.pool.p * 2 * row;
                const auto run = [&](auto count, index q) {
                    const index out = (r * columns + q) * filters + o;
                    one_channel_windows<count.value>(field + 2 * q, row, weights, b, relu, filters, y + out,
                                                     positions ? positions + out : nullptr, width);
                };
                index q = 0;
                for (; q + 2 <= columns; q += 2) run(std::integral_constant<int, 2>(), q);
                if (q < columns) run(std::integral_constant<int, 1>(), q);
            }
        });
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
        case Conv2DPoolMethod::winograd: return KernelForm::transformed;
        case Conv2DPoolMethod::direct: return KernelForm::panels;
        case Conv2DPoolMethod::separate: return kernel_form(s);
        default: return KernelForm::original;
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
        return one_channel_forward(windows, in.data, w, bias, relu, y, positions);
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

namespace {

// The kernel of both structured gradients. A block is `rows` x `vectors` registers of memory; sum the entries' blocks,
// each times its coefficient, onto the block at `sum`:
//
//   weight gradient   sum: one filter's weights     entries: the receptive fields of the winners of its channel
//   input gradient    sum: one receptive field      entries: the filters whose winner that pixel is
//
// The sum stays in registers; an FMA with a load each is all there is.
template <class T>
struct Entry {
    int_of<T> block;  // elements from the blocks' common base
    T coefficient;
};

inline constexpr index l1_bytes = 36 * 1024;
inline constexpr int block_registers = vector_registers == 32 ? 24 : 12;
inline constexpr int block_vectors = vector_registers == 32 ? 8 : 4;  // per row
inline constexpr int block_rows = 3;

template <class T, int rows, int vectors>
void sum_blocks(T* sum, index sum_stride, const T* base, const Entry<T>* entries, index count, index stride) {
    vec<T> acc[rows][vectors];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) acc[r][v] = load(sum + r * sum_stride + v * lanes<T>);
    for (index e = 0; e < count; ++e) {
        const T* p = base + entries[e].block;
        const vec<T> coefficient = broadcast(entries[e].coefficient);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r, p += stride) {
            forget_address(p);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v) acc[r][v] += coefficient * load(p + v * lanes<T>);
        }
    }
    forget_address(sum);
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) store(sum + r * sum_stride + v * lanes<T>, acc[r][v]);
}

template <class T>
using SumBlocks = void (*)(T*, index, const T*, const Entry<T>*, index, index);

template <class T, int rows, int... vectors>
constexpr SumBlocks<T> kernel_for(index width, std::integer_sequence<int, vectors...>) {
    constexpr SumBlocks<T> kernels[] = {sum_blocks<T, rows, vectors + 1>...};
    return kernels[width - 1];
}

template <class T>
SumBlocks<T> sum_blocks_kernel(index rows, index vectors) {
    using Widths = std::make_integer_sequence<int, block_vectors>;
    if (rows == 1) return kernel_for<T, 1>(vectors, Widths());
    if (rows == 2) return kernel_for<T, 2>(vectors, Widths());
    return kernel_for<T, 3>(vectors, Widths());
}
static_assert(block_rows == 3 && block_rows * block_vectors <= block_registers);

// A kernel's rows (runs of kw * c elements) cut into blocks.
struct Blocks {
    index rows, length, row_parts, column_parts;  // of the whole; how it is cut
    template <class T>
    static Blocks of(const Conv2DShape& s) {
        const index length = s.kw * s.c, vectors = length / lanes<T>;
        return {s.kh, length, (s.kh + block_rows - 1) / block_rows, (vectors + block_vectors - 1) / block_vectors};
    }
    // Calls f(row, column, kernel) for each: where it starts, and what sums it.
    template <class T, class F>
    void for_each(F&& f) const {
        for (index i = 0; i < row_parts; ++i)
            for (index j = 0; j < column_parts; ++j) {
                const Part r(rows, row_parts, i), v(length / lanes<T>, column_parts, j);
                f(r.first, v.first * lanes<T>, sum_blocks_kernel<T>(r.size(), v.size()));
            }
    }
    // Bytes of the largest.
    template <class T>
    index bytes() const {
        const index vectors = length / lanes<T>;
        return vector_bytes * ((rows + row_parts - 1) / row_parts) * ((vectors + column_parts - 1) / column_parts);
    }
};

// The gradients of `size` winners, 0 where ReLU was.
template <class T>
void alive_gradients(const T* dy, const T* y, bool relu, index size, T* g) {
    for_each_vector<T>(size, [&](index i, auto width) {
        const vec<T> d = load_n(dy + i, width);
        store_n(g + i, relu ? (load_n(y + i, width) > vec<T>{} ? d : vec<T>{}) : d, width);
    });
}

constexpr index max_group = 64;  // filters listed at a time: a bit each

// For each pixel of some windows in turn, lists the filters whose winner it is; list i ends at ends[i]. There are
// `filters` of them, of `all` in memory, with k weights each.
template <class T>
void list_filters(index windows, index size, index filters, index all, const T* dy, const T* y,
                  const std::uint8_t* positions, bool relu, index k, Entry<T>* entries, index* ends) {
    T g[max_group];
    index count = 0;
    for (index window = 0; window < windows; ++window, dy += all, y += all, positions += all) {
        alive_gradients(dy, y, relu, filters, g);
        for (index position = 0; position < size; ++position) {
            std::uint64_t winners = 0;
            for_each_vector<T>(filters, [&](index o, auto width) {
                const auto here = load_positions<T>(positions + o, width) == static_cast<int_of<T>>(position);
                winners |= std::uint64_t{bits<T>(here & (load_n(g + o, width) != vec<T>{}))} << o;
            });
            for (; winners; winners &= winners - 1) {
                const int o = __builtin_ctzll(winners);
                entries[count++] = {static_cast<int_of<T>>(o * k), g[o]};
                keep_order();  // GCC would split the loop in two, one for each member
            }
            *ends++ = count;
        }
    }
}

// Where the receptive fields of one image's windows start, pixel by pixel.
template <class T>
void list_places(const Windows& windows, int_of<T>* places) {
    const index size = windows.pool.kh * windows.pool.kw;
    for (index window = 0; window < windows.count(); ++window)
        for (index position = 0; position < size; ++position)
            *places++ = static_cast<int_of<T>>(windows.start(window) + windows.pixel(position));
}

// The winners' gradients where they stand in the convolution's output, for the dense path.
template <class T>
void scatter(const Pool2DShape& pool, const T* dy, const T* y, const std::uint8_t* positions, Activation activation,
             T* full) {
    Scratch<T> masked(pool.output_size());
    activation_backward(activation, pool.output_size(), y, dy, masked.get());
    max_pool2d_backward(pool, activation == Activation::linear ? dy : masked.get(), positions, full);
}

}  // namespace

template <class T>
void conv2d_pool_input_gradient(const Conv2DShape& s, const Pool2DShape& pool, const T* dy, const T* y,
                                const std::uint8_t* positions, Activation activation, const T* w, T* dx) {
    if (conv2d_pool_method<T>(s, pool, Direction::input_gradient) == Conv2DPoolMethod::dense) {
        Scratch<T> full(s.output_size());
        scatter(pool, dy, y, positions, activation, full.get());
        conv2d_input_gradient(s, full.get(), w, dx);
        return;
    }
    const Blocks blocks = Blocks::of<T>(s);
    const index k = s.kh * blocks.length, size = pool.kh * pool.kw;
    const index height = s.h + s.pad_top + s.pad_bottom, width = s.w + s.pad_left + s.pad_right;
    const bool padded = height != s.h || width != s.w;
    const Windows windows{s, pool, width * s.c, height * width * s.c};
    // Each filter's weights in one run, and as many filters at a time as leave room in L1 for the image's rows.
    Scratch<T> filters(s.o * k), images(padded ? s.n * windows.image_stride : 0);
    parallel_for((s.o + 15) / 16, static_cast<double>(4 * s.o * k), [&](index group, int) {
        const index last = std::min(s.o, group * 16 + 16);
        for (index i = 0; i < k; ++i)
            for (index o = group * 16; o < last; ++o) filters[o * k + i] = w[i * s.o + o];
    });
    const bool relu = activation == Activation::relu;
    // As many filters at a time as leave their blocks room in L1; as many windows as make that worth it.
    const index group = std::clamp<index>(l1_bytes / (blocks.bytes<T>()), 4, max_group), chunk = std::min<index>(windows.count(), 64);
    Scratch<int_of<T>> places(windows.count() * size);
    list_places<T>(windows, places);
    Scratch<Entry<T>> entries(get_num_threads() * chunk * max_group);
    Scratch<index> ends(get_num_threads() * chunk * size);
    const index row_step = s.dilation_h * windows.row_stride;
    const double cost = 2.0 * static_cast<double>(pool.output_size() * k);
    parallel_for(s.n, cost, [&](index n, int thread) {
        T* image = padded ? images + n * windows.image_stride : dx + n * s.h * s.w * s.c;
        std::fill_n(image, windows.image_stride, T{});
        Entry<T>* const mine = entries + thread * chunk * max_group;
        index* const my_ends = ends + thread * chunk * size;
        for (index first = 0; first < s.o; first += group)
            for (index window = 0; window < windows.count(); window += chunk) {
                const index here = std::min(chunk, windows.count() - window);
                const index start = (n * windows.count() + window) * s.o + first;
                list_filters(here, size, std::min(s.o - first, group), s.o, dy + start, y + start, positions + start, relu, k,
                             mine, my_ends);
                blocks.for_each<T>([&](index row, index column, SumBlocks<T> kernel) {
                    const T* weights = filters + first * k + row * blocks.length + column;
                    T* field = image + row * row_step + column;
                    for (index i = 0, begin = 0; i < here * size; begin = my_ends[i++])
                        if (my_ends[i] > begin)
                            kernel(field + places[window * size + i], row_step, weights, mine + begin, my_ends[i] - begin,
                                   blocks.length);
                });
            }
        if (!padded) return;
        for (index h = 0; h < s.h; ++h)
            std::copy_n(image + ((h + s.pad_top) * width + s.pad_left) * s.c, s.w * s.c, dx + (n * s.h + h) * s.w * s.c);
    });
}

namespace {

// With one channel a kernel element meets one of 2x2 neighbouring pixels, by the window's winner. For a register of filters
// at a time, a permutation by the winners' positions fetches each filter's own.

// Sums one row of windows onto dw (9, filters) and db (filters).
void one_channel_sums(const Windows& windows, const float* field, const float* dy, const float* y,
                      const std::uint8_t* positions, bool relu, float* dw, float* db, float* patches) {
    const index filters = windows.s.o, columns = windows.pool.q, row = windows.row_stride;
    for (index q = 0; q < columns; ++q)
        for (index tap = 0; tap < 9; ++tap) {
            const float* pixel = field + 2 * q + tap / 3 * row + tap % 3;
            float* patch = patches + (q * 9 + tap) * 4;
            std::memcpy(patch, pixel, 2 * sizeof(float));
            std::memcpy(patch + 2, pixel + row, 2 * sizeof(float));
        }
    for_each_vector<float>(filters, [&](index o, auto width) {
        vec<float> sum[9], bias = load_n(db + o, width);
        for (index tap = 0; tap < 9; ++tap) sum[tap] = load_n(dw + tap * filters + o, width);
        for (index q = 0; q < columns; ++q) {
            const index i = q * filters + o;
            vec<float> g = load_n(dy + i, width);
            if (relu) g = load_n(y + i, width) > vec<float>{} ? g : vec<float>{};
            const vec<std::int32_t> winners = load_positions<float>(positions + i, width);
            bias += g;
#pragma GCC unroll 9
            for (int tap = 0; tap < 9; ++tap)
                sum[tap] += g * choose_of_four(broadcast_four(patches + (q * 9 + tap) * 4), winners);
        }
        store_n(db + o, bias, width);
        for (index tap = 0; tap < 9; ++tap) store_n(dw + tap * filters + o, sum[tap], width);
    });
}

void one_channel_weight_gradient(const Conv2DShape& s, const Pool2DShape& pool, const float* x, const float* dy,
                                 const float* y, const std::uint8_t* positions, bool relu, float* dw, float* db) {
    const Padded<float> in = padded_input(s, x);
    const Windows windows{s, pool, in.row_stride(), in.image_stride()};
    // The sum over rows of windows is cut into parts that depend on the shape alone: the same bits for every thread count.
    const index rows = s.n * pool.p, parts = std::min<index>(rows, 16), part_size = 10 * s.o + 36 * pool.q;
    Scratch<float> sums(parts * part_size);
    parallel_for(parts, 40.0 * static_cast<double>(pool.output_size()), [&](index part, int) {
        float *const mine = sums + part * part_size, *const patches = mine + 10 * s.o;
        std::fill_n(mine, 10 * s.o, 0.0f);
        const Part my_rows(rows, parts, part);
        for (index row = my_rows.first; row < my_rows.last; ++row) {
            const float* field = in.data + row / pool.p * windows.image_stride + row % pool.p * 2 * windows.row_stride;
            const index i = row * pool.q * s.o;
            one_channel_sums(windows, field, dy + i, y + i, positions + i, relu, mine, mine + 9 * s.o, patches);
        }
    });
    for (index part = 0; part < parts; ++part) {
        for (index i = 0; i < 9 * s.o; ++i) dw[i] += sums[part * part_size + i];
        for (index o = 0; db && o < s.o; ++o) db[o] += sums[part * part_size + 9 * s.o + o];
    }
}

// The winners of one image for one filter, of `all` in memory: their receptive fields. Returns how many have a gradient g.
template <class T>
index list_winners(index windows, index size, index all, const std::uint8_t* positions, const T* g, index ldg,
                   const int_of<T>* places, Entry<T>* entries) {
    index count = 0;
    for (index window = 0; window < windows; ++window, positions += all, g += ldg, places += size) {
        entries[count] = {places[*positions], *g};
        count += *g != T{0};  // appended without a branch
    }
    return count;
}

template <class T>
void structured_weight_gradient(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* dy, const T* y,
                                const std::uint8_t* positions, bool relu, T* dw, T* db) {
    constexpr index group_size = 16;  // filters that share one pass over the images
    const Padded<T> in = padded_input(s, x);
    const Windows windows{s, pool, in.row_stride(), in.image_stride()};
    const Blocks blocks = Blocks::of<T>(s);
    const index k = s.kh * blocks.length, groups = (s.o + group_size - 1) / group_size;
    const index size = pool.kh * pool.kw, row_step = s.dilation_h * in.row_stride();
    Scratch<int_of<T>> places(windows.count() * size);
    list_places<T>(windows, places);
    Scratch<Entry<T>> lists(groups * group_size * (windows.count() + 1));
    Scratch<T> filters(groups * group_size * k), gradients(groups * group_size * windows.count());
    parallel_for(groups, 2.0 * static_cast<double>(pool.output_size() * k), [&](index group, int) {
        const Part mine{s.o, groups, group};
        Entry<T>* entries = lists + group * group_size * (windows.count() + 1);
        T *const weights = filters + group * group_size * k, *const g = gradients + group * group_size * windows.count();
        std::fill_n(weights, group_size * k, T{});
        index counts[group_size];
        T bias[group_size] = {};
        for (index n = 0; n < s.n; ++n) {
            const index out = n * windows.count() * s.o + mine.first;
            for (index window = 0; window < windows.count(); ++window) {
                T* const row = g + window * group_size;
                alive_gradients(dy + out + window * s.o, y + out + window * s.o, relu, mine.size(), row);
                for (index o = 0; o < mine.size(); ++o) bias[o] += row[o];
            }
            for (index o = 0; o < mine.size(); ++o)
                counts[o] = list_winners<T>(windows.count(), size, s.o, positions + out + o, g + o, group_size, places,
                                            entries + o * windows.count());
            const T* image = in.data + n * in.image_stride();
            blocks.for_each<T>([&](index row, index column, SumBlocks<T> kernel) {
                for (index o = 0; o < mine.size(); ++o)
                    kernel(weights + o * k + row * blocks.length + column, blocks.length, image + row * row_step + column,
                           entries + o * windows.count(), counts[o], row_step);
            });
        }
        for (index i = 0; i < k; ++i)
            for (index o = 0; o < mine.size(); ++o) dw[i * s.o + mine.first + o] += weights[o * k + i];
        for (index o = 0; db && o < mine.size(); ++o) db[mine.first + o] += bias[o];
    });
}

}  // namespace

template <class T>
void conv2d_pool_weight_gradient(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* dy, const T* y,
                                 const std::uint8_t* positions, Activation activation, T* dw, T* db) {
    const Conv2DPoolMethod method = conv2d_pool_method<T>(s, pool, Direction::weight_gradient);
    const bool relu = activation == Activation::relu;
    if constexpr (std::is_same_v<T, float>)
        if (method == Conv2DPoolMethod::one_channel)
            return one_channel_weight_gradient(s, pool, x, dy, y, positions, relu, dw, db);
    if (method == Conv2DPoolMethod::structured)
        return structured_weight_gradient(s, pool, x, dy, y, positions, relu, dw, db);
    Scratch<T> full(s.output_size());
    scatter(pool, dy, y, positions, activation, full.get());
    conv2d_weight_gradient(s, x, full.get(), dw, db);
}

#define INSTANTIATE(T)                                                                                              \
    template Conv2DPoolMethod conv2d_pool_method<T>(const Conv2DShape&, const Pool2DShape&, Direction);              \
    template void conv2d_pool_forward(const Conv2DShape&, const Pool2DShape&, const T*, const T*, const T*,         \
                                      Activation, T*, std::uint8_t*);                                               \
    template void conv2d_pool_forward_prepared(const Conv2DShape&, const Pool2DShape&, const T*, const T*, const T*, \
                                               const T*, Activation, T*, std::uint8_t*);                            \
    template void conv2d_pool_input_gradient(const Conv2DShape&, const Pool2DShape&, const T*, const T*,            \
                                             const std::uint8_t*, Activation, const T*, T*);                        \
    template void conv2d_pool_weight_gradient(const Conv2DShape&, const Pool2DShape&, const T*, const T*, const T*, \
                                              const std::uint8_t*, Activation, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
