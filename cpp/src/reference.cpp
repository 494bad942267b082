#include "vivace/reference.h"

#include <algorithm>
#include <cmath>

namespace vivace::reference {
namespace {

template <class T>
T activate(Activation a, double x) {
    switch (a) {
        case Activation::relu: return static_cast<T>(x < 0 ? 0 : x);
        case Activation::sigmoid: return static_cast<T>(1 / (1 + std::exp(-x)));
        case Activation::tanh: return static_cast<T>(std::tanh(x));
        default: return static_cast<T>(x);
    }
}

double cut(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

double value(Function f, double a, double b, double c, double x) {
    switch (f) {
        case Function::leaky_relu: return x <= c ? (a == 0 ? 0 : a * (x - c)) : std::isinf(b) ? x : cut(x, 0, b);
        case Function::elu: return x > 0 ? b * x : a * b * std::expm1(c * x);
        case Function::clip: return cut(a * x + b, c, 1);
        case Function::gelu: return x * std::erfc(-x / std::sqrt(2.0)) / 2;
        case Function::gelu_tanh:
            return x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x))) / 2;
        case Function::silu: return x / (1 + std::exp(-x));
        case Function::mish: return x * std::tanh(std::log1p(std::exp(x)));
        case Function::softplus: return a * (std::fmax(a * x, 0) + std::log1p(std::exp(-std::fabs(x))));
        case Function::softsign: return x / (1 + std::fabs(x));
        case Function::exponential: return std::exp(x);
        case Function::hard_silu: return x * cut(x / 6 + 0.5, 0, 1);
        case Function::squareplus: return x < 0 ? a / 2 / (std::sqrt(x * x + a) - x) : (x + std::sqrt(x * x + a)) / 2;
        case Function::soft_shrink: return x - cut(x, -a, a);
        case Function::hard_shrink: return std::fabs(x) <= a ? 0 : x;
        case Function::tanh_shrink: return x - std::tanh(x);
        case Function::sparse_plus: return x >= 1 ? x : x <= -1 ? 0 : (x + 1) * (x + 1) / 4;
        case Function::threshold: return x > a ? x : b;
    }
    return x;
}

// Calls f(x_index, w_index, y_index) for every product in a convolution.
template <class F>
void for_each_product(const Conv2DShape& s, F&& f) {
    const index cg = s.c / s.groups, og = s.o / s.groups;
    for (index n = 0; n < s.n; ++n)
        for (index p = 0; p < s.p; ++p)
            for (index q = 0; q < s.q; ++q)
                for (index o = 0; o < s.o; ++o)
                    for (index i = 0; i < s.kh; ++i)
                        for (index j = 0; j < s.kw; ++j) {
                            const index h = p * s.stride_h + i * s.dilation_h - s.pad_top;
                            const index w = q * s.stride_w + j * s.dilation_w - s.pad_left;
                            if (h < 0 || h >= s.h || w < 0 || w >= s.w) continue;
                            for (index c = 0; c < cg; ++c)
                                f(((n * s.h + h) * s.w + w) * s.c + o / og * cg + c, ((i * s.kw + j) * cg + c) * s.o + o,
                                  ((n * s.p + p) * s.q + q) * s.o + o);
                        }
}

// Sums in double, whatever T is.
class Sums {
public:
    explicit Sums(index size) : size_(size), values_(new double[static_cast<std::size_t>(size)]()) {}
    ~Sums() { delete[] values_; }
    Sums(const Sums&) = delete;
    Sums& operator=(const Sums&) = delete;
    double& operator[](index i) { return values_[i]; }
    index size() const { return size_; }

private:
    index size_;
    double* values_;
};

