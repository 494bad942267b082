// The input product of all steps is one GEMM before the loop and the weight gradients are GEMMs behind it. In between,
// every thread runs its own sequences through all steps, so that no step ends in a barrier; the recurrent weights are
// packed once and stay in cache; the gates of a step are computed where its product has just been written, in L1.
#include "vivace/rnn.h"

#include "tile.h"
#include "vivace/gemm.h"
#include "vmath.h"

namespace vivace {
namespace {

constexpr index no_offset[1] = {0};

// One sequence's slice of one step. The gates stand `units` apart from each other in z.
template <class T>
struct Slice {
    index units;
    T* z;
    const T *h_previous, *c_previous;  // null: zeros
};

template <class T, class N>
VIVACE_INLINE vec<T> load_or_zero(const T* p, index i, N n) {
    return p ? load_n(p + i, n) : vec<T>{};
}

template <class T>
void step_forward(Cell cell, const Slice<T>& s, T* h, T* c) {
    const index u = s.units;
    T* const z = s.z;
    for_each_vector<T>(u, [&](index i, auto n) {
        switch (cell) {
            case Cell::simple: {
                const vec<T> y = tanh<T>(load_n(z + i, n));
                store_n(z + i, y, n);
                store_n(h + i, y, n);
                return;
            }
            case Cell::lstm: {
                const vec<T> in = sigmoid<T>(load_n(z + i, n)), forget = sigmoid<T>(load_n(z + u + i, n));
                const vec<T> g = tanh<T>(load_n(z + 2 * u + i, n)), out = sigmoid<T>(load_n(z + 3 * u + i, n));
                const vec<T> memory = forget * load_or_zero(s.c_previous, i, n) + in * g;
                store_n(z + i, in, n);
                store_n(z + u + i, forget, n);
                store_n(z + 2 * u + i, g, n);
                store_n(z + 3 * u + i, out, n);
                store_n(c + i, memory, n);
                store_n(h + i, out * tanh<T>(memory), n);
                return;
            }
            case Cell::gru: {
                const vec<T> update = sigmoid<T>(load_n(z + i, n)), reset = sigmoid<T>(load_n(z + u + i, n));
                const vec<T> g = tanh<T>(load_n(z + 3 * u + i, n) + reset * load_n(z + 2 * u + i, n));
                store_n(z + i, update, n);
                store_n(z + u + i, reset, n);
                store_n(z + 3 * u + i, g, n);
                store_n(h + i, g + update * (load_or_zero(s.h_previous, i, n) - g), n);
                return;
            }
            case Cell::output_gated: {
                const vec<T> a = sigmoid<T>(load_n(z + i, n));
                store_n(z + i, a, n);
                store_n(z + u + i, sigmoid<T>(load_n(z + u + i, n)), n);
                store_n(h + i, tanh<T>(a), n);
                return;
            }
        }
    });
}

// Turns the gates in z into their gradients. dh and dc: in, the gradient of this step's state; out, what of it reaches
// the previous state directly (the part through U is added by the caller). dy: this step's output gradient, or null.
template <class T>
void step_backward(Cell cell, const Slice<T>& s, const T* h, const T* c, const T* dy, T* dh, T* dc) {
    const index u = s.units;
    T* const z = s.z;
    constexpr T one = 1;
    for_each_vector<T>(u, [&](index i, auto n) {
        const vec<T> d_out = load_or_zero(dy, i, n), carried = load_n(dh + i, n), d = carried + d_out;
        switch (cell) {
            case Cell::simple: {
                const vec<T> y = load_n(h + i, n);
                store_n(z + i, d * (one - y * y), n);
                store_n(dh + i, vec<T>{}, n);
                return;
            }
            case Cell::lstm: {
                const vec<T> in = load_n(z + i, n), forget = load_n(z + u + i, n), g = load_n(z + 2 * u + i, n),
                             out = load_n(z + 3 * u + i, n), squashed = tanh<T>(load_n(c + i, n));
                const vec<T> memory = load_n(dc + i, n) + d * out * (one - squashed * squashed);
                store_n(z + i, memory * g * in * (one - in), n);
                store_n(z + u + i, memory * load_or_zero(s.c_previous, i, n) * forget * (one - forget), n);
                store_n(z + 2 * u + i, memory * in * (one - g * g), n);
                store_n(z + 3 * u + i, d * squashed * out * (one - out), n);
                store_n(dc + i, memory * forget, n);
                store_n(dh + i, vec<T>{}, n);
                return;
            }
            case Cell::gru: {
                const vec<T> update = load_n(z + i, n), reset = load_n(z + u + i, n),
                             recurrent = load_n(z + 2 * u + i, n), g = load_n(z + 3 * u + i, n);
                const vec<T> dg = d * (one - update) * (one - g * g);
                store_n(z + i, d * (load_or_zero(s.h_previous, i, n) - g) * update * (one - update), n);
                store_n(z + u + i, dg * recurrent * reset * (one - reset), n);
                store_n(z + 2 * u + i, dg * reset, n);
                store_n(z + 3 * u + i, dg, n);
                store_n(dh + i, d * update, n);
                return;
            }
            case Cell::output_gated: {
                const vec<T> a = load_n(z + i, n), out = load_n(z + u + i, n), y = load_n(h + i, n);
                store_n(z + i, carried * (one - y * y) * a * (one - a), n);
                store_n(z + u + i, d_out * out * (one - out), n);
                store_n(dh + i, vec<T>{}, n);
                return;
            }
        }
    });
}

// Where the rows of one step of one sequence stand.
template <class T>
struct Rows {
    const RnnShape& s;
    const std::uint8_t* mask;
    RnnState<T> initial;
    T* workspace;
    const T *h, *c;

