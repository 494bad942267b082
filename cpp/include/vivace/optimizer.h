// Optimizers: one fused pass over a model's flat parameter block. Each consumes the gradients: it leaves them zero,
// ready for the next step's accumulation.
#pragma once

#include "vivace/common.h"

namespace vivace {

// momentum == 0:  w -= lr g          (velocity may be null)
// otherwise       v = momentum v - lr g;  w += v   or, with nesterov,  w += momentum v - lr g
// (Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013; Keras's form)
template <class T>
void sgd_update(index size, T* w, T* g, T* velocity, double learning_rate, double momentum, bool nesterov);

// m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  w -= lr sqrt(1-b2^t)/(1-b1^t) m / (sqrt(v) + epsilon)
// (Kingma & Ba, "Adam: a method for stochastic optimization", 2015, section 2's efficient form, as in Keras);
// t = step counts from 1.
template <class T>
void adam_update(index size, T* w, T* g, T* m, T* v, double learning_rate, double beta_1, double beta_2, double epsilon,
                 std::int64_t step);

// average = momentum average + (1 - momentum) value
template <class T>
void moving_average_update(index size, T* average, const T* value, double momentum);

}  // namespace vivace
