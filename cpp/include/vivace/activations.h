// Activation functions that no kernel fuses: of one element each, and PReLU, whose slope is learned. Those that kernels
// fuse are in elementwise.h.
#pragma once

#include "vivace/common.h"

namespace vivace {

// y = f(x), with up to three parameters a, b, c. NaN gives NaN, except in a threshold.
enum class Function {
    leaky_relu,   // above c: x, cut to [0, b] unless b is infinite; elsewhere a (x - c)
    elu,          // b x where x > 0, a b (exp(c x) - 1) elsewhere
    clip,         // a x + b, cut to [c, 1]
    gelu,         // x times the normal distribution function at x
    gelu_tanh,    // x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
    silu,         // x sigmoid(x)
    mish,         // x tanh(log(1 + exp(x)))
    softplus,     // log(1 + exp(a x)) / a, where a is 1 or -1
    softsign,     // x / (1 + |x|)
    exponential,  // exp(x)
    hard_silu,    // x times (x / 6 + 1/2, cut to [0, 1])
    squareplus,   // (x + sqrt(x^2 + a)) / 2
    soft_shrink,  // x moved towards 0 by a, and no further than 0
    hard_shrink,  // x where |x| > a, 0 elsewhere
    tanh_shrink,  // x - tanh(x)
    sparse_plus,  // 0 up to -1, (x + 1)^2 / 4 between, x from 1 on
    threshold,    // x where x > a, b elsewhere
};

struct Parameters {
    double a = 0, b = 0, c = 0;
};

// y may alias x.
template <class T>
void function_forward(Function f, const Parameters& p, index size, const T* x, T* y);

// dx = dy * f'(x), given both x and y = f(x). dx may alias dy.
template <class T>
void function_backward(Function f, const Parameters& p, index size, const T* x, const T* y, const T* dy, T* dx);

// y = x where x > 0, alpha * x elsewhere; alpha of `columns` elements, the same for each of the rows. y may alias x.
template <class T>
void prelu_forward(index rows, index columns, const T* x, const T* alpha, T* y);

// dalpha += the sum over rows of dy * min(x, 0); dx, which may be null or dy, is overwritten.
template <class T>
void prelu_backward(index rows, index columns, const T* x, const T* alpha, const T* dy, T* dx, T* dalpha);

}  // namespace vivace