// Calls f(window, position, x_index) for every element of every window that lies in the image.
template <class F>
void for_each_window_element(const Pool2DShape& s, F&& f) {
    for (index n = 0; n < s.n; ++n)
        for (index p = 0; p < s.p; ++p)
            for (index q = 0; q < s.q; ++q)
                for (index c = 0; c < s.c; ++c)
                    for (index i = 0; i < s.kh; ++i)
                        for (index j = 0; j < s.kw; ++j) {
                            const index h = p * s.stride_h + i - s.pad_top, w = q * s.stride_w + j - s.pad_left;
                            if (h < 0 || h >= s.h || w < 0 || w >= s.w) continue;
                            f(((n * s.p + p) * s.q + q) * s.c + c, i * s.kw + j, ((n * s.h + h) * s.w + w) * s.c + c);
                        }
}

// Calls f(box, position, elements of the box, x_index) for every element of every box, box by box.
template <class F>
void for_each_box_element(const Pool3DShape& s, F&& f) {
    index box = 0;
    for (index n = 0; n < s.n; ++n)
        for (const Window& deep : s.depth.windows)
            for (const Window& down : s.height.windows)
                for (const Window& across : s.width.windows)
                    for (index c = 0; c < s.c; ++c, ++box) {
                        index position = 0;
                        for (index d = deep.first; d < deep.end; ++d)
                            for (index h = down.first; h < down.end; ++h)
                                for (index w = across.first; w < across.end; ++w, ++position)
                                    f(box, position, deep.size() * down.size() * across.size(),
                                      (((n * s.depth.size + d) * s.height.size + h) * s.width.size + w) * s.c + c);
                    }
}

// Calls f(x_index, w_index, y_index) for every product in a convolution of volumes: those of each slice of the kernel.
template <class F>
void for_each_product(const Conv3DShape& s, F&& f) {
    Conv2DShape slice = s.images;
    slice.n = 1, slice.c = s.c;
    for (index n = 0; n < s.n; ++n)
        for (index r = 0; r < s.r; ++r)
            for (index i = 0; i < s.kd; ++i) {
                const index d = r * s.stride_d + i * s.dilation_d - s.pad_front;
                if (d < 0 || d >= s.d) continue;
                for_each_product(slice, [&](index ix, index iw, index iy) {
                    f((n * s.d + d) * slice.input_size() + ix, i * slice.kernel_size() + iw,
                      (n * s.r + r) * slice.output_size() + iy);
                });
            }
}

template <class Shape, class T>
void conv_forward(const Shape& s, const T* x, const T* w, const T* bias, Activation activation, T* y) {
    Sums sums(s.output_size());
    for_each_product(s, [&](index ix, index iw, index iy) {
        sums[iy] += static_cast<double>(x[ix]) * static_cast<double>(w[iw]);
    });
    for (index i = 0; i < s.output_size(); ++i)
        y[i] = activate<T>(activation, sums[i] + (bias ? static_cast<double>(bias[i % s.o]) : 0));
}

template <class Shape, class T>
void conv_input_gradient(const Shape& s, const T* dy, const T* w, T* dx) {
    Sums sums(s.input_size());
    for_each_product(s, [&](index ix, index iw, index iy) {
        sums[ix] += static_cast<double>(dy[iy]) * static_cast<double>(w[iw]);
    });
    for (index i = 0; i < s.input_size(); ++i) dx[i] = static_cast<T>(sums[i]);
}

template <class Shape, class T>
void conv_weight_gradient(const Shape& s, const T* x, const T* dy, T* dw, T* db) {
    Sums sums(s.kernel_size()), bias_sums(s.o);
    for_each_product(s, [&](index ix, index iw, index iy) {
        sums[iw] += static_cast<double>(x[ix]) * static_cast<double>(dy[iy]);
    });
    for (index i = 0; i < s.kernel_size(); ++i) dw[i] += static_cast<T>(sums[i]);
    if (!db) return;
    for (index i = 0; i < s.output_size(); ++i) bias_sums[i % s.o] += static_cast<double>(dy[i]);
    for (index o = 0; o < s.o; ++o) db[o] += static_cast<T>(bias_sums[o]);
}

}  // namespace

