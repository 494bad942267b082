#include "vivace/gemm.h"

#include "tile.h"
#include "vivace/elementwise.h"

namespace vivace {
namespace {

constexpr index no_offset[1] = {0};

// A product of one row waits for memory: each of its FLOPs takes as long as some eight of a tile's.
constexpr double single_row_cost = 8;

// A is never packed: its rows are read where they lie, which costs less than packing it, at any size tried. Packing B is
// worth it from so many rows on.
constexpr index worth_packing = 96;

// Up to so many rows b is packed piece by piece.
constexpr index few_rows = 256;

// A long sum over the rows of both operands (a weight gradient) is quicker in place, chunk by chunk: their rows are
// contiguous already, and packing would cost as much as the few products that use each element.
bool is_long_sum(index m, index n, index k, bool transpose_a, bool transpose_b) {
    return transpose_a && !transpose_b && k >= 4 * std::max(m, n);
}

template <class T>
struct Operands {
    index m, n, k;
    const T* a;
    bool transpose_a;
    const T* b;
    bool transpose_b;
    T* c;
    bool accumulate;
    const T* bias;
    bool relu;
    index lda, ldb, ldc;  // from one stored row to the next

    double flops() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k); }
};

template <class T>
Tile<T> tile_for(const Operands<T>& op, index k, index a_step) {
    Tile<T> tile{};
    tile.offsets = no_offset;
    tile.taps = 1;
    tile.k = k;
    tile.a_step = a_step;
    tile.bias = op.bias;
    tile.accumulate = op.accumulate;
    tile.relu = op.relu;
    return tile;
}

// Few rows (a dense layer at small batches): each panel of b is packed a piece at a time, which all rows use while it
// stands in L1. One or two tiles would not make up for it.
template <class T>
void multiply_few_rows(const Operands<T>& op) {
    constexpr index piece = 16 * 1024 / (panel_columns<T> * static_cast<index>(sizeof(T)));
    const index tiles = (op.m + tile_rows - 1) / tile_rows, panels = (op.n + panel_columns<T> - 1) / panel_columns<T>;
    parallel_for(panels, op.flops(), [&](index j, int) {
        alignas(64) T packed[piece * panel_columns<T>];
        const index first = j * panel_columns<T>, columns = std::min(panel_columns<T>, op.n - first);
        for (index k0 = 0; k0 < op.k; k0 += piece) {
            const index k = std::min(piece, op.k - k0);
            const T* source = op.b + (op.transpose_b ? first * op.ldb + k0 : k0 * op.ldb + first);
            // The next piece of this panel, or the next panel.
            pack_panel(source, op.ldb, op.transpose_b, k, columns, packed);
            Tile<T> tile = tile_for(op, k, 0);
            tile.b = packed;
            tile.ldb = panel_width<T>(columns);
            tile.columns = columns;
            tile.bias = op.bias && k0 == 0 ? op.bias + first : nullptr;
            tile.accumulate = op.accumulate || k0 > 0;
            tile.relu = op.relu && k0 + k == op.k;
            for (index i = 0; i < tiles; ++i) {
                const Part rows(op.m, tiles, i);
                tile.rows = rows.size();
                for (index r = 0; r < tile.rows; ++r) {
                    tile.a[r] = op.a + (rows.first + r) * op.lda + k0;
                    tile.c[r] = op.c + (rows.first + r) * op.ldc + first;
                }
                multiply_by_rows(tile);
            }
        }
    });
}

template <class T>
void multiply_a_by_rows(const Operands<T>& op) {
    Scratch<T> packed(packed_size<T>(op.k, op.n));
    pack_panels(op.b, op.ldb, op.transpose_b, index{0}, op.k, op.k, op.n, packed.get());
    multiply_gathered(op.m, packed_panels(packed.get(), op.k, op.n), tile_for(op, op.k, 0),
                      [&](index row, index rows, const T** a, T** c) {
                          for (index r = 0; r < rows; ++r) {
                              a[r] = op.a + (row + r) * op.lda;
                              c[r] = op.c + (row + r) * op.ldc;
                          }
                      });
}

