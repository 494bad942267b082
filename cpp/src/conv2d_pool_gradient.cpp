// The gradients of a convolution behind which pixels won their pooling windows: sums of blocks (see docs/decisions/0005).
#include "one_channel.h"
#include "padded.h"
#include "positions.h"
#include "tile.h"
#include "vivace/conv2d_pool.h"
#include "vivace/elementwise.h"
#include "windows.h"

namespace vivace {
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
// `filters` of them, of `all` in memory, with k weights each. Behind the last entry there must be room for a register's.
template <class T>
void list_filters(index windows, index size, index filters, index all, const T* dy, const T* y,
                  const std::uint8_t* positions, bool relu, index k, Entry<T>* entries, index* ends) {
    alignas(64) T g[max_group];
    alignas(64) int_of<T> blocks[max_group];
    for (index o = 0; o < filters; ++o) blocks[o] = static_cast<int_of<T>>(o * k);
    Entry<T>* next = entries;
    for (index window = 0; window < windows; ++window, dy += all, y += all, positions += all) {
        alive_gradients(dy, y, relu, filters, g);
        for (index position = 0; position < size; ++position) {
            for_each_vector<T>(filters, [&](index o, auto width) {
                const auto here = load_positions<T>(positions + o, width) == static_cast<int_of<T>>(position);
                const vec<T> gradients = load_n(g + o, width);
                const std::uint32_t winners = bits<T>(here & (gradients != vec<T>{}));
                const vec<int_of<T>> their_blocks = compress<int_of<T>>(load(blocks + o), winners);
                vec<T> low, high;
                interleave<T>(low, high, reinterpret_cast<vec<T>>(their_blocks), compress<T>(gradients, winners),
                              std::make_index_sequence<lanes<T>>());
                std::memcpy(next, &low, sizeof low);
                std::memcpy(next + lanes<T> / 2, &high, sizeof high);
                next += __builtin_popcount(winners);
            });
            *ends++ = next - entries;
        }
    }
}

// Where the receptive fields of one image's windows start, pixel by pixel.
template <class T>
void list_places(const Windows& windows, int_of<T>* places) {
    const Pool2DShape& pool = windows.pool;
    const index down = windows.s.stride_h * windows.row_stride, across = windows.s.stride_w * windows.s.c;
    for (index p = 0; p < pool.p; ++p)
        for (index q = 0; q < pool.q; ++q)
            for (index i = 0; i < pool.kh; ++i)
                for (index j = 0; j < pool.kw; ++j)
                    *places++ = static_cast<int_of<T>>((p * pool.kh + i) * down + (q * pool.kw + j) * across);
}

// to (columns, rows) = x (rows, columns) transposed; the rows fill whole registers.
template <class T>
void transpose_matrix(index rows, index columns, const T* x, T* to) {
    parallel_for((columns + 15) / 16, static_cast<double>(2 * rows * columns), [&](index task, int) {
        const index last = std::min(columns, task * 16 + 16);
        for (index column = task * 16; column < last; column += lanes<T>) {
            const index here = std::min(lanes<T>, last - column);
            for (index row = 0; row < rows; row += lanes<T>) {
                vec<T> square[lanes<T>];
                for (index i = 0; i < lanes<T>; ++i) square[i] = here == lanes<T> ? load(x + (row + i) * columns + column) : load_partial(x + (row + i) * columns + column, here);
                transpose<T>(square);
                for (index i = 0; i < here; ++i) store(to + (column + i) * rows + row, square[i]);
            }
        }
    });
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
    transpose_matrix(k, s.o, w, filters.get());
    const bool relu = activation == Activation::relu;
    // As many filters at a time as leave their blocks room in L1; as many windows as make that worth it.
    const index group = std::clamp<index>(l1_bytes / (blocks.bytes<T>()), 4, max_group), chunk = std::min<index>(windows.count(), 64);
    Scratch<int_of<T>> places(windows.count() * size);
    list_places<T>(windows, places);
    const int threads = get_num_threads();
    const index most_entries = chunk * max_group + lanes<T>;
    Scratch<Entry<T>> entries(threads * most_entries);
    Scratch<index> ends(threads * chunk * size);
    const index row_step = s.dilation_h * windows.row_stride;
    const double cost = 2.0 * static_cast<double>(pool.output_size() * k);
    parallel_for(s.n, cost, threads, [&](index n, int thread) {
        T* image = padded ? images + n * windows.image_stride : dx + n * s.h * s.w * s.c;
        std::fill_n(image, windows.image_stride, T{});
        Entry<T>* const mine = entries + thread * most_entries;
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

// Lists the winners of one image that have a gradient g, for `filters` side by side, a register at most, of `all` in memory:
// their receptive fields. The list of filter j begins at entries + j * windows; ends[j] is where it ends.
template <class T, class N>
void list_winners(index windows, index size, index all, N filters, const std::uint8_t* positions, const T* g, index ldg,
                  const int_of<T>* places, Entry<T>* entries, Entry<T>** ends) {
    Entry<T>* next[lanes<T>];
#pragma GCC unroll 16
    for (index j = 0; j < lanes<T>; ++j) next[j] = entries + j * windows;
    for (index window = 0; window < windows; ++window, positions += all, g += ldg, places += size) {
        const vec<int_of<T>> winners = load_positions<T>(positions, filters);
        const vec<T> gradients = load_n(g, filters);
        alignas(64) Entry<T> row[lanes<T>];
        bool listed = false;
        if constexpr (std::is_same_v<T, float>)
            if (size == 4) {
                vec<float> low, high;
                interleave<float>(low, high, choose_of_four(broadcast_four(reinterpret_cast<const float*>(places)), winners),
                                  gradients, std::make_index_sequence<lanes<float>>());
                std::memcpy(row, &low, sizeof low);
                std::memcpy(row + lanes<float> / 2, &high, sizeof high);
                listed = true;
            }
        for (index j = 0; !listed && j < lanes<T>; ++j) row[j] = {places[winners[j]], gradients[j]};
        const std::uint32_t alive = bits<T>(gradients != vec<T>{});
#pragma GCC unroll 16
        for (index j = 0; j < lanes<T>; ++j) {
            std::memcpy(next[j], row + j, sizeof row[j]);
            next[j] += alive >> j & 1;  // appended without a branch
        }
    }
#pragma GCC unroll 16
    for (index j = 0; j < lanes<T>; ++j) ends[j] = next[j];
}

// dw (k, filters) and db += the sums of all parts: each (filters, k) and then (filters). k fills whole registers.
template <class T>
void add_parts(const T* sums, index parts, index part_size, index filters, index k, T* dw, T* db) {
    const auto sum_at = [&](index i, auto width) {
        vec<T> sum = load_n(sums + i, width);
        for (index part = 1; part < parts; ++part) sum += load_n(sums + part * part_size + i, width);
        return sum;
    };
    constexpr auto whole = std::integral_constant<index, lanes<T>>();
    parallel_for(k / lanes<T>, 4.0 * static_cast<double>(parts * part_size), [&](index block, int) {
        for_each_vector<T>(filters, [&](index o, auto width) {
            vec<T> rows[lanes<T>] = {};
            for (index r = 0; r < width; ++r) rows[r] = sum_at((o + r) * k + block * lanes<T>, whole);
            transpose<T>(rows);
            for (index r = 0; r < lanes<T>; ++r) {
                T* to = dw + (block * lanes<T> + r) * filters + o;
                store_n(to, load_n(to, width) + rows[r], width);
            }
        });
    });
    if (db)
        for_each_vector<T>(filters, [&](index o, auto width) {
            store_n(db + o, load_n(db + o, width) + sum_at(filters * k + o, width), width);
        });
}

template <class T>
void structured_weight_gradient(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* dy, const T* y,
                                const std::uint8_t* positions, bool relu, T* dw, T* db) {
    constexpr index group_size = 32;  // filters that share one pass over the images
    const Padded<T> in = padded_input(s, x);
    const Windows windows{s, pool, in.row_stride(), in.image_stride()};
    const Blocks blocks = Blocks::of<T>(s);
    const index k = s.kh * blocks.length, groups = (s.o + group_size - 1) / group_size, all = windows.count();
    const index size = pool.kh * pool.kw, row_step = s.dilation_h * in.row_stride();
    // A few images at a time stay in L2 while the groups of filters pass over them. How many parts there are depends on the
    // shape alone, and their sums are added in order: the same bits for every number of threads.
    const index parts = std::min<index>(s.n, 4), part_size = s.o * (k + 1);
    Scratch<int_of<T>> places(all * size);
    list_places<T>(windows, places);
    const int threads = get_num_threads();
    Scratch<Entry<T>> lists(threads * (group_size * all + 1));
    Scratch<T> gradients(threads * group_size * all), sums(parts * part_size);
    parallel_for(parts * groups, 2.0 * static_cast<double>(pool.output_size() * k), threads, [&](index task, int thread) {
        const Part mine{s.o, groups, task % groups}, images{s.n, parts, task / groups};
        Entry<T>* entries = lists + thread * (group_size * all + 1);
        T *const g = gradients + thread * group_size * all, *const part = sums + task / groups * part_size;
        T *const weights = part + mine.first * k, *const bias = part + s.o * k + mine.first;
        std::fill_n(weights, mine.size() * k, T{});
        std::fill_n(bias, mine.size(), T{});
        Entry<T>* ends[group_size];
        for (index n = images.first; n < images.last; ++n) {
            const index out = n * all * s.o + mine.first;
            for (index window = 0; window < all; ++window) {
                T* const row = g + window * group_size;
                alive_gradients(dy + out + window * s.o, y + out + window * s.o, relu, mine.size(), row);
                for (index o = 0; o < mine.size(); ++o) bias[o] += row[o];
            }
            for_each_vector<T>(mine.size(), [&](index o, auto filters) {
                list_winners<T>(all, size, s.o, filters, positions + out + o, g + o, group_size, places, entries + o * all,
                                ends + o);
            });
            const T* image = in.data + n * in.image_stride();
            blocks.for_each<T>([&](index row, index column, SumBlocks<T> kernel) {
                for (index o = 0; o < mine.size(); ++o)
                    kernel(weights + o * k + row * blocks.length + column, blocks.length, image + row * row_step + column,
                           entries + o * all, ends[o] - (entries + o * all), row_step);
            });
        }
    });
    add_parts(sums.get(), parts, part_size, s.o, k, dw, db);
}

}  // namespace

template <class T>
void conv2d_pool_weight_gradient(const Conv2DShape& s, const Pool2DShape& pool, const T* x, const T* dy, const T* y,
                                 const std::uint8_t* positions, Activation activation, T* dw, T* db) {
    if (s.n == 0) return;
    const Conv2DPoolMethod method = conv2d_pool_method<T>(s, pool, Direction::weight_gradient);
    const bool relu = activation == Activation::relu;
    if constexpr (std::is_same_v<T, float>)
        if (method == Conv2DPoolMethod::one_channel)
            return one_channel::conv2d_pool_weight_gradient(s, pool, x, dy, y, positions, relu, dw, db);
    if (method == Conv2DPoolMethod::structured)
        return structured_weight_gradient(s, pool, x, dy, y, positions, relu, dw, db);
    Scratch<T> full(s.output_size());
    scatter(pool, dy, y, positions, activation, full.get());
    conv2d_weight_gradient(s, x, full.get(), dw, db);
}

#define INSTANTIATE(T)                                                                                              \
    template void conv2d_pool_input_gradient(const Conv2DShape&, const Pool2DShape&, const T*, const T*,            \
                                             const std::uint8_t*, Activation, const T*, T*);                        \
    template void conv2d_pool_weight_gradient(const Conv2DShape&, const Pool2DShape&, const T*, const T*, const T*, \
                                              const std::uint8_t*, Activation, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