template <class T>
void gemm(index m, index n, index k, const T* a, bool transpose_a, const T* b, bool transpose_b, T* c,
          bool accumulate) {
    for (index i = 0; i < m; ++i)
        for (index j = 0; j < n; ++j) {
            double sum = accumulate ? static_cast<double>(c[i * n + j]) : 0;
            for (index t = 0; t < k; ++t)
                sum += static_cast<double>(transpose_a ? a[t * m + i] : a[i * k + t]) *
                       static_cast<double>(transpose_b ? b[j * k + t] : b[t * n + j]);
            c[i * n + j] = static_cast<T>(sum);
        }
}

template <class T>
void conv2d_forward(const Conv2DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y) {
    conv_forward(s, x, w, bias, activation, y);
}

template <class T>
void conv2d_input_gradient(const Conv2DShape& s, const T* dy, const T* w, T* dx) {
    conv_input_gradient(s, dy, w, dx);
}

template <class T>
void conv2d_weight_gradient(const Conv2DShape& s, const T* x, const T* dy, T* dw, T* db) {
    conv_weight_gradient(s, x, dy, dw, db);
}

template <class T>
void conv3d_forward(const Conv3DShape& s, const T* x, const T* w, const T* bias, Activation activation, T* y) {
    conv_forward(s, x, w, bias, activation, y);
}

template <class T>
void conv3d_input_gradient(const Conv3DShape& s, const T* dy, const T* w, T* dx) {
    conv_input_gradient(s, dy, w, dx);
}

template <class T>
void conv3d_weight_gradient(const Conv3DShape& s, const T* x, const T* dy, T* dw, T* db) {
    conv_weight_gradient(s, x, dy, dw, db);
}

template <class T, class Position>
void max_pool2d_forward(const Pool2DShape& s, const T* x, T* y, Position* positions) {
    index previous = -1;
    for_each_window_element(s, [&](index window, index position, index ix) {
        const bool first = window != previous;
        previous = window;
        if (!first && !(x[ix] > y[window]) && !std::isnan(x[ix])) return;
        y[window] = x[ix];
        if (positions) positions[window] = static_cast<Position>(position);
    });
}

template <class T, class Position>
void max_pool2d_backward(const Pool2DShape& s, const T* dy, const Position* positions, T* dx) {
    std::fill_n(dx, s.input_size(), T{});
    for_each_window_element(s, [&](index window, index position, index ix) {
        if (positions[window] == static_cast<Position>(position)) dx[ix] += dy[window];
    });
}

template <class T>
void average_pool2d_forward(const Pool2DShape& s, const T* x, T* y) {
    Sums sums(s.output_size()), counts(s.output_size());
    for_each_window_element(s, [&](index window, index, index ix) {
        sums[window] += static_cast<double>(x[ix]);
        counts[window] += 1;
    });
    for (index i = 0; i < s.output_size(); ++i) y[i] = static_cast<T>(sums[i] / counts[i]);
}

template <class T>
void average_pool2d_backward(const Pool2DShape& s, const T* dy, T* dx) {
    Sums counts(s.output_size()), sums(s.input_size());
    for_each_window_element(s, [&](index window, index, index) { counts[window] += 1; });
    for_each_window_element(
        s, [&](index window, index, index ix) { sums[ix] += static_cast<double>(dy[window]) / counts[window]; });
    for (index i = 0; i < s.input_size(); ++i) dx[i] = static_cast<T>(sums[i]);
}

template <class T, class Position>
void max_pool3d_forward(const Pool3DShape& s, const T* x, T* y, Position* positions) {
    for_each_box_element(s, [&](index box, index position, index, index ix) {
        if (position > 0 && !(x[ix] > y[box]) && !std::isnan(x[ix])) return;
        y[box] = x[ix];
        if (positions) positions[box] = static_cast<Position>(position);
    });
}

template <class T, class Position>
void max_pool3d_backward(const Pool3DShape& s, const T* dy, const Position* positions, T* dx) {
    std::fill_n(dx, s.input_size(), T{});
    for_each_box_element(s, [&](index box, index position, index, index ix) {
        if (positions[box] == static_cast<Position>(position)) dx[ix] += dy[box];
    });
}

