// Recurrent layers: one call runs a whole sequence forward, one runs it backward through time.
//
// With z = x_t W + h_{t-1} U + b, split into gates of `units` columns in the order given:
//
//   simple   h = tanh(z)
//   lstm     gates i f g o:  c = s(f) c_{t-1} + s(i) tanh(g);  h = s(o) tanh(c)
//            (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000)
//   gru      gates z r g, with two biases (2, 3 units), of the input and of the recurrent product ("reset after"):
//            g = tanh(x W_g + b_g + s(r) (h_{t-1} U_g + b'_g));  h = s(z) h_{t-1} + (1 - s(z)) g     (Cho et al. 2014)
//   gru_reset_before   the same with one bias and g = tanh(x W_g + b_g + (s(r) h_{t-1}) U_g)
//   output_gated   gates a o:  h = tanh(s(a));  the layer's output is s(o) R, with a read-out R (units, outputs)
//
// where s is the logistic sigmoid. Weights have Keras's layout: W (inputs, gates), U (units, gates).
//
// A mask (batch, steps), nonzero where a step counts, may have any pattern: elsewhere the state is carried on unchanged
// and no gradient but the state's own passes.
//
// Dropout takes from the inputs, and from the states where they meet U, the same elements at every step of a sequence.
// Where it takes from the states of an LSTM or a GRU, each gate has masks of its own, of its inputs too.
#pragma once

#include "vivace/activations.h"

namespace vivace {

enum class Cell { simple, lstm, gru, gru_reset_before, output_gated };

// What squashes: one of the activations that kernels fuse, or any function of activations.h.
struct Squash {
    Activation activation = Activation::linear;
    bool other = false;  // function(parameters) instead
    Function function{};
    Parameters parameters{};
};

struct RnnShape {
    index batch, steps, inputs, units;
    Cell cell;
    bool reverse;                                            // runs from the last step to the first
    Squash activation{Activation::tanh};                     // in place of tanh above
    Squash recurrent_activation{Activation::sigmoid};        // in place of s
    double dropout = 0, recurrent_dropout = 0;               // rates, of the inputs and of the states
    bool sequences = true;     // the output has every step, (batch, steps, ...); or it is the last one's, (batch, ...)
    bool in_time = false;      // a sequence of outputs is in the order of time; or in that in which they were computed
    bool zero_masked = false;  // in a sequence, what a step puts out that does not count is 0; or what the one before did
    index outputs = 0;         // of an output_gated cell's read-out

    index gates() const {  // columns of W and U, in units
        return cell == Cell::simple ? 1 : cell == Cell::lstm ? 4 : cell == Cell::output_gated ? 2 : 3;
    }
    // Columns of the tape's gates in units. A GRU that resets after the product keeps its part of g apart from the
    // input's: z r g_recurrent g.
    index width() const { return cell == Cell::gru ? 4 : gates(); }
    bool has_memory() const { return cell == Cell::lstm; }
    index bias_rows() const { return cell == Cell::gru ? 2 : 1; }
    index output_columns() const { return cell == Cell::output_gated ? outputs : units; }
    bool puts_out_states() const { return sequences && !in_time && !zero_masked && cell != Cell::output_gated; }

    // Masks of dropout: one for all gates, or one for each.
    index masks() const { return recurrent_dropout > 0 && cell != Cell::simple && cell != Cell::output_gated ? gates() : 1; }
    index input_masks_size() const { return dropout > 0 ? masks() * batch * inputs : 0; }
    index state_masks_size() const { return recurrent_dropout > 0 ? masks() * batch * units : 0; }

    index states_size() const { return batch * steps * units; }
    // What the backward pass needs of the forward pass, in this order: gates (batch, steps, width * units) after their
    // activations (or, of those that are not fused, before), an LSTM's memories, the states unless they are the output,
    // and the masks of dropout.
    index tape_size() const {
        return states_size() * (width() + has_memory() + !puts_out_states()) + input_masks_size() + state_masks_size();
    }
};

// What the layer computes with; null where it has no such thing.
template <class T>
struct RnnInputs {
    const T* x;
    const T *w, *u, *bias, *readout;
    const std::uint8_t* mask;
    const T *h, *c;            // (batch, units) before the first step; null: zeros
    bool drops;                // in training
    std::uint64_t seed, input_stream, state_stream;  // of the dropout
};

// How the output gets where it goes.
enum class Put { write, add, multiply };

// Where the output goes: its rows are `stride` apart. h, c: the final states, (batch, units); may be null.
template <class T>
struct RnnOutputs {
    T* y;
    index stride;
    T *h, *c;
    Put put = Put::write;  // other than that only of states that are also on the tape
};

// tape: null where no backward pass follows.
template <class T>
void rnn_forward(const RnnShape& s, const RnnInputs<T>& in, T* tape, const RnnOutputs<T>& out);

template <class T>
struct RnnGradients {
    const T* dy;           // of the output, its rows `stride` apart; may be null
    index stride;
    T* dx;                 // (batch, steps, inputs), overwritten, or added to; may be null
    bool add_dx;
    T *dw, *du, *db, *dreadout;  // added to; db may be null
    T *dh, *dc;            // (batch, units): in, the gradient of the final state; out, that of the initial; may be null
};

// y: the output, if it is the states. Consumes the tape.
template <class T>
void rnn_backward(const RnnShape& s, const RnnInputs<T>& in, T* tape, const T* y, const RnnGradients<T>& gradients);

// Two layers that see the same sequences, as one that runs them forwards and one that runs them backwards, and one output
// of both: side by side, or their sum, product or mean. Of no output_gated cells, and neither puts out its states.
struct RnnPair {
    enum class Merge { concat, sum, mul, ave };
    RnnShape first, second;
    Merge merge;
    index output_columns() const { return merge == Merge::concat ? first.units + second.units : first.units; }
    index tape_size() const { return first.tape_size() + second.tape_size(); }
};

template <class T>
void rnn_pair_forward(const RnnPair& s, const RnnInputs<T>& first, const RnnInputs<T>& second, T* tape, T* y);

// Consumes the tape, and dy; the gradient of x is first's dx.
template <class T>
void rnn_pair_backward(const RnnPair& s, const RnnInputs<T>& first, const RnnInputs<T>& second, T* tape, T* dy,
                       RnnGradients<T> first_gradients, RnnGradients<T> second_gradients);

}  // namespace vivace