    index time(index step) const { return s.reverse ? s.steps - 1 - step : step; }
    bool counts(index b, index step) const { return !mask || mask[b * s.steps + time(step)]; }
    index state(index b, index step) const { return (b * s.steps + step) * s.units; }
    T* gates(index b, index step) const { return workspace + (b * s.steps + time(step)) * s.width() * s.units; }
    const T* previous(const T* states, const T* first, index b, index step) const {
        return step ? states + state(b, step - 1) : first ? first + b * s.units : nullptr;
    }
    Slice<T> slice(index b, index step) const {
        return {s.units, gates(b, step), previous(h, initial.h, b, step), previous(c, initial.c, b, step)};
    }
};

// rows (first ... last) of C += A B, tile by tile; a panel of B serves all tiles before the next one is touched.
template <class T, class RowOfA, class RowOfC>
void multiply_rows(Part rows, const Panels<T>& b, index k, RowOfA&& row_of_a, RowOfC&& row_of_c) {
    const index tiles = (rows.size() + tile_rows - 1) / tile_rows;
    Tile<T> tile{};
    tile.offsets = no_offset;
    tile.taps = 1;
    tile.k = k;
    tile.accumulate = true;
    for (index j = 0; j < b.count(); ++j) {
        b.select(j, tile);
        for (index i = 0; i < tiles; ++i) {
            const Part part(rows.size(), tiles, i);
            tile.rows = part.size();
            for (index r = 0; r < tile.rows; ++r) {
                tile.a[r] = row_of_a(rows.first + part.first + r);
                tile.c[r] = row_of_c(rows.first + part.first + r) + j * panel_columns<T>;
            }
            multiply_by_rows(tile);
        }
    }
}

// Runs f(sequences) for parts of the batch, one per thread that is worth having. A sequence's result does not depend on
// who else is in its part, so the number of parts changes no bit.
template <class F>
void for_sequences(const RnnShape& s, F&& f) {
    const double flops = 2.0 * static_cast<double>(s.batch * s.steps * s.units) * static_cast<double>(s.gates() * s.units);
    const index parts = threads_for(s.batch, flops);
    parallel_for(parts, flops, [&](index i, int) { f(Part(s.batch, parts, i)); });
}

// x W for all steps into the workspace. A GRU's third gate goes to the fourth place.
template <class T>
void input_product(const RnnShape& s, const T* x, const T* w, const T* bias, T* workspace) {
    const index rows = s.batch * s.steps, columns = s.gates() * s.units, ld = s.width() * s.units;
    if (s.cell != Cell::gru) {
        gemm_strided(rows, columns, s.inputs, x, s.inputs, false, w, columns, false, bias, workspace, ld, false);
        return;
    }
    Scratch<T> sums(columns);  // both biases of z and r; the input's of g
    for (index i = 0; bias && i < columns; ++i) sums[i] = bias[i] + (i < 2 * s.units ? bias[columns + i] : T{0});
    const T* both = bias ? sums.get() : nullptr;
    gemm_strided(rows, 2 * s.units, s.inputs, x, s.inputs, false, w, columns, false, both, workspace, ld, false);
    gemm_strided(rows, s.units, s.inputs, x, s.inputs, false, w + 2 * s.units, columns, false,
                 both ? both + 2 * s.units : nullptr, workspace + 3 * s.units, ld, false);
}

}  // namespace

template <class T>
void rnn_forward(const RnnShape& s, const T* x, const T* w, const T* u, const T* bias, const std::uint8_t* mask,
                 RnnState<T> initial, T* workspace, T* h, T* c) {
    const index columns = s.gates() * s.units;
    input_product(s, x, w, bias, workspace);
    Scratch<T> packed(packed_size<T>(s.units, columns));
    pack_panels(u, columns, false, index{0}, s.units, s.units, columns, packed.get());
    const Panels<T> panels = packed_panels(packed.get(), s.units, columns);
    const T* recurrent_bias = s.cell == Cell::gru && bias ? bias + columns + 2 * s.units : nullptr;
    const Rows<T> rows{s, mask, initial, workspace, h, c};
    for_sequences(s, [&](Part mine) {
        for (index t = 0; t < s.steps; ++t) {
            if (s.cell == Cell::gru)
                for (index b = mine.first; b < mine.last; ++b) {
                    T* recurrent = rows.gates(b, t) + 2 * s.units;
                    if (recurrent_bias)
                        std::copy_n(recurrent_bias, s.units, recurrent);
                    else
                        std::fill_n(recurrent, s.units, T{});
                }
            if (t > 0 || initial.h)
                multiply_rows(
                    mine, panels, s.units, [&](index b) { return rows.previous(h, initial.h, b, t); },
                    [&](index b) { return rows.gates(b, t); });
            for (index b = mine.first; b < mine.last; ++b) {
                const index at = rows.state(b, t);
                const Slice<T> slice = rows.slice(b, t);
                step_forward(s.cell, slice, h + at, c ? c + at : nullptr);
                if (rows.counts(b, t)) continue;
                const auto carry = [&](const T* previous, T* state) {
                    if (previous)
                        std::copy_n(previous, s.units, state);
                    else
                        std::fill_n(state, s.units, T{});
                };
                carry(slice.h_previous, h + at);
                if (c) carry(slice.c_previous, c + at);
            }
        }
    });
}

template <class T>
void rnn_backward(const RnnShape& s, const T* x, const T* w, const T* u, const std::uint8_t* mask, RnnState<T> initial,
                  T* workspace, const T* h, const T* c, const T* dy, const RnnGradients<T>& gradients) {
    const index columns = s.gates() * s.units, ld = s.width() * s.units, all = s.batch * s.steps;
    Scratch<T> packed(packed_size<T>(columns, s.units)), previous(all * s.units);
    pack_panels(u, columns, true, index{0}, columns, columns, s.units, packed.get());
    const Panels<T> panels = packed_panels(packed.get(), columns, s.units);
    const Rows<T> rows{s, mask, initial, workspace, h, c};
    for_sequences(s, [&](Part mine) {
        for (index t = s.steps - 1; t >= 0; --t) {
            for (index b = mine.first; b < mine.last; ++b) {
                const index at = rows.state(b, t);
                const Slice<T> slice = rows.slice(b, t);
                T* dh = gradients.dh + b * s.units;
                const T* d_out = dy ? dy + at : nullptr;
                if (rows.counts(b, t)) {
                    step_backward(s.cell, slice, h + at, c ? c + at : nullptr, d_out, dh,
                                  c ? gradients.dc + b * s.units : nullptr);
                } else {
                    // The output was the carried state: its gradient is the state's. Gates had no part in it. (An output
                    // gate's output is not the state; where a step does not count, its output is not to be used.)
                    std::fill_n(slice.z, ld, T{});
                    for (index i = 0; d_out && s.cell != Cell::output_gated && i < s.units; ++i) dh[i] += d_out[i];
                }
                // The states that U met, in the workspace's order, for its gradient below.
                T* met = previous + (b * s.steps + rows.time(t)) * s.units;
                if (slice.h_previous)
                    std::copy_n(slice.h_previous, s.units, met);
                else
                    std::fill_n(met, s.units, T{});
            }
            multiply_rows(
                mine, panels, columns, [&](index b) { return static_cast<const T*>(rows.gates(b, t)); },
                [&](index b) { return gradients.dh + b * s.units; });
        }
    });
    gemm_strided<T>(s.units, columns, all, previous, s.units, true, workspace, ld, false, nullptr, gradients.du, columns,
                    true);
    // Through the input: the same columns, but for a GRU's third gate, which stands in the fourth place.
    const index first = s.cell == Cell::gru ? 2 * s.units : columns;
    const auto input_gradients = [&](index from, index to, index count, bool add) {
        gemm_strided<T>(s.inputs, count, all, x, s.inputs, true, workspace + from, ld, false, nullptr, gradients.dw + to,
                        columns, true);
        if (gradients.dx)
            gemm_strided<T>(all, s.inputs, count, workspace + from, ld, false, w + to, columns, true, nullptr,
                            gradients.dx, s.inputs, add);
        if (gradients.db) add_column_sums(all, count, workspace + from, ld, gradients.db + to);
    };
    input_gradients(0, 0, first, false);
    if (s.cell != Cell::gru) return;
    input_gradients(3 * s.units, 2 * s.units, s.units, true);
    if (gradients.db) add_column_sums(all, columns, workspace, ld, gradients.db + columns);
}

#define INSTANTIATE(T)                                                                                                  \
    template void rnn_forward(const RnnShape&, const T*, const T*, const T*, const T*, const std::uint8_t*, RnnState<T>, \
                              T*, T*, T*);                                                                              \
    template void rnn_backward(const RnnShape&, const T*, const T*, const T*, const std::uint8_t*, RnnState<T>, T*,      \
                               const T*, const T*, const T*, const RnnGradients<T>&);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