// b in place when its rows are whole registers and too few tiles would share the packing; packed otherwise.
template <class T, class F>
void with_panels(const Operands<T>& op, F&& f) {
    const bool few_uses = op.m <= 4 * tile_rows || (op.k <= worth_packing && op.m <= 512) ||
                          is_long_sum(op.m, op.n, op.k, op.transpose_a, op.transpose_b);
    if (!op.transpose_b && op.n % lanes<T> == 0 && few_uses) {
        f(panels_in_place(op.b, op.ldb, op.n));
        return;
    }
    Scratch<T> packed(packed_size<T>(op.k, op.n));
    pack_panels(op.b, op.ldb, op.transpose_b, index{0}, op.k, op.k, op.n, packed.get());
    f(packed_panels(packed.get(), op.k, op.n));
}

template <class T>
void multiply_a_by_columns(const Operands<T>& op) {
    const index tiles = (op.m + tile_rows - 1) / tile_rows;
    with_panels(op, [&](const Panels<T>& b) {
        // A chunk of both operands' rows stays in L2 while all tiles use it.
        const index chunk = std::max<index>(64, 64 * 1024 / (op.m + op.n));
        const index panel_tasks = std::min(b.count(), (16 + tiles - 1) / tiles);
        for (index k0 = 0; k0 < op.k; k0 += chunk) {
            const index k = std::min(chunk, op.k - k0);
            const bool last = k0 + k == op.k;
            const double flops = op.flops() * static_cast<double>(k) / static_cast<double>(op.k);
            parallel_for(tiles * panel_tasks, flops, [&](index task, int) {
                const Part rows(op.m, tiles, task / panel_tasks), panels(b.count(), panel_tasks, task % panel_tasks);
                Tile<T> tile = tile_for(op, k, op.lda);
                tile.accumulate = op.accumulate || k0 > 0;
                tile.relu = op.relu && last;
                tile.rows = rows.size();
                tile.a[0] = op.a + k0 * op.lda + rows.first;
                for (index j = panels.first; j < panels.last; ++j) {
                    b.select(j, tile);
                    tile.b += k0 * tile.ldb;
                    tile.bias = op.bias && last ? op.bias + j * panel_columns<T> : nullptr;
                    for (index r = 0; r < tile.rows; ++r)
                        tile.c[r] = op.c + (rows.first + r) * op.ldc + j * panel_columns<T>;
                    multiply_by_columns(tile);
                }
            });
        }
    });
}

// out = sum over k of a[k] times row k of b, `vectors` registers wide.
template <int vectors, class T>
void sum_whole_rows(const T* a, index rows, const T* b, index ldb, T* out) {
    vec<T> sum[vectors] = {};
    for (index k = 0; k < rows; ++k, b += ldb) {
        const vec<T> x = broadcast(a[k]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
            sum[v] += x * load(b + v * lanes<T>);
            keep_order();
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) store(out + v * lanes<T>, sum[v]);
}

// One row of A (a dense layer at batch 1): B's way from the caches sets the pace, so B is read in place and in sequence,
// eight registers of a row at a time, and threads take runs of B's rows. The sums over those runs are added in their
// order, whoever computed them.
template <class T>
void multiply_single_row(const Operands<T>& op) {
    constexpr index run = 400, vectors = 8, width = vectors * lanes<T>;
    const index runs = (op.k + run - 1) / run;
    Scratch<T> partial(runs * op.n);
    parallel_for(runs, op.flops() * single_row_cost, [&](index i, int) {
        const Part mine(op.k, runs, i);
        for (index first = 0; first < op.n; first += width) {
            const index columns = std::min(width, op.n - first);
            const T* b = op.b + mine.first * op.ldb + first;
            T* out = partial + i * op.n + first;
            if (columns == width) {
                sum_whole_rows<vectors>(op.a + mine.first, mine.size(), b, op.ldb, out);
                continue;
            }
            for_each_vector<T>(columns, [&](index j, auto n) {
                vec<T> sum{};
                for (index k = 0; k < mine.size(); ++k)
                    sum += broadcast(op.a[mine.first + k]) * load_n(b + k * op.ldb + j, n);
                store_n(out + j, sum, n);
            });
        }
    });
    for_each_vector<T>(op.n, [&](index j, auto n) {
        vec<T> y = op.bias ? load_n(op.bias + j, n) : vec<T>{};
        for (index i = 0; i < runs; ++i) y += load_n(partial + i * op.n + j, n);
        if (op.accumulate) y += load_n(op.c + j, n);
        store_n(op.c + j, op.relu ? maximum(vec<T>{}, y) : y, n);
    });
}

template <class T>
void multiply(const Operands<T>& op) {
    if (op.m == 1 && !op.transpose_a && !op.transpose_b)
        return multiply_single_row(op);
    if (op.transpose_a)
        multiply_a_by_columns(op);
    else if (op.m <= few_rows)
        multiply_few_rows(op);
    else
        multiply_a_by_rows(op);
}

}  // namespace