template <class T>
void average_pool3d_forward(const Pool3DShape& s, const T* x, T* y) {
    Sums sums(s.output_size());
    for_each_box_element(s, [&](index box, index, index count, index ix) {
        sums[box] += static_cast<double>(x[ix]) / static_cast<double>(count);
    });
    for (index i = 0; i < s.output_size(); ++i) y[i] = static_cast<T>(sums[i]);
}

template <class T>
void average_pool3d_backward(const Pool3DShape& s, const T* dy, T* dx) {
    Sums sums(s.input_size());
    for_each_box_element(s, [&](index box, index, index count, index ix) {
        sums[ix] += static_cast<double>(dy[box]) / static_cast<double>(count);
    });
    for (index i = 0; i < s.input_size(); ++i) dx[i] = static_cast<T>(sums[i]);
}

template <class T>
void rnn_forward(const RnnShape& s, const T* x, const T* w, const T* u, const T* bias, T* h) {
    const index n = s.units, columns = s.gates() * n;
    const auto apply = [](const Squash& f, double v) {
        return f.other ? value(f.function, f.parameters.a, f.parameters.b, f.parameters.c, v) : activate<double>(f.activation, v);
    };
    const auto squash = [&](double v) { return apply(s.activation, v); };
    const auto open = [&](double v) { return apply(s.recurrent_activation, v); };
    for (index b = 0; b < s.batch; ++b) {
        Sums state(n), memory(n), through_input(columns), through_state(columns);
        for (index step = 0; step < s.steps; ++step) {
            const T* now = x + (b * s.steps + (s.reverse ? s.steps - 1 - step : step)) * s.inputs;
            for (index j = 0; j < columns; ++j) {
                through_input[j] = bias ? static_cast<double>(bias[j]) : 0;
                through_state[j] = bias && s.cell == Cell::gru ? static_cast<double>(bias[columns + j]) : 0;
                for (index i = 0; i < s.inputs; ++i)
                    through_input[j] += static_cast<double>(now[i]) * static_cast<double>(w[i * columns + j]);
                for (index i = 0; i < n; ++i) through_state[j] += state[i] * static_cast<double>(u[i * columns + j]);
            }
            if (s.cell == Cell::gru_reset_before) {
                Sums left(n);
                for (index i = 0; i < n; ++i) left[i] = open(through_input[n + i] + through_state[n + i]) * state[i];
                for (index j = 2 * n; j < columns; ++j) {
                    through_state[j] = 0;
                    for (index i = 0; i < n; ++i) through_state[j] += left[i] * static_cast<double>(u[i * columns + j]);
                }
            }
            for (index i = 0; i < n; ++i) {
                const auto z = [&](index gate) { return through_input[gate * n + i] + through_state[gate * n + i]; };
                switch (s.cell) {
                    case Cell::simple: state[i] = squash(z(0)); break;
                    case Cell::lstm:
                        memory[i] = open(z(1)) * memory[i] + open(z(0)) * squash(z(2));
                        state[i] = open(z(3)) * squash(memory[i]);
                        break;
                    case Cell::gru: {
                        const double update = open(z(0)), reset = open(z(1));
                        const double g = squash(through_input[2 * n + i] + reset * through_state[2 * n + i]);
                        state[i] = update * state[i] + (1 - update) * g;
                        break;
                    }
                    case Cell::gru_reset_before: state[i] = open(z(0)) * state[i] + (1 - open(z(0))) * squash(z(2)); break;
                    case Cell::output_gated: state[i] = squash(open(z(0))); break;
                }
                h[(b * s.steps + step) * n + i] = static_cast<T>(state[i]);
            }
        }
    }
}

template <class T>
void function_forward(Function f, const Parameters& p, index size, const T* x, T* y) {
    for (index i = 0; i < size; ++i) y[i] = static_cast<T>(value(f, p.a, p.b, p.c, static_cast<double>(x[i])));
}

