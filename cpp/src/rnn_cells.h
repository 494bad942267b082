// One step of one sequence, forward and backward: the formulas of rnn.h.
#pragma once

#include "functions.h"
#include "vivace/rnn.h"
#include "vmath.h"

namespace vivace {

// Of what is used once for every gate: left alone, the compiler calls it, through memory.
#define VIVACE_INLINE_LAMBDA __attribute__((always_inline))

// One sequence's slice of one step. Gates stand `units` apart from each other.
template <class T>
struct Slice {
    index units;
    T* z;                              // on the tape
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

// An activation, of which the tape keeps what the backward pass can have the value and the slope from: the value, or,
// of a function that is not fused, what went in. any: whether it may be such a function; the steps are compiled for both
// cases, since to ask in every register costs a sixth of a pass.
template <class T, bool any>
struct Squashing {
    const Squash& s;
    const Activation activation;

    VIVACE_INLINE explicit Squashing(const Squash& squash) : s(squash), activation(squash.activation) {}
    VIVACE_INLINE bool other() const { return any && s.other; }
    VIVACE_INLINE vec<T> value(vec<T> x) const {
        if (other()) return other_value(x);
        switch (activation) {
            case Activation::tanh: return tanh<T>(x);
            case Activation::sigmoid: return sigmoid<T>(x);
            case Activation::relu: return maximum(vec<T>{}, x);
            default: return x;
        }
    }
    VIVACE_INLINE vec<T> kept(vec<T> x, vec<T> y) const { return other() ? x : y; }
    VIVACE_INLINE vec<T> value_of_kept(vec<T> k) const { return other() ? other_value(k) : k; }
    VIVACE_INLINE vec<T> slope_of_kept(vec<T> k) const {
        if (other()) return other_slope(k);
        switch (activation) {
            case Activation::tanh: return T{1} - k * k;
            case Activation::sigmoid: return k * (T{1} - k);
            case Activation::relu: return k > T{0} ? broadcast(T{1}) : vec<T>{};
            default: return broadcast(T{1});
        }
    }

private:
    // Not inlined: every function, in every gate of every cell.
    [[gnu::noinline]] vec<T> other_value(const vec<T>& x) const {
        vec<T> y{};
        with_function<T>(s.function, s.parameters, [&](auto f) { y = f.value(x); });
        return y;
    }
    [[gnu::noinline]] vec<T> other_slope(const vec<T>& x) const {
        vec<T> d{};
        with_function<T>(s.function, s.parameters, [&](auto f) { d = f.slope(x, f.value(x)); });
        return d;
    }
};

// Calls f(true or false as a type): whether a layer has an activation that is not fused.
template <class F>
VIVACE_INLINE void for_activations(const RnnShape& s, F&& f) {
    if (s.activation.other || s.recurrent_activation.other)
        f(std::true_type{});
    else
        f(std::false_type{});
}

template <class T, bool any>
void step_forward(const RnnShape& shape, const Slice<T>& s, const Recurrent<T>& recurrent, T* h, T* c) {
    const index u = s.units;
    T* const z = s.z;
    const Squashing<T, any> squash(shape.activation), open(shape.recurrent_activation);
    for_each_vector<T>(recurrent.count, [&](index offset, auto n) VIVACE_INLINE_LAMBDA {
        const index i = recurrent.first + offset;
        const auto product = [&](index k) VIVACE_INLINE_LAMBDA {
            return load_or_zero(recurrent.product, k * recurrent.stride + offset, n);
        };
        // All gates are computed before the first is stored, so that they can be under way together.
        struct Gate {
            vec<T> x, y;
        };
        const auto gate = [&](const Squashing<T, any>& f, index k) VIVACE_INLINE_LAMBDA {
            const vec<T> x = load_n(z + k * u + i, n) + product(k);
            return Gate{x, f.value(x)};
        };
        const auto keep = [&](const Squashing<T, any>& f, index k, const Gate& g) VIVACE_INLINE_LAMBDA {
            store_n(z + k * u + i, f.kept(g.x, g.y), n);
        };
        switch (shape.cell) {
            case Cell::simple: {
                const Gate y = gate(squash, 0);
                keep(squash, 0, y);
                store_n(h + i, y.y, n);
                return;
            }
            case Cell::lstm: {
                const Gate in = gate(open, 0), forget = gate(open, 1), g = gate(squash, 2), out = gate(open, 3);
                const vec<T> memory = forget.y * load_or_zero(s.c_previous, i, n) + in.y * g.y;
                keep(open, 0, in);
                keep(open, 1, forget);
                keep(squash, 2, g);
                keep(open, 3, out);
                store_n(c + i, memory, n);
                store_n(h + i, out.y * squash.value(memory), n);
                return;
            }
            case Cell::gru: {
                const Gate update = gate(open, 0), reset = gate(open, 1);
                const vec<T> own = product(2) + load_or_zero(recurrent.bias, i, n);
                const vec<T> x = load_n(z + 3 * u + i, n) + reset.y * own;
                const Gate g{x, squash.value(x)};
                keep(open, 0, update);
                keep(open, 1, reset);
                store_n(z + 2 * u + i, own, n);
                keep(squash, 3, g);
                store_n(h + i, g.y + update.y * (load_or_zero(s.h_previous, i, n) - g.y), n);
                return;
            }
            case Cell::gru_reset_before: {  // z and r are there already: `open_reset`
                const vec<T> update = open.value_of_kept(load_n(z + i, n));
                const Gate g = gate(squash, 2);
                keep(squash, 2, g);
                store_n(h + i, g.y + update * (load_or_zero(s.h_previous, i, n) - g.y), n);
                return;
            }
            case Cell::output_gated: {
                const Gate a = gate(open, 0), out = gate(open, 1);
                keep(open, 0, a);
                keep(open, 1, out);
                store_n(h + i, squash.value(a.y), n);
                return;
            }
        }
    });
}

// The first two gates of a GRU that resets before the product, and what that product sees: s(r) h_{t-1}, of which `keep`
// (may be null) leaves a part. product: that of the two gates, `stride` apart (null: h_{t-1} is 0).
template <class T, bool any>
void open_reset(const RnnShape& shape, const Slice<T>& s, const T* product, index stride, const T* keep, T* seen) {
    const Squashing<T, any> open(shape.recurrent_activation);
    for_each_vector<T>(s.units, [&](index i, auto n) {
        const auto gate = [&](index k) {
            const vec<T> x = load_n(s.z + k * s.units + i, n) + load_or_zero(product, k * stride + i, n), y = open.value(x);
            store_n(s.z + k * s.units + i, open.kept(x, y), n);
            return y;
        };
        gate(0);
        const vec<T> left = gate(1) * load_or_zero(s.h_previous, i, n);
        store_n(seen + i, keep ? left * load_n(keep + i, n) : left, n);
    });
}

// Turns the gates in z into their gradients. dh and dc: in, the gradient of this step's state; out, what of it reaches
// the previous state directly (the part through U is added by the caller). dy: this step's output gradient, or null.
template <class T, bool any>
void step_backward(const RnnShape& shape, const Slice<T>& s, const T* c, const T* dy, T* dh, T* dc) {
    const index u = s.units;
    T* const z = s.z;
    constexpr T one = 1;
    const Squashing<T, any> squash(shape.activation), open(shape.recurrent_activation);
    for_each_vector<T>(u, [&](index i, auto n) VIVACE_INLINE_LAMBDA {
        const vec<T> d_out = load_or_zero(dy, i, n), carried = load_n(dh + i, n), d = carried + d_out;
        const auto kept = [&](index k) VIVACE_INLINE_LAMBDA { return load_n(z + k * u + i, n); };
        const auto store_gate = [&](index k, vec<T> gradient) VIVACE_INLINE_LAMBDA { store_n(z + k * u + i, gradient, n); };
        switch (shape.cell) {
            case Cell::simple: {
                store_gate(0, d * squash.slope_of_kept(kept(0)));
                store_n(dh + i, vec<T>{}, n);
                return;
            }
            case Cell::lstm: {
                const vec<T> kept_in = kept(0), kept_forget = kept(1), kept_g = kept(2), kept_out = kept(3);
                const vec<T> in = open.value_of_kept(kept_in), forget = open.value_of_kept(kept_forget),
                             g = squash.value_of_kept(kept_g), out = open.value_of_kept(kept_out);
                const vec<T> state = load_n(c + i, n), squashed = squash.value(state);
                const vec<T> memory = load_n(dc + i, n) + d * out * squash.slope_of_kept(squash.kept(state, squashed));
                store_gate(0, memory * g * open.slope_of_kept(kept_in));
                store_gate(1, memory * load_or_zero(s.c_previous, i, n) * open.slope_of_kept(kept_forget));
                store_gate(2, memory * in * squash.slope_of_kept(kept_g));
                store_gate(3, d * squashed * open.slope_of_kept(kept_out));
                store_n(dc + i, memory * forget, n);
                store_n(dh + i, vec<T>{}, n);
                return;
            }
            case Cell::gru: {
                const vec<T> kept_update = kept(0), kept_reset = kept(1), recurrent = kept(2), kept_g = kept(3);
                const vec<T> update = open.value_of_kept(kept_update), reset = open.value_of_kept(kept_reset),
                             g = squash.value_of_kept(kept_g);
                const vec<T> dg = d * (one - update) * squash.slope_of_kept(kept_g);
                store_gate(0, d * (load_or_zero(s.h_previous, i, n) - g) * open.slope_of_kept(kept_update));
                store_gate(1, dg * recurrent * open.slope_of_kept(kept_reset));
                store_gate(2, dg * reset);
                store_gate(3, dg);
                store_n(dh + i, d * update, n);
                return;
            }
            case Cell::gru_reset_before: {  // r follows: `reset_backward`
                const vec<T> kept_update = kept(0), kept_g = kept(2);
                const vec<T> update = open.value_of_kept(kept_update), g = squash.value_of_kept(kept_g);
                store_gate(0, d * (load_or_zero(s.h_previous, i, n) - g) * open.slope_of_kept(kept_update));
                store_gate(2, d * (one - update) * squash.slope_of_kept(kept_g));
                store_n(dh + i, d * update, n);
                return;
            }
            case Cell::output_gated: {
                const vec<T> kept_a = kept(0), a = open.value_of_kept(kept_a);
                const vec<T> slope = squash.slope_of_kept(squash.kept(a, squash.value(a)));
                store_gate(0, carried * slope * open.slope_of_kept(kept_a));
                store_gate(1, d_out * open.slope_of_kept(kept(1)));
                store_n(dh + i, vec<T>{}, n);
                return;
            }
        }
    });
}

// The rest of a GRU that resets before the product. dseen: the gradient of what the product saw, s(r) h_{t-1} and of that
// what `keep` (may be null) left; met: that again.
template <class T, bool any>
void reset_backward(const RnnShape& shape, const Slice<T>& s, const T* dseen, const T* keep, T* dh, T* met) {
    const Squashing<T, any> open(shape.recurrent_activation);
    T* const r = s.z + s.units;
    for_each_vector<T>(s.units, [&](index i, auto n) {
        const vec<T> kept = load_n(r + i, n), reset = open.value_of_kept(kept), h = load_or_zero(s.h_previous, i, n);
        const vec<T> left = keep ? load_n(keep + i, n) : broadcast(T{1}), d = load_n(dseen + i, n) * left;
        store_n(met + i, reset * h * left, n);
        store_n(r + i, d * h * open.slope_of_kept(kept), n);
        store_n(dh + i, load_n(dh + i, n) + d * reset, n);
    });
}

}  // namespace vivace
