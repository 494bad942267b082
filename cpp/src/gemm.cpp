#include "vivace/gemm.h"

#include "tile.h"
#include "vivace/elementwise.h"

namespace vivace {
namespace {

constexpr index no_offset[1] = {0};

// A product of one row waits for memory: each of its FLOPs takes as long as some eight of a tile's.
constexpr double single_row_cost = 8;

// Up to so many rows b is packed piece by piece.
constexpr index few_rows = 256;

// Rows of a panel that are packed at a time: they stay in L1.
template <class T>
constexpr index piece = 16 * 1024 / (panel_columns<T> * static_cast<index>(sizeof(T)));

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
    index lda, ldb, ldc;       // from one stored row to the next
    T* column_sums = nullptr;  // of b, added to; with a transposed only

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

// A sum so long beside the result (a weight gradient) that parts of it are worth a result each.
template <class T>
bool is_long_sum(const Operands<T>& op) {
    return op.k >= 8 * piece<T> && op.k >= 4 * std::max(op.m, op.n) && !op.bias && !op.relu;
}

// Few rows (a dense layer at small batches): each panel of b is packed a piece at a time, which all rows use while it
// stands in L1. One or two tiles would not make up for it.
template <class T>
void multiply_few_rows(const Operands<T>& op) {
    const index tiles = (op.m + tile_rows - 1) / tile_rows, panels = (op.n + panel_columns<T> - 1) / panel_columns<T>;
    parallel_for(panels, op.flops(), [&](index j, int) {
        alignas(64) T packed[piece<T> * panel_columns<T>];
        const index first = j * panel_columns<T>, columns = std::min(panel_columns<T>, op.n - first);
        for (index k0 = 0; k0 < op.k; k0 += piece<T>) {
            const index k = std::min(piece<T>, op.k - k0);
            const T* source = op.b + (op.transpose_b ? first * op.ldb + k0 : k0 * op.ldb + first);
            // Whole registers of b are read where they are, and packed on the way if more than one other tile needs them.
            const bool in_place = !op.transpose_b && columns % lanes<T> == 0;
            if (!in_place) pack_panel(source, op.ldb, op.transpose_b, k, columns, packed);
            Tile<T> tile = tile_for(op, k, 0);
            tile.b = in_place ? source : packed;
            tile.ldb = in_place ? op.ldb : panel_width<T>(columns);
            tile.packed = in_place && tiles > 2 ? packed : nullptr;
            tile.columns = columns;
            tile.bias = op.bias && k0 == 0 ? op.bias + first : nullptr;
            tile.accumulate = op.accumulate || k0 > 0;
            tile.relu = op.relu && k0 + k == op.k;
            const index next = std::min(piece<T>, op.k - k0 - k);
            for (index i = 0; i < tiles; ++i) {
                const Part rows(op.m, tiles, i);
                // The next piece's rows, a long way apart, are fetched while this one's products are made.
                const Part ahead(op.transpose_b ? 0 : next, tiles, i);
                for (index r = ahead.first; r < ahead.last; ++r) __builtin_prefetch(source + (piece<T> + r) * op.ldb, 0, 2);
                tile.rows = rows.size();
                for (index r = 0; r < tile.rows; ++r) {
                    tile.a[r] = op.a + (rows.first + r) * op.lda + k0;
                    tile.c[r] = op.c + (rows.first + r) * op.ldc + first;
                }
                multiply_by_rows(tile);
                if (!tile.packed) continue;
                tile.b = packed;
                tile.ldb = panel_width<T>(columns);
                tile.packed = nullptr;
            }
        }
    });
}

// Few rows and a transposed b (a dense layer's input gradient): b's rows take the part of a's in the transposed product, which is
// smaller than b, and is transposed in its stead.
template <class T>
void multiply_transposed(const Operands<T>& op) {
    constexpr index block = 6 * lanes<T>;  // rows of b: whole tiles where these have 6 rows
    Scratch<T> packed(packed_size<T>(op.k, op.m));
    pack_panels(op.a, op.lda, true, index{0}, op.k, op.k, op.m, packed.get());
    const Panels<T> panels = packed_panels(packed.get(), op.k, op.m);
    parallel_for((op.n + block - 1) / block, op.flops(), [&](index task, int) {
        alignas(64) T products[block * panel_columns<T>];
        const index first = task * block, rows = std::min(block, op.n - first), tiles = (rows + tile_rows - 1) / tile_rows;
        for (index j = 0; j < panels.count(); ++j) {
            Tile<T> tile = tile_for(op, op.k, 0);
            panels.select(j, tile);
            for (index k0 = 0; k0 < op.k; k0 += piece<T>, tile.b += piece<T> * tile.ldb) {
                tile.k = std::min(piece<T>, op.k - k0);
                tile.accumulate = k0 > 0;
                for (index i = 0; i < tiles; ++i) {
                    const Part mine(rows, tiles, i);
                    tile.rows = mine.size();
                    for (index r = 0; r < tile.rows; ++r) {
                        tile.a[r] = op.b + (first + mine.first + r) * op.ldb + k0;
                        tile.c[r] = products + (mine.first + r) * panel_columns<T>;
                    }
                    multiply_by_rows(tile);
                }
            }
            for_each_vector<T>(rows, [&](index r, auto n) {
                for (index column = 0; column < tile.columns; column += lanes<T>) {
                    vec<T> square[lanes<T>];
#pragma GCC unroll 16
                    for (index l = 0; l < lanes<T>; ++l) square[l] = load(products + (r + l) * panel_columns<T> + column);
                    transpose<T>(square);
                    T* c = op.c + (j * panel_columns<T> + column) * op.ldc + first + r;
                    const index columns = std::min(lanes<T>, tile.columns - column);
                    for (index l = 0; l < columns; ++l, c += op.ldc)
                        store_n(c, op.accumulate ? load_n(c, n) + square[l] : square[l], n);
                }
            });
        }
    });
}

// Many rows: b is packed whole. A run of the inner dimension at a time, a task packs its own rows of a (if there are panels
// enough to make up for it), which pass every panel. What costs is c, read and written once a run, and b, read once a task:
// so runs are as long as a panel of them fits L2 beside a tile, and tasks as large as leaves each thread some to take.
template <class T>
void multiply_a_by_rows(const Operands<T>& op) {
    Scratch<T> packed(packed_size<T>(op.k, op.n));
    pack_panels(op.b, op.ldb, op.transpose_b, index{0}, op.k, op.k, op.n, packed.get());
    const Panels<T> panels = packed_panels(packed.get(), op.k, op.n);
    const int threads = get_num_threads();
    const index tiles = (op.m + tile_rows - 1) / tile_rows;
    const index tasks = std::min(tiles, std::max({index{8}, index{2} * threads, tiles / 48}));
    constexpr index longest_run = 8 * piece<T>;
    const index runs = (op.k + longest_run - 1) / longest_run, run = (op.k + runs - 1) / runs;  // of equal length
    const index row = run + 64 / static_cast<index>(sizeof(T));  // rows a power of two apart would share L1's lines
    const bool packs_a = panels.count() >= 8;
    const index per_thread = ((tiles + tasks - 1) / tasks) * tile_rows * row;
    Scratch<T> rows_of_a(packs_a ? threads * per_thread : 0);
    parallel_for(tasks, op.flops(), threads, [&](index task, int thread) {
        const Part mine(tiles, tasks, task);
        const index first_row = Part(op.m, tiles, mine.first).first, last_row = Part(op.m, tiles, mine.last - 1).last;
        T* const a = rows_of_a + thread * per_thread;
        for (index k0 = 0; k0 < op.k; k0 += run) {
            const index k = std::min(run, op.k - k0);
            Tile<T> tile = tile_for(op, k, 0);
            tile.accumulate = op.accumulate || k0 > 0;
            tile.relu = op.relu && k0 + k == op.k;
            for (index r = first_row; packs_a && r < last_row; ++r)
                std::copy_n(op.a + r * op.lda + k0, k, a + (r - first_row) * row);
            for (index j = 0; j < panels.count(); ++j) {
                const index first = j * panel_columns<T>;
                panels.select(j, tile);
                tile.b += k0 * tile.ldb;
                tile.bias = op.bias && k0 == 0 ? op.bias + first : nullptr;
                for (index i = mine.first; i < mine.last; ++i) {
                    const Part rows(op.m, tiles, i);
                    tile.rows = rows.size();
                    for (index r = 0; r < tile.rows; ++r) {
                        const index i_row = rows.first + r;
                        tile.a[r] = packs_a ? a + (i_row - first_row) * row : op.a + i_row * op.lda + k0;
                        tile.c[r] = op.c + i_row * op.ldc + first;
                    }
                    multiply_by_rows(tile);
                }
            }
        }
    });
}

// Columns of A (weight gradients): one part of the tiles, the panels and the inner dimension. B's panels are packed a piece
// at a time, and so are tiles of A, several side by side: their rows lie far apart, often a power of two, which the caches
// bear badly, so that each is read once, in sequence.
template <class T>
struct ByColumns {
    static constexpr index most_panels = 16;  // whose pieces fit L2
    static constexpr index most_tiles = 8;    // beside them; eight of six columns are whole lines
    static constexpr index width = (tile_rows + lanes<T> - 1) / lanes<T> * lanes<T>;  // of a packed row of A
    static constexpr index tile_size = piece<T> * width + 64 / static_cast<index>(sizeof(T));  // no power of two
    static constexpr index short_k = 64;  // rows so few that A is read in place

