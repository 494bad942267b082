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

// With one channel a window's 16 pixels meet the 9 weights of as many filters as fit a register, which stay in registers from
// window to window. A row of windows for each group of filters at a time.
template <class T>
void one_channel_forward(const Windows& windows, const T* x, const T* w, const T* bias, bool relu, T* y,
                         std::uint8_t* positions) {
    const index filters = windows.s.o, row = windows.row_stride;
    const index rows = windows.s.n * windows.pool.p, tasks = std::min<index>(rows, 64);
    const double flops = static_cast<double>(windows.s.flops());
    parallel_for(tasks, flops, [&](index task, int) {
        const Part mine(rows, tasks, task);
        for_each_vector<T>(filters, [&](index o, auto width) {
            vec<T> weights[9];
            for (index i = 0; i < 9; ++i) weights[i] = load_n(w + i * filters + o, width);
            const vec<T> b = bias ? load_n(bias + o, width) : vec<T>{};
            for (index r = mine.first; r < mine.last; ++r) {
                const T* field = x + r / windows.pool.p * windows.image_stride + r % windows.pool.p * 2 * row;
                index out = r * windows.pool.q * filters + o;
                for (index q = 0; q < windows.pool.q; ++q, field += 2, out += filters) {
                    vec<T> sum[4] = {b, b, b, b};
#pragma GCC unroll 4
                    for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
                        for (int j = 0; j < 4; ++j) {
                            const vec<T> pixel = broadcast(field[i * row + j]);
#pragma GCC unroll 4
                            for (int at = 0; at < 4; ++at) {
                                const int ki = i - at / 2, kj = j - at % 2;
                                if (ki >= 0 && ki < 3 && kj >= 0 && kj < 3) sum[at] += pixel * weights[ki * 3 + kj];
                            }
                        }
                    Winner<T> winner(sum[0]);
#pragma GCC unroll 3
                    for (int at = 1; at < 4; ++at) winner.meet(sum[at], at);
                    store_n(y + out, relu ? maximum(vec<T>{}, winner.value) : winner.value, width);
                    if (positions) store_positions<T>(positions + out, winner.position, width);
                }
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
#if defined(__AVX512F__)
    if (direction == Direction::weight_gradient && one_channel && s.o % 16 == 0 && std::is_same_v<T, float>)
        return Conv2DPoolMethod::one_channel;
#endif
    const bool structured = s.groups == 1 && s.dilation_w == 1 && s.c % lanes<T> == 0;
    return structured ? Conv2DPoolMethod::structured : Conv2DPoolMethod::dense;
}

template <class T>
void conv2d_pool_forward(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* w, const T* bias,
                         Activation activation, T* y, std::uint8_t* positions) {
    const Conv2DPoolMethod method = conv2d_pool_method<T>(s, pool, Direction::forward);
    if (method == Conv2DPoolMethod::separate) {
        Scratch<T> full(s.output_size());
        conv2d_forward(s, x, w, bias, activation, full.get());
        max_pool2d_forward(pool, full.get(), y, positions);
        return;
    }
    const bool relu = activation == Activation::relu;
    if (method == Conv2DPoolMethod::winograd)
        return winograd::conv2d_pool_forward(s, pool, x, w, bias, relu, y, positions);
    const Padded<T> in = padded_input(s, x);
    const Windows windows{s, pool, in.row_stride(), in.image_stride()};
    if (method == Conv2DPoolMethod::one_channel)
        return one_channel_forward(windows, in.data, w, bias, relu, y, positions);
    const Runs runs(s);
    const index k = s.kh * s.kw * s.c;
    Scratch<index> offsets(runs.count());
    for (index t = 0; t < runs.count(); ++t) offsets[t] = runs.offset(s, t, in.row_stride());
    Scratch<T> packed(packed_size<T>(k, s.o));
    const Panels<T> panels = packed_panels(packed.get(), k, s.o);

    const index size = pool.kh * pool.kw;  // pixels in a window
    const index all = s.n * windows.count(), per_tile = tile_rows / size;
    const index tiles = (all + per_tile - 1) / per_tile;
    // With few tiles (one image) threads share out the kernel's panels, each packed by the thread that uses it: packed by
    // another, its way from that core's cache would take as long as the products.
    const bool few = tiles <= 64 && panels.count() > 1;
    const index tasks = few ? 1 : std::min(tiles, std::max<index>(16, tiles / 8)), panel_tasks = few ? panels.count() : 1;
    if (!few) pack_panels(w, s.o, false, index{0}, k, k, s.o, packed.get());
    parallel_for(tasks * panel_tasks, static_cast<double>(s.flops()), [&](index task, int) {
        const Part mine(tiles, tasks, task % tasks), my_panels(panels.count(), panel_tasks, task / tasks);
        if (few) {
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
    const T* block;
    T coefficient;
};

inline constexpr int block_registers = vector_registers == 32 ? 24 : 12;
inline constexpr int block_vectors = vector_registers == 32 ? 8 : 4;  // per row
inline constexpr int block_rows = 3;

template <class T, int rows, int vectors>
void sum_blocks(T* sum, index sum_stride, const Entry<T>* entries, index count, index stride) {
    vec<T> acc[rows][vectors];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) acc[r][v] = load(sum + r * sum_stride + v * lanes<T>);
    for (index e = 0; e < count; ++e) {
        const T* p = entries[e].block;
        const vec<T> coefficient = broadcast(entries[e].coefficient);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v) acc[r][v] += coefficient * load(p + r * stride + v * lanes<T>);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) store(sum + r * sum_stride + v * lanes<T>, acc[r][v]);
}

template <class T>
using SumBlocks = void (*)(T*, index, const Entry<T>*, index, index);

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
    // Adds all blocks of one sum. Row strides: `sum_stride` and `stride`.
    template <class T>
    void add(T* sum, index sum_stride, Entry<T>* entries, index count, index stride) const {
        for (index i = 0; i < row_parts; ++i) {
            const Part r(rows, row_parts, i);
            for (index j = 0; j < column_parts; ++j) {
                const Part v(length / lanes<T>, column_parts, j);
                const index offset = r.first * stride + v.first * lanes<T>;
                for (index e = 0; offset && e < count; ++e) entries[e].block += offset;
                sum_blocks_kernel<T>(r.size(), v.size())(sum + r.first * sum_stride + v.first * lanes<T>, sum_stride,
                                                         entries, count, stride);
                for (index e = 0; offset && e < count; ++e) entries[e].block -= offset;
            }
        }
    }
};

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
    const index group_size = std::clamp<index>(36 * 1024 / (k * static_cast<index>(sizeof(T))), 4, 64);
    const bool relu = activation == Activation::relu;
    const double cost = 2.0 * static_cast<double>(pool.output_size() * k);
    parallel_for(s.n, cost, [&](index n, int) {
        T* image = padded ? images + n * windows.image_stride : dx + n * s.h * s.w * s.c;
        std::fill_n(image, windows.image_stride, T{});
        Entry<T> entries[64];
        for (index first = 0; first < s.o; first += group_size) {
            const index last = std::min(s.o, first + group_size);
            for (index window = 0; window < windows.count(); ++window) {
                const index row = (n * windows.count() + window) * s.o;
                for (index position = 0; position < size; ++position) {
                    index count = 0;  // the filters whose winner this pixel is; appended without a branch
                    for (index o = first; o < last; ++o) {
                        entries[count] = {filters + o * k, dy[row + o]};
                        count += (positions[row + o] == position) & (!relu | (y[row + o] > T{0}));
                    }
                    T* sum = image + windows.start(window) + windows.pixel(position);
                    if (count) blocks.add(sum, s.dilation_h * windows.row_stride, entries, count, blocks.length);
                }
            }
        }
        if (!padded) return;
        for (index h = 0; h < s.h; ++h)
            std::copy_n(image + ((h + s.pad_top) * width + s.pad_left) * s.c, s.w * s.c, dx + (n * s.h + h) * s.w * s.c);
    });
}

namespace {

#if defined(__AVX512F__)
// With one channel a window's receptive field is 4x4 pixels, one register. For 16 filters at once, a permutation by the
// winners' positions fetches each filter's own pixel under each kernel element.

// Sums images [first, last) onto dw (9, o) and db (o) for filters [o, o + 16).
void one_channel_sums(const Windows& windows, const float* x, const float* dy, const float* y,
                      const std::uint8_t* positions, bool relu, index o, Part images, float* dw, float* db) {
    const index filters = windows.s.o;
    __m512 sum[9], bias = _mm512_setzero_ps();
    for (__m512& v : sum) v = _mm512_setzero_ps();
    const __m512i second_row = _mm512_set1_epi32(2);
    for (index n = images.first; n < images.last; ++n)
        for (index window = 0; window < windows.count(); ++window) {
            const index i = (n * windows.count() + window) * filters + o;
            const float* field = x + n * windows.image_stride + windows.start(window);
            __m512 g = _mm512_loadu_ps(dy + i);
            if (relu)
                g = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(_mm512_loadu_ps(y + i), _mm512_setzero_ps(), _CMP_GT_OQ), g);
            bias = _mm512_add_ps(bias, g);
            __m512 pixels = _mm512_castps128_ps512(_mm_loadu_ps(field));
            pixels = _mm512_insertf32x4(pixels, _mm_loadu_ps(field + windows.row_stride), 1);
            pixels = _mm512_insertf32x4(pixels, _mm_loadu_ps(field + 2 * windows.row_stride), 2);
            pixels = _mm512_insertf32x4(pixels, _mm_loadu_ps(field + 3 * windows.row_stride), 3);
            // Positions 0 1 2 3 are pixels 0 1 4 5 of the field.
            __m512i at = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(positions + i)));
            at = _mm512_add_epi32(at, _mm512_and_si512(at, second_row));
#pragma GCC unroll 9
            for (int tap = 0; tap < 9; ++tap) {
                const __m512i pixel = _mm512_add_epi32(at, _mm512_set1_epi32(tap / 3 * 4 + tap % 3));
                sum[tap] = _mm512_fmadd_ps(g, _mm512_permutexvar_ps(pixel, pixels), sum[tap]);
            }
        }
    for (index tap = 0; tap < 9; ++tap)
        _mm512_storeu_ps(dw + tap * filters + o, _mm512_add_ps(_mm512_loadu_ps(dw + tap * filters + o), sum[tap]));
    _mm512_storeu_ps(db + o, _mm512_add_ps(_mm512_loadu_ps(db + o), bias));
}

void one_channel_weight_gradient(const Conv2DShape& s, const Pool2DShape& pool, const float* x, const float* dy,
                                 const float* y, const std::uint8_t* positions, bool relu, float* dw, float* db) {
    const Padded<float> in = padded_input(s, x);
    const Windows windows{s, pool, in.row_stride(), in.image_stride()};
    // The sum over images is cut into parts that depend on the shape alone: the same bits for every thread count.
    const index parts = std::min<index>(s.n, 16), part_size = 10 * s.o;
    Scratch<float> sums(parts * part_size);
    std::fill_n(sums.get(), parts * part_size, 0.0f);
    parallel_for(parts, 40.0 * static_cast<double>(pool.output_size()), [&](index part, int) {
        float* mine = sums + part * part_size;
        for (index o = 0; o < s.o; o += 16)
            one_channel_sums(windows, in.data, dy, y, positions, relu, o, Part(s.n, parts, part), mine, mine + 9 * s.o);
    });
    for (index part = 0; part < parts; ++part) {
        for (index i = 0; i < 9 * s.o; ++i) dw[i] += sums[part * part_size + i];
        for (index o = 0; db && o < s.o; ++o) db[o] += sums[part * part_size + 9 * s.o + o];
    }
}
#endif

// Winners of one image for filters [first, last): entries[o - first] lists the receptive fields of filter o.
template <class T>
void list_winners(const Windows& windows, const T* image, const T* dy, const T* y, const std::uint8_t* positions,
                  bool relu, Part filters, const index* pixel_offsets, Entry<T>* entries, index* counts, T* sums) {
    const index all = windows.count();
    for (index o = 0; o < filters.size(); ++o) counts[o] = 0;
    for (index window = 0; window < all; ++window) {
        const index row = window * windows.s.o + filters.first;
        const T* start = image + windows.start(window);
        for (index o = 0; o < filters.size(); ++o) {  // appended without a branch
            const bool alive = !relu | (y[row + o] > T{0});
            entries[o * all + counts[o]] = {start + pixel_offsets[positions[row + o]], dy[row + o]};
            counts[o] += alive;
            sums[o] += alive ? dy[row + o] : T{0};
        }
    }
}

template <class T>
void structured_weight_gradient(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* dy, const T* y,
                                const std::uint8_t* positions, bool relu, T* dw, T* db) {
    constexpr index group_size = 16;  // filters that share one pass over the images
    const Padded<T> in = padded_input(s, x);
    const Windows windows{s, pool, in.row_stride(), in.image_stride()};
    const Blocks blocks = Blocks::of<T>(s);
    const index k = s.kh * blocks.length, groups = (s.o + group_size - 1) / group_size;
    Scratch<index> pixel_offsets(pool.kh * pool.kw);
    for (index i = 0; i < pool.kh * pool.kw; ++i) pixel_offsets[i] = windows.pixel(i);
    Scratch<Entry<T>> lists(groups * group_size * (windows.count() + 1));
    Scratch<T> filters(groups * group_size * k);
    parallel_for(groups, 2.0 * static_cast<double>(pool.output_size() * k), [&](index group, int) {
        const Part mine{s.o, groups, group};
        Entry<T>* entries = lists + group * group_size * (windows.count() + 1);
        T* weights = filters + group * group_size * k;
        std::fill_n(weights, group_size * k, T{});
        index counts[group_size];
        T bias[group_size] = {};
        for (index n = 0; n < s.n; ++n) {
            const index out = n * windows.count() * s.o;
            list_winners(windows, in.data + n * in.image_stride(), dy + out, y + out, positions + out, relu, mine,
                         pixel_offsets.get(), entries, counts, bias);
            for (index o = 0; o < mine.size(); ++o)
                blocks.add(weights + o * k, blocks.length, entries + o * windows.count(), counts[o],
                           s.dilation_h * in.row_stride());
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
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<T, float>)
        if (method == Conv2DPoolMethod::one_channel)
            return one_channel_weight_gradient(s, pool, x, dy, y, positions, relu, dw, db);
#endif
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
    template void conv2d_pool_input_gradient(const Conv2DShape&, const Pool2DShape&, const T*, const T*,            \
                                             const std::uint8_t*, Activation, const T*, T*);                        \
    template void conv2d_pool_weight_gradient(const Conv2DShape&, const Pool2DShape&, const T*, const T*, const T*, \
                                              const std::uint8_t*, Activation, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
