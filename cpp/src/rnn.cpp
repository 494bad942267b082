// The input product of all steps is one GEMM before the loop and the weight gradients are GEMMs behind it. In between,
// every thread runs its own sequences through all steps, so that no step ends in a barrier; the recurrent weights are
// packed once and stay in cache; the gates of a step are computed where its product has just been written, in L1.
#include "vivace/rnn.h"

#include "rnn_cells.h"
#include "rnn_tape.h"
#include "row.h"
#include "tile.h"
#include "vivace/elementwise.h"
#include "vivace/gemm.h"

namespace vivace {
namespace {

constexpr index no_offset[1] = {0};

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

// U's columns in groups, each of which multiplies a copy of the state of its own: all of them one, or, where every gate
// has a mask of its own, one for each. A GRU's last one may have to wait for the gate r.
struct Groups {
    struct Group {
        index first, columns;
    } all[4];
    index count = 0, early = 0;  // early: how many need only the state before
    bool by_gate;

    Groups(const RnnShape& s, bool masked) : by_gate(masked && s.masks() > 1) {
        const bool late = s.cell == Cell::gru_reset_before;
        const index gates = s.gates();
        if (by_gate)
            for (index gate = 0; gate < gates; ++gate) all[count++] = {gate * s.units, s.units};
        else
            all[count++] = {0, (gates - late) * s.units};
        if (late && !by_gate) all[count++] = {2 * s.units, s.units};
        early = count - late;
    }
    // Between one gate's product and the next one's, where each group's is (batch, columns).
    index stride(const RnnShape& s) const { return by_gate ? s.batch * s.units : s.units; }
};

// Calls f(any, late), both as types, for which the loops over the steps are compiled apart: for_activations' any, and
// whether the last group has to wait.
template <class F>
void for_loops(const RnnShape& s, F&& f) {
    for_activations(s, [&](auto any) {
        if (s.cell == Cell::gru_reset_before)
            f(any, std::true_type{});
        else
            f(any, std::false_type{});
    });
}

// A group's mask of a sequence's state, from those of all groups that have one (null: none).
template <class T>
const T* keep_at(const RnnShape& s, const T* keep, index group, index b) {
    return keep ? keep + (group * s.batch + b) * s.units : nullptr;
}

// to = from (null: zeros), or what a mask leaves of it.
template <class T>
void keep_state(const RnnShape& s, const T* from, const T* keep, T* to) {
    if (!from) {
        std::fill_n(to, s.units, T{});
    } else if (!keep) {
        std::copy_n(from, s.units, to);
    } else {
        for_each_vector<T>(s.units, [&](index i, auto n) { store_n(to + i, load_n(from + i, n) * load_n(keep + i, n), n); });
    }
}

// Whether every sequence runs by itself: with so few, a product of rows would not fill a tile.
bool few_sequences(const RnnShape& s, const Groups& groups) { return s.batch <= 2 && groups.count == 1; }

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

// Calls f(place, first, columns, mask) for groups of W's columns from `first` on, whose products stand on the tape from
// column `place` on: a GRU's third gate goes to the fourth place, and gates may have masks of their own.
template <class F>
void for_input_groups(const RnnShape& s, bool by_gate, F&& f) {
    const index u = s.units, gates = s.gates();
    const auto place = [&](index gate) { return s.cell == Cell::gru && gate == 2 ? 3 * u : gate * u; };
    if (by_gate) {
        for (index gate = 0; gate < gates; ++gate) f(place(gate), gate * u, u, gate);
    } else if (s.cell == Cell::gru) {
        f(place(0), index{0}, 2 * u, index{0});
        f(place(2), 2 * u, u, index{0});
    } else {
        f(index{0}, index{0}, gates * u, index{0});
    }
}

// What the masks (batch, inputs) leave of the inputs; to = add ? to + that : that.
template <class T>
void keep_inputs(const RnnShape& s, const T* from, const T* keep, T* to, bool add) {
    parallel_for(s.batch, 4 * static_cast<double>(s.batch * s.steps * s.inputs), [&](index b, int) {
        for (index row = b * s.steps; row < (b + 1) * s.steps; ++row)
            for_each_vector<T>(s.inputs, [&](index i, auto n) {
                const vec<T> left = load_n(from + row * s.inputs + i, n) * load_n(keep + b * s.inputs + i, n);
                T* at = to + row * s.inputs + i;
                store_n(at, add ? load_n(at, n) + left : left, n);
            });
    });
}

// x W for all steps onto the tape.
template <class T>
void input_product(const RnnShape& s, const RnnInputs<T>& in, const T* keep, T* gates) {
    const index rows = s.batch * s.steps, columns = s.gates() * s.units, ld = s.width() * s.units;
    const T* bias = in.bias;
    Scratch<T> sums(s.cell == Cell::gru ? columns : 0), kept(keep ? rows * s.inputs : 0);
    if (bias && s.cell == Cell::gru) {  // both biases of z and r; the input's of g
        for (index i = 0; i < columns; ++i) sums[i] = bias[i] + (i < 2 * s.units ? bias[columns + i] : T{0});
        bias = sums.get();
    }
    const bool by_gate = keep && s.masks() > 1;
    if (keep && !by_gate) keep_inputs(s, in.x, keep, kept.get(), false);
    for_input_groups(s, by_gate, [&](index place, index first, index count, index mask) {
        if (by_gate) keep_inputs(s, in.x, keep + mask * s.batch * s.inputs, kept.get(), false);
        gemm_strided(rows, count, s.inputs, keep ? kept.get() : in.x, s.inputs, false, in.w + first, columns, false,
                     bias ? bias + first : nullptr, gates + place, ld, false);
    });
}

// Where a step does not count, its state is the one before. The gates of such a step are never read but for an output
// gate, whose output is then not to be used.
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
template <class T, bool any, bool late>
void run_sequences(const RnnShape& s, const Groups& groups, const Rows<T, T>& rows, const T* u, const T* bias,
                   const T* keep) {
    const index columns = s.gates() * s.units, states = s.batch * s.units;
    index size = 0;
    for (index k = 0; k < groups.count; ++k) size += packed_size<T>(s.units, groups.all[k].columns);
    Scratch<T> packed(size), seen(groups.count * states), product(s.batch * columns);
    Panels<T> panels[4];
    T* at = packed;
    for (index k = 0; k < groups.count; ++k) {
        const auto [first, count] = groups.all[k];
        pack_panels(u + first, columns, false, index{0}, s.units, s.units, count, at);
        panels[k] = packed_panels<T>(at, s.units, count);
        at += packed_size<T>(s.units, count);
    }
    const index last = groups.count - 1, stride = groups.stride(s);
    for_sequences(s, [&](Part mine) {
        const auto see = [&](const T* from, index b) {
            if (!keep) {  // one group
                std::copy_n(from, s.units, seen + b * s.units);
                return;
            }
            for (index k = 0; k < groups.early; ++k)
                keep_state(s, from, keep_at(s, keep, k, b), seen + k * states + b * s.units);
        };
        const auto multiply = [&](index k) {
            multiply_rows<T>(mine, panels[k], s.units, seen + k * states, product + s.batch * groups.all[k].first, false);
        };
        for (index b = mine.first; rows.h0 && b < mine.last; ++b) see(rows.h0 + b * s.units, b);
        for (index t = 0; t < s.steps; ++t) {
            const bool any_state = t > 0 || rows.h0;
            for (index k = 0; any_state && k < groups.early; ++k) multiply(k);
            const auto product_of = [&](index b) { return any_state ? product + b * groups.all[0].columns : nullptr; };
            if (late) {
                for (index b = mine.first; b < mine.last; ++b)
                    open_reset<T, any>(s, rows.slice(b, t), product_of(b), stride, keep_at(s, keep, last, b),
                                       seen + last * states + b * s.units);
                if (any_state) multiply(last);
            }
            for (index b = mine.first; b < mine.last; ++b) {
                const Slice<T> slice = rows.slice(b, t);
                if (!rows.counts(b, t)) {
                    carry_on(rows, slice, b, t, 0, s.units);
                } else if (late) {  // the third gate's product stands where `step_forward` looks for it
                    const T* z = any_state ? product + s.batch * 2 * s.units + (b - 2) * s.units : nullptr;
                    step_forward<T, any>(s, slice, {0, s.units, z, s.units, bias}, rows.h_at(b, t), rows.c_at(b, t));
                } else {
                    step_forward<T, any>(s, slice, {0, s.units, product_of(b), stride, bias}, rows.h_at(b, t), rows.c_at(b, t));
                }
                if (t + 1 < s.steps) see(rows.h_at(b, t), b);
            }
        }
    });
}

// Each sequence by itself: the gates of a few units are computed as soon as their product is, while the weights of the
// next units are on their way. Every thread keeps the weights of its share of the units in its own cache.
template <class T, bool any, int gates>
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
            step_forward<T, any>(s, slice, {from, count, product, stride, bias}, rows.h_at(b, t), rows.c_at(b, t));
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

// Where dropout leaves an element, 1 / (1 - rate); 0 elsewhere.
template <class T>
void fill_mask(index size, double rate, std::uint64_t seed, std::uint64_t stream, T* mask) {
    std::fill_n(mask, size, T{1});
    dropout(size, mask, rate, seed, stream, mask);
}

}  // namespace

template <class T>
void rnn_forward(const RnnShape& s, const RnnInputs<T>& in, T* memory, const RnnOutputs<T>& out) {
    const Scratch<T> unkept(memory ? 0 : s.tape_size());
    const Tape<T> tape(s, in, memory ? memory : unkept.get(), out.y);
    if (tape.input_masks) fill_mask(s.input_masks_size(), s.dropout, in.seed, in.input_stream, tape.input_masks);
    if (tape.state_masks) fill_mask(s.state_masks_size(), s.recurrent_dropout, in.seed, in.state_stream, tape.state_masks);
    input_product(s, in, tape.input_masks, tape.gates);
    const Rows<T, T> rows(s, in, tape);
    const T* bias = s.cell == Cell::gru && in.bias ? in.bias + (s.gates() + 2) * s.units : nullptr;  // of the recurrent g
    const Groups groups(s, tape.state_masks);
    for_loops(s, [&](auto any, auto late) {
        constexpr bool a = decltype(any)::value, l = decltype(late)::value;
        if (!few_sequences(s, groups)) return run_sequences<T, a, l>(s, groups, rows, in.u, bias, tape.state_masks);
        switch (s.gates()) {
            case 1: return run_row_by_row<T, a, 1>(s, rows, in.u, bias, tape.state_masks);
            case 2: return run_row_by_row<T, a, 2>(s, rows, in.u, bias, tape.state_masks);
            case 3: return run_row_by_row<T, a, 3>(s, rows, in.u, bias, tape.state_masks);
            case 4: return run_row_by_row<T, a, 4>(s, rows, in.u, bias, tape.state_masks);
        }
    });
    for (index b = 0; b < s.batch; ++b) {
        if (out.h) std::copy_n(rows.h_at(b, s.steps - 1), s.units, out.h + b * s.units);
        if (out.c && tape.c) std::copy_n(rows.c_at(b, s.steps - 1), s.units, out.c + b * s.units);
    }
    if (s.cell == Cell::output_gated) {
        const index count = s.sequences ? s.batch * s.steps : s.batch;
        Scratch<T> o(count * s.units);
        put_out<T>(s, {s, in, tape}, o, s.units, Put::write);
        gemm_strided<T>(count, s.outputs, s.units, o, s.units, false, in.readout, s.outputs, false, nullptr, out.y,
                        out.stride, false);
    } else if (!s.puts_out_states()) {
        put_out<T>(s, {s, in, tape}, out.y, out.stride, out.put);
    }
}

namespace {

// The gradients of all gates, and of the states before, from those of the output: backward through time.
template <class T, bool any, bool late>
struct ThroughTime {
    const RnnShape& s;
    const Groups& groups;
    const Rows<T, const T> rows;
    const T* u;
    const T* keep;           // masks of the states, or null
    const T* dy;             // of the output, `stride` apart, or null
    index stride;
    T *dh, *dc;              // of the states
    T* met;                  // for every group (batch, steps, units): what met U, in the tape's order

