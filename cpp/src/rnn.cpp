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

// One sequence's slice of one step. Gates stand `units` apart from each other.
template <class T>
struct Slice {
    index units;
    T* z;                              // in the workspace
    const T *h_previous, *c_previous;  // null: zeros
};

// What a step of one sequence adds: h_{t-1} U (null: h_{t-1} is 0), and a GRU's bias of that product (may be null).
template <class T>
struct Recurrent {
    const T *product, *bias;
};

template <class T, class N>
VIVACE_INLINE vec<T> load_or_zero(const T* p, index i, N n) {
    return p ? load_n(p + i, n) : vec<T>{};
}

template <class T>
VIVACE_INLINE vec<T> activate(Activation a, vec<T> x) {
    switch (a) {
        case Activation::tanh: return tanh<T>(x);
        case Activation::sigmoid: return sigmoid<T>(x);
        case Activation::relu: return maximum(vec<T>{}, x);
        default: return x;
    }
}

// The derivative, from the activation's output.
template <class T>
VIVACE_INLINE vec<T> slope(Activation a, vec<T> y) {
    switch (a) {
        case Activation::tanh: return T{1} - y * y;
        case Activation::sigmoid: return y * (T{1} - y);
        case Activation::relu: return y > T{0} ? broadcast(T{1}) : vec<T>{};
        default: return broadcast(T{1});
    }
}

template <class T>
void step_forward(const RnnShape& shape, const Slice<T>& s, const Recurrent<T>& recurrent, T* h, T* c) {
    const index u = s.units;
    T* const z = s.z;
    const auto squash = [&](vec<T> v) { return activate<T>(shape.activation, v); };
    const auto open = [&](vec<T> v) { return activate<T>(shape.recurrent_activation, v); };
    for_each_vector<T>(u, [&](index i, auto n) {
        const auto gate = [&](index k) { return load_n(z + k * u + i, n) + load_or_zero(recurrent.product, k * u + i, n); };
        switch (shape.cell) {
            case Cell::simple: {
                const vec<T> y = squash(gate(0));
                store_n(z + i, y, n);
                store_n(h + i, y, n);
                return;
            }
            case Cell::lstm: {
                const vec<T> in = open(gate(0)), forget = open(gate(1)), g = squash(gate(2)),
                             out = open(gate(3));
                const vec<T> memory = forget * load_or_zero(s.c_previous, i, n) + in * g;
                store_n(z + i, in, n);
                store_n(z + u + i, forget, n);
                store_n(z + 2 * u + i, g, n);
                store_n(z + 3 * u + i, out, n);
                store_n(c + i, memory, n);
                store_n(h + i, out * squash(memory), n);
                return;
            }
            case Cell::gru: {
                const vec<T> update = open(gate(0)), reset = open(gate(1));
                const vec<T> own = load_or_zero(recurrent.product, 2 * u + i, n) + load_or_zero(recurrent.bias, i, n);
                const vec<T> g = squash(load_n(z + 3 * u + i, n) + reset * own);
                store_n(z + i, update, n);
                store_n(z + u + i, reset, n);
                store_n(z + 2 * u + i, own, n);
                store_n(z + 3 * u + i, g, n);
                store_n(h + i, g + update * (load_or_zero(s.h_previous, i, n) - g), n);
                return;
            }
            case Cell::output_gated: {
                const vec<T> a = open(gate(0));
                store_n(z + i, a, n);
                store_n(z + u + i, open(gate(1)), n);
                store_n(h + i, squash(a), n);
                return;
            }
        }
    });
}

