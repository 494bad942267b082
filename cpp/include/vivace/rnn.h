// Recurrent layers: one call runs a whole sequence forward, one runs it backward through time.
//
// With z = x_t W + h_{t-1} U + b, split into gates of `units` columns in the order given:
//
//   simple   h = tanh(z)
//   lstm     gates i f g o:  c = s(f) c_{t-1} + s(i) tanh(g);  h = s(o) tanh(c)
//            (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000)
//   gru      gates z r g, with two biases (2, 3 units), of the input and of the recurrent product ("reset after"):
//            g = tanh(x W_g + b_g + s(r) (h_{t-1} U_g + b'_g));  h = s(z) h_{t-1} + (1 - s(z)) g     (Cho et al. 2014)
//   output_gated   gates a o:  h = tanh(s(a));  the layer's output is s(o)
//
// where s is the logistic sigmoid. Weights have Keras's layout: W (inputs, gates), U (units, gates).
//
// A mask (batch, steps), nonzero where a step counts, may have any pattern: elsewhere the state is carried on unchanged
// and no gradient but the state's own passes.
#pragma once

#include "vivace/common.h"

namespace vivace {

enum class Cell { simple, lstm, gru, output_gated };

struct RnnShape {
    index batch, steps, inputs, units;
    Cell cell;
    bool reverse;  // runs from the last step to the first; outputs stand in the order in which they were computed
    Activation activation = Activation::tanh;               // in place of tanh above
    Activation recurrent_activation = Activation::sigmoid;  // in place of s

    index gates() const {  // columns of W and U, in units
        return cell == Cell::simple ? 1 : cell == Cell::lstm ? 4 : cell == Cell::gru ? 3 : 2;
    }
    // Columns of the workspace in units. A GRU keeps the recurrent part of g apart from the input's: z r g_recurrent g.
    index width() const { return cell == Cell::gru ? 4 : gates(); }
    bool has_memory() const { return cell == Cell::lstm; }
};

// What the kernels take; null where a layer has no such thing.
template <class T>
struct RnnState {
    const T *h, *c;  // (batch, units) before the first step; null: zeros
};

// keep (batch, units): what of h_{t-1} its product with U sees, the same at every step (recurrent dropout: 0 or
// 1 / (1 - rate)); null: all of it.
// h (batch, steps, units): hidden states.  c (the same): LSTM memory.  workspace (batch, steps, width * units): the
// gates after their activations, for the backward pass.
template <class T>
void rnn_forward(const RnnShape& s, const T* x, const T* w, const T* u, const T* bias, const std::uint8_t* mask,
                 RnnState<T> initial, const T* keep, T* workspace, T* h, T* c);

template <class T>
struct RnnGradients {
    T *dx;             // (batch, steps, inputs), overwritten; may be null
    T *dw, *du, *db;   // added to; db may be null
    T *dh, *dc;        // (batch, units): in, the gradient of the final state; out, that of the initial state
};

// dy (batch, steps, units): gradient of the outputs (of s(o) for output_gated); may be null. Consumes the workspace.
template <class T>
void rnn_backward(const RnnShape& s, const T* x, const T* w, const T* u, const std::uint8_t* mask, RnnState<T> initial,
                  const T* keep, T* workspace, const T* h, const T* c, const T* dy, const RnnGradients<T>& gradients);

}  // namespace vivace