template <class T>
void gemm(index m, index n, index k, const T* a, bool transpose_a, const T* b, bool transpose_b, T* c,
          bool accumulate) {
    gemm_strided<T>(m, n, k, a, transpose_a ? m : k, transpose_a, b, transpose_b ? k : n, transpose_b, nullptr, c, n,
                    accumulate);
}

template <class T>
void gemm_strided(index m, index n, index k, const T* a, index lda, bool transpose_a, const T* b, index ldb,
                  bool transpose_b, const T* bias, T* c, index ldc, bool accumulate) {
    multiply(Operands<T>{m, n, k, a, transpose_a, b, transpose_b, c, accumulate, bias, false, lda, ldb, ldc});
}

template <class T>
void dense_forward(index n, index i, index o, const T* x, const T* w, const T* bias, Activation activation, T* y) {
    multiply(Operands<T>{n, o, i, x, false, w, false, y, false, bias, activation == Activation::relu, i, o, o});
    if (activation != Activation::linear && activation != Activation::relu) activation_forward(activation, n * o, y, y);
}

template <class T>
void dense_input_gradient(index n, index i, index o, const T* dy, const T* w, T* dx) {
    gemm(n, i, o, dy, false, w, true, dx, false);
}

template <class T>
void add_column_sums(index rows, index columns, const T* x, index ldx, T* sums) {
    const index groups = (columns + 63) / 64;
    parallel_for(groups, 2.0 * static_cast<double>(rows * columns), [&](index group, int) {
        const index first = group * 64, size = std::min<index>(64, columns - first);
        for (index r = 0; r < rows; ++r)
            for_each_vector<T>(size, [&](index j, auto width) {
                T* sum = sums + first + j;
                store_n(sum, load_n(sum, width) + load_n(x + r * ldx + first + j, width), width);
            });
    });
}

template <class T>
void dense_weight_gradient(index n, index i, index o, const T* x, const T* dy, T* dw, T* db) {
    gemm(i, o, n, x, true, dy, false, dw, true);
    if (db) add_column_sums(n, o, dy, o, db);
}

#define INSTANTIATE(T)                                                                                        \
    template void gemm(index, index, index, const T*, bool, const T*, bool, T*, bool);                        \
    template void gemm_strided(index, index, index, const T*, index, bool, const T*, index, bool, const T*, T*, index, bool); \
    template void add_column_sums(index, index, const T*, index, T*); \
    template void dense_forward(index, index, index, const T*, const T*, const T*, Activation, T*);           \
    template void dense_input_gradient(index, index, index, const T*, const T*, T*);                          \
    template void dense_weight_gradient(index, index, index, const T*, const T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
