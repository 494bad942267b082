// Where everything of a recurrent layer's pass stands.
#pragma once

#include "parallel.h"
#include "simd.h"
#include "rnn_cells.h"
#include "vivace/rnn.h"

namespace vivace {

// The parts of the tape; null where there is no such thing.
template <class T>
struct Tape {
    T *gates, *c, *h, *input_masks, *state_masks;

    // output: where the states are if they are what is put out.
    Tape(const RnnShape& s, const RnnInputs<T>& in, T* tape, T* output) : gates(tape) {
        T* next = gates + s.states_size() * s.width();
        const auto part = [&](bool there, index size) {
            T* at = there ? next : nullptr;
            next += size;
            return at;
        };
        c = part(s.has_memory(), s.has_memory() ? s.states_size() : 0);
        h = s.puts_out_states() ? output : part(true, s.states_size());
        input_masks = part(in.drops && s.dropout > 0, s.input_masks_size());
        state_masks = part(in.drops && s.recurrent_dropout > 0, s.state_masks_size());
    }
};

// Where the rows of one step of one sequence stand. State: T, or const T behind the forward pass.
template <class T, class State>
struct Rows {
    const RnnShape& s;
    const std::uint8_t* mask;
    const T *h0, *c0;
    T* gates_;
    State *h, *c;

    Rows(const RnnShape& shape, const RnnInputs<T>& in, const Tape<T>& tape)
        : s(shape), mask(in.mask), h0(in.h), c0(in.c), gates_(tape.gates), h(tape.h), c(tape.c) {}

    index time(index step) const { return s.reverse ? s.steps - 1 - step : step; }
    bool counts(index b, index step) const { return !mask || mask[b * s.steps + time(step)]; }
    index state(index b, index step) const { return (b * s.steps + step) * s.units; }
    State* h_at(index b, index step) const { return h + state(b, step); }
    State* c_at(index b, index step) const { return c ? c + state(b, step) : nullptr; }
    T* gates(index b, index step) const { return gates_ + (b * s.steps + time(step)) * s.width() * s.units; }
    const T* previous(const T* states, const T* first, index b, index step) const {
        return step ? states + state(b, step - 1) : first ? first + b * s.units : nullptr;
    }
    Slice<T> slice(index b, index step) const {
        return {s.units, gates(b, step), previous(h, h0, b, step), c ? previous(c, c0, b, step) : nullptr};
    }
    // The output's row for a step, or -1 if there is none.
    index output(index b, index step) const {
        if (!s.sequences) return step == s.steps - 1 ? b : -1;
        return b * s.steps + (s.in_time ? time(step) : step);
    }
    // Whether a step that counts, or does not, puts out 0 instead of a state.
    bool is_zero(bool counts) const { return s.sequences && s.zero_masked && !counts; }
};

// What the layer puts out, from the tape: the states, or the gates o.
template <class T>
void put_out(const RnnShape& s, const Rows<T, const T>& rows, T* y, index stride, Put put) {
    const Squashing<T, true> open(s.recurrent_activation);
    parallel_for(s.batch, 4 * static_cast<double>(s.sequences ? s.states_size() : s.batch * s.units), [&](index b, int) {
        for (index step = s.sequences ? 0 : s.steps - 1; step < s.steps; ++step) {
            T* to = y + rows.output(b, step) * stride;
            const bool zero = rows.is_zero(rows.counts(b, step)), gated = s.cell == Cell::output_gated;
            const T* from = gated ? rows.gates(b, step) + s.units : rows.h_at(b, step);
            for_each_vector<T>(s.units, [&](index i, auto n) {
                vec<T> v = zero ? vec<T>{} : load_n(from + i, n);
                if (gated && !zero) v = open.value_of_kept(v);
                if (put != Put::write) v = put == Put::add ? v + load_n(to + i, n) : v * load_n(to + i, n);
                store_n(to + i, v, n);
            });
        }
    });
}

}  // namespace vivace