template <class T>
void affine_forward(const Affine& s, const double* maps, const T* x, T* y) {
    const auto into = [&](double at, index size) {  // a place that the fill mode maps into the image
        const double n = static_cast<double>(size);
        if (s.fill == Fill::reflect)
            while (at < -0.5 || at > n - 0.5) at = at < -0.5 ? -1 - at : 2 * n - 1 - at;
        return s.fill == Fill::reflect || s.fill == Fill::nearest ? cut(at, 0, n - 1) : at;
    };
    const auto pixel = [&](index image, index row, index column, index channel) {
        if (s.fill == Fill::wrap) row = (row % s.h + s.h) % s.h, column = (column % s.w + s.w) % s.w;
        const index r = std::clamp<index>(row, 0, s.h - 1), c = std::clamp<index>(column, 0, s.w - 1);
        if (s.fill == Fill::constant && (r != row || c != column)) return s.value;
        return static_cast<double>(x[((image * s.h + r) * s.w + c) * s.c + channel]);
    };
    for (index i = 0; i < s.n; ++i)
        for (index p = 0; p < s.h; ++p)
            for (index q = 0; q < s.w; ++q) {
                const double* m = maps + 6 * i;
                const double u = static_cast<double>(q), v = static_cast<double>(p);
                const double column = into(m[0] * u + m[1] * v + m[2], s.w), row = into(m[3] * u + m[4] * v + m[5], s.h);
                const double right = s.bilinear ? column - std::floor(column) : 0;
                const double down = s.bilinear ? row - std::floor(row) : 0;
                const index c0 = static_cast<index>(s.bilinear ? std::floor(column) : std::nearbyint(column));
                const index r0 = static_cast<index>(s.bilinear ? std::floor(row) : std::nearbyint(row));
                for (index c = 0; c < s.c; ++c)
                    y[((i * s.h + p) * s.w + q) * s.c + c] = static_cast<T>(
                        (1 - down) * ((1 - right) * pixel(i, r0, c0, c) + right * pixel(i, r0, c0 + 1, c)) +
                        down * ((1 - right) * pixel(i, r0 + 1, c0, c) + right * pixel(i, r0 + 1, c0 + 1, c)));
            }
}

#define INSTANTIATE_POSITIONS(T, Position)                                               \
    template void max_pool2d_forward(const Pool2DShape&, const T*, T*, Position*);       \
    template void max_pool2d_backward(const Pool2DShape&, const T*, const Position*, T*); \
    template void max_pool3d_forward(const Pool3DShape&, const T*, T*, Position*);       \
    template void max_pool3d_backward(const Pool3DShape&, const T*, const Position*, T*);
#define INSTANTIATE(T)                                                                              \
    template void gemm(index, index, index, const T*, bool, const T*, bool, T*, bool);              \
    template void conv2d_forward(const Conv2DShape&, const T*, const T*, const T*, Activation, T*); \
    template void conv3d_forward(const Conv3DShape&, const T*, const T*, const T*, Activation, T*); \
    template void conv2d_input_gradient(const Conv2DShape&, const T*, const T*, T*);                \
    template void conv3d_input_gradient(const Conv3DShape&, const T*, const T*, T*);                \
    template void conv2d_weight_gradient(const Conv2DShape&, const T*, const T*, T*, T*);           \
    template void conv3d_weight_gradient(const Conv3DShape&, const T*, const T*, T*, T*);           \
    INSTANTIATE_POSITIONS(T, std::uint8_t)                                                          \
    INSTANTIATE_POSITIONS(T, std::uint32_t)                                                         \
    template void average_pool2d_forward(const Pool2DShape&, const T*, T*);                         \
    template void average_pool2d_backward(const Pool2DShape&, const T*, T*);                        \
    template void average_pool3d_forward(const Pool3DShape&, const T*, T*);                         \
    template void average_pool3d_backward(const Pool3DShape&, const T*, T*);                        \
    template void rnn_forward(const RnnShape&, const T*, const T*, const T*, const T*, T*);         \
    template void function_forward(Function, const Parameters&, index, const T*, T*);               \
    template void affine_forward(const Affine&, const double*, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace::reference