    const Operands<T>& op;
    const int threads = get_num_threads();
    Scratch<T> packed;  // a thread's own panels, then its tiles

    static index per_thread() { return piece<T> * most_panels * panel_columns<T> + most_tiles * tile_size; }
    explicit ByColumns(const Operands<T>& operands) : op(operands), packed(threads * per_thread()) {}

    // k rows of tiles [first, last) of A, from a on.
    void pack_tiles(const T* a, index k, index first, index last, index all_tiles, T* to) const {
        index starts[most_tiles + 1];
        for (index i = first; i <= last; ++i) starts[i - first] = op.m * i / all_tiles;
        for (index r = 0; r < k; ++r, a += op.lda, to += width)
            for (index i = 0; i < last - first; ++i) {
                const T* source = a + starts[i];
                T* const row = to + i * tile_size;
                if (starts[i] + width <= op.m)  // what stands behind a tile does no harm
                    for (index m = 0; m < width; m += lanes<T>) store(row + m, load(source + m));
                else
                    for_each_vector<T>(starts[i + 1] - starts[i], [&](index m, auto n) { store(row + m, load_n(source + m, n)); });
            }
    }

    // sums += the columns of a packed panel; four chains, since one would wait for each addition.
    static void add_panel(const T* panel, index rows, index columns, T* sums) {
        const index width = panel_width<T>(columns);
        for_each_vector<T>(columns, [&](index j, auto n) {
            vec<T> chains[4] = {};
            index r = 0;
            for (; r + 4 <= rows; r += 4)
#pragma GCC unroll 4
                for (index i = 0; i < 4; ++i) chains[i] += load(panel + (r + i) * width + j);
            for (; r < rows; ++r) chains[0] += load(panel + r * width + j);
            store_n(sums + j, load_n(sums + j, n) + ((chains[0] + chains[1]) + (chains[2] + chains[3])), n);
        });
    }