    index columns() const { return s.gates() * s.units; }
    T* met_at(index group, index b, index t) const {
        return met + ((group * s.batch + b) * s.steps + rows.time(t)) * s.units;
    }
    const T* dy_at(index b, index t, bool counts) const {
        const index row = rows.output(b, t);
        return dy && row >= 0 && !rows.is_zero(counts) ? dy + row * stride : nullptr;
    }

    // One step of one sequence, but for what comes through U. dz: the gradients of its gates, compact by group.
    void step(index b, index t, T* dz) const {
        const Slice<T> slice = rows.slice(b, t);
        T* const d = dh + b * s.units;
        const bool counts = rows.counts(b, t);
        const T* d_out = dy_at(b, t, counts);
        if (counts) {
            step_backward<T, any>(s, slice, rows.c_at(b, t), d_out, d, dc ? dc + b * s.units : nullptr);
        } else {
            // The output was the carried state: its gradient is the state's. Gates had no part in it. (An output gate's
            // output is not the state; where a step does not count, its output is not to be used.)
            std::fill_n(slice.z, s.width() * s.units, T{});
            for (index i = 0; d_out && s.cell != Cell::output_gated && i < s.units; ++i) d[i] += d_out[i];
        }
        for (index k = 0; k < groups.count; ++k) {
            const auto [first, count] = groups.all[k];
            std::copy_n(slice.z + first, count, dz + s.batch * first + b * count);
            if (k < groups.early) keep_state(s, slice.h_previous, keep_at(s, keep, k, b), met_at(k, b, t));
        }
    }

