// The input product of all steps is one GEMM before the loop and the weight gradients are GEMMs behind it. In between,
// every thread runs its own sequences through all steps, so that no step ends in a barrier; the recurrent weights are
// packed once and stay in cache; the gates of a step are computed where its product has just been written, in L1.
#include "vivace/rnn.h"

#include "row.h"
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

// What a step of one sequence adds to `count` units of every gate from unit `first` on: h_{t-1} U, whose gates stand
// `stride` apart (null: h_{t-1} is 0), and a GRU's bias of that product (may be null).
template <class T>
struct Recurrent {
    index first, count;
    const T* product;
    index stride;
    const T* bias;
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
    for_each_vector<T>(recurrent.count, [&](index offset, auto n) {
        const index i = recurrent.first + offset;
        const auto product = [&](index k) { return load_or_zero(recurrent.product, k * recurrent.stride + offset, n); };
        const auto gate = [&](index k) { return load_n(z + k * u + i, n) + product(k); };
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
                const vec<T> own = product(2) + load_or_zero(recurrent.bias, i, n);
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

// Where the rows of one step of one sequence stand. State: T, or const T behind the forward pass.
template <class T, class State>
struct Rows {
    const RnnShape& s;
    const std::uint8_t* mask;
    RnnState<T> initial;
    T* workspace;
    State *h, *c;

    index time(index step) const { return s.reverse ? s.steps - 1 - step : step; }
    bool counts(index b, index step) const { return !mask || mask[b * s.steps + time(step)]; }
    index state(index b, index step) const { return (b * s.steps + step) * s.units; }
    State* h_at(index b, index step) const { return h + state(b, step); }
    State* c_at(index b, index step) const { return c ? c + state(b, step) : nullptr; }
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

// Whether every sequence runs by itself: with so few, a product of rows would not fill a tile.
bool few_sequences(const RnnShape& s) { return s.batch <= 2; }

// Of one sequence's product with U.
double step_flops(const RnnShape& s) { return 2.0 * static_cast<double>(s.units) * static_cast<double>(s.gates() * s.units); }

// Runs f(sequences) for parts of the batch, one per thread that is worth having. A sequence's result does not depend on
// who else is in its part, so the number of parts changes no bit.
template <class F>
void for_sequences(const RnnShape& s, F&& f) {
    const double flops = step_flops(s) * static_cast<double>(s.batch * s.steps);
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

// Where a step does not count, its state is the one before. The gates of such a step are never read.
template <class T>
void carry_on(const Rows<T, T>& rows, const Slice<T>& slice, index b, index t, index first, index last) {
    const auto carry = [&](const T* previous, T* to) {
        if (previous)
            std::copy(previous + first, previous + last, to + first);
        else
            std::fill(to + first, to + last, T{});
    };
    carry(slice.h_previous, rows.h + rows.state(b, t));
    if (rows.c) carry(slice.c_previous, rows.c + rows.state(b, t));
}

// All sequences step by step: one product for the rows of a step, then their gates.
template <class T>
void run_sequences(const RnnShape& s, const Rows<T, T>& rows, const T* u, const T* bias, const T* keep) {
    const index columns = s.gates() * s.units;
    Scratch<T> packed(packed_size<T>(s.units, columns)), state(s.batch * s.units), product(s.batch * columns);
    pack_panels(u, columns, false, index{0}, s.units, s.units, columns, packed.get());
    const Panels<T> panels = packed_panels(packed.get(), s.units, columns);
    for_sequences(s, [&](Part mine) {
        // What the product with U sees of a state.
        const auto keep_state = [&](const T* from, index b) {
            T* to = state + b * s.units;
            for (index i = 0; i < s.units; ++i) to[i] = keep ? from[i] * keep[b * s.units + i] : from[i];
        };
        for (index b = mine.first; rows.initial.h && b < mine.last; ++b) keep_state(rows.initial.h + b * s.units, b);
        for (index t = 0; t < s.steps; ++t) {
            const bool any_state = t > 0 || rows.initial.h;
            if (any_state) multiply_rows<T>(mine, panels, s.units, state, product, false);
            for (index b = mine.first; b < mine.last; ++b) {
                const Slice<T> slice = rows.slice(b, t);
                const T* z = any_state ? product + b * columns : nullptr;
                if (rows.counts(b, t))
                    step_forward(s, slice, {0, s.units, z, s.units, bias}, rows.h_at(b, t), rows.c_at(b, t));
                else
                    carry_on(rows, slice, b, t, 0, s.units);
                keep_state(rows.h_at(b, t), b);
            }
        }
    });
}

// Each sequence by itself: the gates of a few units are computed as soon as their product is, while the weights of the
// next units are on their way. Every thread keeps the weights of its share of the units in its own cache.
template <class T, int gates>
void run_row_by_row(const RnnShape& s, const Rows<T, T>& rows, const T* u, const T* bias, const T* keep) {
    constexpr index block = block_vectors<gates> * lanes<T>;
    const index blocks = (s.units + block - 1) / block;
    const double flops = step_flops(s);
    // Handing a step over to another core and back takes as long as some 30,000 operations.
    const int shares = flops < 6e4 ? 1 : threads_for(blocks, flops * static_cast<double>(s.batch * s.steps));
    Scratch<T> packed(packed_blocks_size<T, gates>(s.units, s.units)), kept(s.units * shares);
    parallel_steps(1 + s.batch * s.steps, shares, [&](index step, int share) {
        const Part mine(blocks, shares, share);
        const index first = mine.first * block, last = std::min(s.units, mine.last * block);
        if (step == 0) return pack_blocks<T, gates>(u, gates * s.units, false, s.units, s.units, first, last, packed.get());
        const index b = (step - 1) / s.steps, t = (step - 1) % s.steps;
        const Slice<T> slice = rows.slice(b, t);
        if (!rows.counts(b, t)) return carry_on(rows, slice, b, t, first, last);
        const auto units = [&](index from, index count, const T* product, index stride) {
            step_forward(s, slice, {from, count, product, stride, bias}, rows.h_at(b, t), rows.c_at(b, t));
        };
        const T* state = slice.h_previous;
        if (!state) return units(first, last - first, nullptr, 0);
        if (keep) {
            T* seen = kept + share * s.units;
            for (index i = 0; i < s.units; ++i) seen[i] = state[i] * keep[b * s.units + i];
            state = seen;
        }
        multiply_row<T, gates>(s.units, first, last, state, packed.get(), units);
    });
}

}  // namespace

template <class T>
void rnn_forward(const RnnShape& s, const T* x, const T* w, const T* u, const T* bias, const std::uint8_t* mask,
                 RnnState<T> initial, const T* keep, T* workspace, T* h, T* c) {
    input_product(s, x, w, bias, workspace);
    const Rows<T, T> rows{s, mask, initial, workspace, h, c};
    const T* recurrent_bias = s.cell == Cell::gru && bias ? bias + (s.gates() + 2) * s.units : nullptr;
    if (!few_sequences(s)) return run_sequences(s, rows, u, recurrent_bias, keep);
    switch (s.gates()) {
        case 1: return run_row_by_row<T, 1>(s, rows, u, recurrent_bias, keep);
        case 2: return run_row_by_row<T, 2>(s, rows, u, recurrent_bias, keep);
        case 3: return run_row_by_row<T, 3>(s, rows, u, recurrent_bias, keep);
        case 4: return run_row_by_row<T, 4>(s, rows, u, recurrent_bias, keep);
    }
}

template <class T>
void rnn_backward(const RnnShape& s, const T* x, const T* w, const T* u, const std::uint8_t* mask, RnnState<T> initial,
                  const T* keep, T* workspace, const T* h, const T* c, const T* dy,
                  const RnnGradients<T>& gradients) {
    const index columns = s.gates() * s.units, ld = s.width() * s.units, all = s.batch * s.steps;
    const bool row_by_row = few_sequences(s);
    Scratch<T> packed(packed_size<T>(columns, s.units)), previous(all * s.units);
    if (row_by_row)
        pack_blocks<T, 1>(u, columns, true, columns, s.units, 0, s.units, packed.get());
    else
        pack_panels(u, columns, true, index{0}, columns, columns, s.units, packed.get());
    const Rows<T, const T> rows{s, mask, initial, workspace, h, c};
    Scratch<T> dz(s.batch * columns), through(s.batch * s.units);  // through: the product with U
    const auto multiply = [&](Part mine, T* to, bool accumulate) {
        if (!row_by_row)
            return multiply_rows(mine, packed_panels<T>(packed, columns, s.units), columns, dz.get(), to, accumulate);
        for (index b = mine.first; b < mine.last; ++b)
            multiply_row<T, 1>(columns, 0, s.units, dz + b * columns, packed.get(),
                               [&](index first, index n, const T* sums, index) {
                                   T* out = to + b * s.units + first;
                                   for (index i = 0; i < n; ++i) out[i] = accumulate ? sums[i] + out[i] : sums[i];
                               });
    };
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
                multiply(mine, gradients.dh, true);
                continue;
            }
            multiply(mine, through, false);
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