    void run(Part tiles, index all_tiles, Part panels, Part inner, T* c, bool accumulate, T* column_sums, int thread) const {
        T *const b = packed + thread * per_thread(), *const a = b + piece<T> * most_panels * panel_columns<T>;
        for (index k0 = inner.first; k0 < inner.last; k0 += piece<T>) {
            const index k = std::min(piece<T>, inner.last - k0);
            const bool first = k0 == 0, last = k0 + k == op.k;
            Tile<T> tile = tile_for(op, k, op.lda);
            tile.accumulate = accumulate || k0 > inner.first;
            tile.relu = op.relu && last;
            for (index j = panels.first; j < panels.last; ++j) {
                const index column = j * panel_columns<T>;
                const T* source = op.b + (op.transpose_b ? column * op.ldb + k0 : k0 * op.ldb + column);
                T* const panel = b + (j - panels.first) * piece<T> * panel_columns<T>;
                const index columns = std::min(panel_columns<T>, op.n - column);
                pack_panel(source, op.ldb, op.transpose_b, k, columns, panel);
                if (column_sums && tiles.first == 0) add_panel(panel, k, columns, column_sums + column);
            }
            for (index i = tiles.first; i < tiles.last; ++i) {
                const Part rows(op.m, all_tiles, i);
                tile.rows = rows.size();
                if (k > short_k) {
                    const index place = (i - tiles.first) % most_tiles;
                    if (place == 0)
                        pack_tiles(op.a + k0 * op.lda, k, i, std::min(i + most_tiles, tiles.last), all_tiles, a);
                    tile.a[0] = a + place * tile_size;
                    tile.a_step = width;
                } else {
                    tile.a[0] = op.a + k0 * op.lda + rows.first;
                    tile.a_step = op.lda;
                }
                for (index j = panels.first; j < panels.last; ++j) {
                    tile.columns = std::min(panel_columns<T>, op.n - j * panel_columns<T>);
                    tile.b = b + (j - panels.first) * piece<T> * panel_columns<T>;
                    tile.ldb = panel_width<T>(tile.columns);
                    tile.bias = op.bias && first ? op.bias + j * panel_columns<T> : nullptr;
                    for (index r = 0; r < tile.rows; ++r) tile.c[r] = c + (rows.first + r) * op.ldc + j * panel_columns<T>;
                    multiply_by_columns(tile);
                }
            }
        }
    }
};

template <class T>
void multiply_a_by_columns(const Operands<T>& op) {
    const index tiles = (op.m + tile_rows - 1) / tile_rows, panels = (op.n + panel_columns<T> - 1) / panel_columns<T>;
    const index panel_groups = (panels + ByColumns<T>::most_panels - 1) / ByColumns<T>::most_panels;
    if (is_long_sum(op)) {
        // Parts of the sum share nothing: each is added up in a place of its own. They depend on the shape alone, so the
        // bits are the same for every number of threads.
        const index parts = std::min<index>(16, op.k / (4 * piece<T>));
        Scratch<T> sums(parts * op.m * op.n), column_sums(parts * op.n);
        std::fill_n(column_sums.get(), parts * op.n, T{0});
        Operands<T> part_op = op;
        part_op.ldc = op.n;
        const ByColumns<T> part_product(part_op);
        parallel_for(parts, op.flops(), part_product.threads, [&](index part, int thread) {
            for (index group = 0; group < panel_groups; ++group)
                part_product.run(Part(tiles, 1, 0), tiles, Part(panels, panel_groups, group), Part(op.k, parts, part),
                                 sums + part * op.m * op.n, false, op.column_sums ? column_sums + part * op.n : nullptr, thread);
        });
        for (index part = 0; op.column_sums && part < parts; ++part)
            for (index j = 0; j < op.n; ++j) op.column_sums[j] += column_sums[part * op.n + j];
        parallel_for(op.m, static_cast<double>(parts * op.m * op.n), [&](index row, int) {
            for_each_vector<T>(op.n, [&](index j, auto n) {
                T* c = op.c + row * op.ldc + j;
                vec<T> sum = op.accumulate ? load_n(c, n) : vec<T>{};
                for (index part = 0; part < parts; ++part) sum += load_n(sums + (part * op.m + row) * op.n + j, n);
                store_n(c, sum, n);
            });
        });
        return;
    }
    const ByColumns<T> product(op);
    const index row_groups = std::min(tiles, std::max<index>(1, 16 / panel_groups));
    parallel_for(row_groups * panel_groups, op.flops(), product.threads, [&](index task, int thread) {
        product.run(Part(tiles, row_groups, task % row_groups), tiles, Part(panels, panel_groups, task / row_groups),
                    Part(op.k, 1, 0), op.c, op.accumulate, op.column_sums, thread);
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
            // Rows are a stride apart that the hardware does not fetch ahead by itself: 13 microseconds instead of 18.
            if (v * vector_bytes % 64 == 0) __builtin_prefetch(b + 8 * ldb + v * lanes<T>);
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
    if (op.m == 0 || op.n == 0) return;
    if (op.m == 1 && !op.transpose_a && !op.transpose_b)
        return multiply_single_row(op);
    if (op.k == 0) {  // what goes through the sum a piece at a time would never come to write c
        Operands<T> row = op;
        row.m = 1;
        for (index r = 0; r < op.m; ++r, row.c += op.ldc) multiply_single_row(row);
    } else if (op.transpose_a)
        multiply_a_by_columns(op);
    else if (op.transpose_b && op.m > 4 && 4 * op.m <= op.n && op.m <= std::min(op.k, few_rows) && !op.bias)
        multiply_transposed(op);
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
    multiply(Operands<T>{i, o, n, x, true, dy, false, dw, true, nullptr, false, i, o, o, db});
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