    // What a GRU that resets before the product adds, from the gradient of what its last group saw.
    void reset(index b, index t, const T* dseen, T* dz) const {
        const index last = groups.count - 1;
        if (!rows.counts(b, t)) return keep_state<T>(s, nullptr, nullptr, met_at(last, b, t));
        const Slice<T> slice = rows.slice(b, t);
        reset_backward<T, any>(s, slice, dseen + b * s.units, keep_at(s, keep, last, b), dh + b * s.units,
                               met_at(last, b, t));
        const auto [first, count] = groups.all[last - 1];  // it holds the gate r
        std::copy_n(slice.z + s.units, s.units, dz + s.batch * first + b * count + s.units - first);
    }

    void run() const {
        const bool alone = few_sequences(s, groups);
        const auto packed_at = [&](index k) { return packed_size<T>(groups.all[k].first, s.units); };
        Scratch<T> packed(packed_size<T>(columns(), s.units)), dz(s.batch * columns()), through(s.batch * s.units);
        for (index k = 0; k < groups.count; ++k) {
            const auto [first, count] = groups.all[k];
            if (alone)
                pack_blocks<T, 1>(u, columns(), true, columns(), s.units, 0, s.units, packed.get());
            else
                pack_panels(u + first, columns(), true, index{0}, count, count, s.units, packed + packed_at(k));
        }
        const auto multiply = [&](Part mine, index k, T* to, bool accumulate) {
            const auto [first, count] = groups.all[k];
            const T* from = dz + s.batch * first;
            if (!alone)
                return multiply_rows(mine, packed_panels<T>(packed + packed_at(k), count, s.units), count, from, to, accumulate);
            for (index b = mine.first; b < mine.last; ++b)
                multiply_row<T, 1>(count, 0, s.units, from + b * count, packed.get(),
                                   [&](index at, index n, const T* sums, index) {
                                       T* out = to + b * s.units + at;
                                       for (index i = 0; i < n; ++i) out[i] = accumulate ? sums[i] + out[i] : sums[i];
                                   });
        };
        for_sequences(s, [&](Part mine) {
            for (index t = s.steps - 1; t >= 0; --t) {
                for (index b = mine.first; b < mine.last; ++b) step(b, t, dz);
                if (late) {
                    multiply(mine, groups.count - 1, through, false);
                    for (index b = mine.first; b < mine.last; ++b) reset(b, t, through, dz);
                }
                for (index k = 0; k < groups.early; ++k) {
                    multiply(mine, k, keep ? through : dh, !keep);
                    const T* mask = keep_at(s, keep, k, 0);
                    for (index i = mine.first * s.units; mask && i < mine.last * s.units; ++i) dh[i] += through[i] * mask[i];
                }
            }
        });
    }
};

// The gradients of W, its biases and the inputs, from those of all gates.
template <class T>
void input_gradients(const RnnShape& s, const RnnInputs<T>& in, const T* keep, const T* gates, const RnnGradients<T>& g) {
    const index columns = s.gates() * s.units, ld = s.width() * s.units, all = s.batch * s.steps;
    const bool by_gate = keep && s.masks() > 1;
    Scratch<T> kept(keep ? all * s.inputs : 0);
    bool add = g.add_dx;
    for_input_groups(s, by_gate, [&](index place, index first, index count, index group) {
        const T* mask = keep ? keep + group * s.batch * s.inputs : nullptr;
        if (mask) keep_inputs(s, in.x, mask, kept.get(), false);
        gemm_strided<T>(s.inputs, count, all, mask ? kept.get() : in.x, s.inputs, true, gates + place, ld, false, nullptr,
                        g.dw + first, columns, true);
        if (g.dx) {
            gemm_strided<T>(all, s.inputs, count, gates + place, ld, false, in.w + first, columns, true, nullptr,
                            mask ? kept.get() : g.dx, s.inputs, add && !mask);
            if (mask) keep_inputs(s, kept.get(), mask, g.dx, add);
            add = true;
        }
        if (g.db) add_column_sums(all, count, gates + place, ld, g.db + first);
    });
}

}  // namespace

template <class T>
void rnn_backward(const RnnShape& s, const RnnInputs<T>& in, T* memory, const T* y, const RnnGradients<T>& g) {
    const Tape<T> tape(s, in, memory, const_cast<T*>(y));
    const Rows<T, const T> rows(s, in, tape);
    const Groups groups(s, tape.state_masks);
    const index columns = s.gates() * s.units, ld = s.width() * s.units, all = s.batch * s.steps;
    const index count = s.sequences ? all : s.batch, states = s.batch * s.units;
    const bool gated = s.cell == Cell::output_gated;
    Scratch<T> met(groups.count * all * s.units), dh(g.dh ? 0 : states), dc(g.dc || !tape.c ? 0 : states),
        o(gated ? 2 * count * s.units : 0);
    const T* dy = g.dy;
    if (gated && dy) {  // through the read-out
        T* d_o = o + count * s.units;
        put_out<T>(s, rows, o, s.units, Put::write);
        gemm_strided<T>(s.units, s.outputs, count, o, s.units, true, dy, g.stride, false, nullptr, g.dreadout, s.outputs, true);
        gemm_strided<T>(count, s.units, s.outputs, dy, g.stride, false, in.readout, s.outputs, true, nullptr, d_o, s.units, false);
        dy = d_o;
    }
    if (!g.dh) std::fill_n(dh.get(), states, T{});
    if (!g.dc && tape.c) std::fill_n(dc.get(), states, T{});
    T* const final_c = !tape.c ? nullptr : g.dc ? g.dc : dc.get();
    for_loops(s, [&](auto any, auto late) {
        ThroughTime<T, decltype(any)::value, decltype(late)::value>{
            s, groups, rows, in.u, tape.state_masks, dy, gated ? s.units : g.stride, g.dh ? g.dh : dh.get(), final_c, met}
            .run();
    });
    for (index k = 0; k < groups.count; ++k) {
        const auto [first, width] = groups.all[k];
        gemm_strided<T>(s.units, width, all, met + k * all * s.units, s.units, true, tape.gates + first, ld, false, nullptr,
                        g.du + first, columns, true);
    }
    input_gradients(s, in, tape.input_masks, tape.gates, g);
    if (g.db && s.cell == Cell::gru) add_column_sums(all, columns, tape.gates, ld, g.db + columns);
}

#define INSTANTIATE(T)                                                                             \
    template void rnn_forward(const RnnShape&, const RnnInputs<T>&, T*, const RnnOutputs<T>&);     \
    template void rnn_backward(const RnnShape&, const RnnInputs<T>&, T*, const T*, const RnnGradients<T>&);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