// Turns the gates in z into their gradients. dh and dc: in, the gradient of this step's state; out, what of it reaches
// the previous state directly (the part through U is added by the caller). dy: this step's output gradient, or null.
template <class T>
void step_backward(const RnnShape& shape, const Slice<T>& s, const T* h, const T* c, const T* dy, T* dh, T* dc) {
    const index u = s.units;
    T* const z = s.z;
    constexpr T one = 1;
    const auto squashed_slope = [&](vec<T> y) { return slope<T>(shape.activation, y); };
    const auto gate_slope = [&](vec<T> y) { return slope<T>(shape.recurrent_activation, y); };
    for_each_vector<T>(u, [&](index i, auto n) {
        const vec<T> d_out = load_or_zero(dy, i, n), carried = load_n(dh + i, n), d = carried + d_out;
        switch (shape.cell) {
            case Cell::simple: {
                store_n(z + i, d * squashed_slope(load_n(h + i, n)), n);
                store_n(dh + i, vec<T>{}, n);
                return;
            }
            case Cell::lstm: {
                const vec<T> in = load_n(z + i, n), forget = load_n(z + u + i, n), g = load_n(z + 2 * u + i, n),
                             out = load_n(z + 3 * u + i, n), squashed = activate<T>(shape.activation, load_n(c + i, n));
                const vec<T> memory = load_n(dc + i, n) + d * out * squashed_slope(squashed);
                store_n(z + i, memory * g * gate_slope(in), n);
                store_n(z + u + i, memory * load_or_zero(s.c_previous, i, n) * gate_slope(forget), n);
                store_n(z + 2 * u + i, memory * in * squashed_slope(g), n);
                store_n(z + 3 * u + i, d * squashed * gate_slope(out), n);
                store_n(dc + i, memory * forget, n);
                store_n(dh + i, vec<T>{}, n);
                return;
            }
            case Cell::gru: {
                const vec<T> update = load_n(z + i, n), reset = load_n(z + u + i, n),
                             recurrent = load_n(z + 2 * u + i, n), g = load_n(z + 3 * u + i, n);
                const vec<T> dg = d * (one - update) * squashed_slope(g);
                store_n(z + i, d * (load_or_zero(s.h_previous, i, n) - g) * gate_slope(update), n);
                store_n(z + u + i, dg * recurrent * gate_slope(reset), n);
                store_n(z + 2 * u + i, dg * reset, n);
                store_n(z + 3 * u + i, dg, n);
                store_n(dh + i, d * update, n);
                return;
            }
            case Cell::output_gated: {
                const vec<T> a = load_n(z + i, n), out = load_n(z + u + i, n), y = load_n(h + i, n);
                store_n(z + i, carried * squashed_slope(y) * gate_slope(a), n);
                store_n(z + u + i, d_out * gate_slope(out), n);
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
        return {s.units, gates(b, step), previous(h, initial.h, b, step), c ? previous(c, initial.c, b, step) : nullptr};
    }
};

// Rows (first ... last) of C = A B, or +=, tile by tile; a panel of B serves all tiles before the next one is touched.
// A and C are compact copies of one step: in the sequences' own arrays the rows of a step stand a power of two or nearly
// so apart, where they would push each other out of the caches.
template <class T>
void multiply_rows(Part rows, const Panels<T>& b, index k, const T* a, T* c, bool accumulate) {
    const index tiles = (rows.size() + tile_rows - 1) / tile_rows;
    Tile<T> tile{};
    tile.offsets = no_offset;
    tile.taps = 1;
    tile.k = k;
    tile.accumulate = accumulate;
    if (rows.size() == 1) {
        tile.a[0] = a + rows.first * k;
        tile.c[0] = c + rows.first * b.columns;
        multiply_row(tile, b);
        return;
    }
    for (index j = 0; j < b.count(); ++j) {
        b.select(j, tile);
        for (index i = 0; i < tiles; ++i) {
            const Part part(rows.size(), tiles, i);
            tile.rows = part.size();
            for (index r = 0; r < tile.rows; ++r) {
                const index row = rows.first + part.first + r;
                tile.a[r] = a + row * k;
                tile.c[r] = c + row * b.columns + j * panel_columns<T>;
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
                 RnnState<T> initial, const T* keep, T* workspace, T* h, T* c) {
    const index columns = s.gates() * s.units;
    input_product(s, x, w, bias, workspace);
    Scratch<T> packed(packed_size<T>(s.units, columns));
    pack_panels(u, columns, false, index{0}, s.units, s.units, columns, packed.get());
    const Panels<T> panels = packed_panels(packed.get(), s.units, columns);
    const T* recurrent_bias = s.cell == Cell::gru && bias ? bias + columns + 2 * s.units : nullptr;
    const Rows<T> rows{s, mask, initial, workspace, h, c};
    Scratch<T> state(s.batch * s.units), product(s.batch * columns);
    for_sequences(s, [&](Part mine) {
        // What the product with U sees of a state.
        const auto keep_state = [&](const T* from, index b) {
            T* to = state + b * s.units;
            for (index i = 0; i < s.units; ++i) to[i] = keep ? from[i] * keep[b * s.units + i] : from[i];
        };
        for (index b = mine.first; initial.h && b < mine.last; ++b) keep_state(initial.h + b * s.units, b);
        for (index t = 0; t < s.steps; ++t) {
            const bool any_state = t > 0 || initial.h;
            if (any_state) multiply_rows<T>(mine, panels, s.units, state, product, false);
            for (index b = mine.first; b < mine.last; ++b) {
                const index at = rows.state(b, t);
                const Slice<T> slice = rows.slice(b, t);
                const Recurrent<T> recurrent{any_state ? product + b * columns : nullptr, recurrent_bias};
                step_forward(s, slice, recurrent, h + at, c ? c + at : nullptr);
                if (!rows.counts(b, t)) {
                    const auto carry = [&](const T* previous, T* to) {
                        if (previous)
                            std::copy_n(previous, s.units, to);
                        else
                            std::fill_n(to, s.units, T{});
                    };
                    carry(slice.h_previous, h + at);
                    if (c) carry(slice.c_previous, c + at);
                }
                keep_state(h + at, b);
            }
        }
    });
}

template <class T>
void rnn_backward(const RnnShape& s, const T* x, const T* w, const T* u, const std::uint8_t* mask, RnnState<T> initial,
                  const T* keep, T* workspace, const T* h, const T* c, const T* dy,
                  const RnnGradients<T>& gradients) {
    const index columns = s.gates() * s.units, ld = s.width() * s.units, all = s.batch * s.steps;
    Scratch<T> packed(packed_size<T>(columns, s.units)), previous(all * s.units);
    pack_panels(u, columns, true, index{0}, columns, columns, s.units, packed.get());
    const Panels<T> panels = packed_panels(packed.get(), columns, s.units);
    const Rows<T> rows{s, mask, initial, workspace, h, c};
    Scratch<T> dz(s.batch * columns), through(s.batch * s.units);  // through: the product with U
    for_sequences(s, [&](Part mine) {
        for (index t = s.steps - 1; t >= 0; --t) {
            for (index b = mine.first; b < mine.last; ++b) {
                const index at = rows.state(b, t);
                const Slice<T> slice = rows.slice(b, t);
                T* dh = gradients.dh + b * s.units;
                const T* d_out = dy ? dy + at : nullptr;
                if (rows.counts(b, t)) {
                    step_backward(s, slice, h + at, c ? c + at : nullptr, d_out, dh,
                                  c ? gradients.dc + b * s.units : nullptr);
                } else {
                    // The output was the carried state: its gradient is the state's. Gates had no part in it. (An output
                    // gate's output is not the state; where a step does not count, its output is not to be used.)
                    std::fill_n(slice.z, ld, T{});
                    for (index i = 0; d_out && s.cell != Cell::output_gated && i < s.units; ++i) dh[i] += d_out[i];
                }
                std::copy_n(slice.z, columns, dz + b * columns);
                // The states that U met, in the workspace's order, for its gradient below.
                T* met = previous + (b * s.steps + rows.time(t)) * s.units;
                if (slice.h_previous)
                    std::copy_n(slice.h_previous, s.units, met);
                else
                    std::fill_n(met, s.units, T{});
                for (index i = 0; keep && i < s.units; ++i) met[i] *= keep[b * s.units + i];
            }
            if (!keep) {
                multiply_rows<T>(mine, panels, columns, dz, gradients.dh, true);
                continue;
            }
            multiply_rows<T>(mine, panels, columns, dz, through, false);
            for (index i = mine.first * s.units; i < mine.last * s.units; ++i) gradients.dh[i] += through[i] * keep[i];
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
                              const T*, T*, T*, T*);                                                                              \
    template void rnn_backward(const RnnShape&, const T*, const T*, const T*, const std::uint8_t*, RnnState<T>,          \
                               const T*, T*, const T*, const T*, const T*, const RnnGradients<T>&);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
