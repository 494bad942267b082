#include "vivace/loss.h"

#include "arrays.h"

namespace vivace::bindings {
namespace {

struct Matrix {
    index rows, columns;
    Matrix(const Arguments& arg, const py::array& a, const char* name)
        : columns(arg.columns(a, name)) {
        if (a.size() == 0) arg.fail(name, "must not be empty", "size 0");
        rows = a.size() / columns;
    }
    index size() const { return rows * columns; }
};

const std::int64_t* checked_labels(const Arguments& arg, const char* op, const py::array& labels, const Matrix& m) {
    const std::int64_t* p = arg.in_flat<std::int64_t>(labels, "labels", m.rows);
    for (index r = 0; r < m.rows; ++r)
        if (p[r] < 0 || p[r] >= m.columns)
            throw py::value_error(std::string(op) + ": label " + std::to_string(p[r]) + " of row " +
                                  std::to_string(r) + " is outside the " + std::to_string(m.columns) +
                                  " classes [0, " + std::to_string(m.columns) + ")");
    return p;
}

template <class T>
using Forward = void (*)(index, index, const T*, const T*, T*, T*);
template <class T>
using Backward = void (*)(index, index, const T*, const T*, const T*, T*);

// losses with a dense target: (logits, targets) -> probabilities, losses  and  -> dlogits
void bind_dense_target(py::module_& m, const char* forward_name, const char* backward_name, Forward<float> forward32,
                       Forward<double> forward64, Backward<float> backward32, Backward<double> backward64) {
    m.def(
        forward_name,
        [=](const py::array& logits, const py::array& targets, const py::array& probabilities,
            const py::array& losses) {
            const Arguments arg(forward_name);
            const Matrix s(arg, logits, "logits");
            arg.for_dtype(logits, "logits", [&](auto zero) {
                using T = decltype(zero);
                const T* z = arg.in_flat<T>(logits, "logits", s.size());
                const T* t = arg.in_flat<T>(targets, "targets", s.size());
                T* p = arg.out_flat<T>(probabilities, "probabilities", s.size());
                T* l = arg.out_flat<T>(losses, "losses", s.rows);
                without_gil([&] {
                    if constexpr (std::is_same_v<T, float>)
                        forward32(s.rows, s.columns, z, t, p, l);
                    else
                        forward64(s.rows, s.columns, z, t, p, l);
                });
            });
        },
        py::arg("logits"), py::arg("targets"), py::arg("probabilities"), py::arg("losses"));
    m.def(
        backward_name,
        [=](const py::array& probabilities, const py::array& targets, const py::array& scale,
            const py::array& dlogits) {
            const Arguments arg(backward_name);
            const Matrix s(arg, probabilities, "probabilities");
            arg.for_dtype(probabilities, "probabilities", [&](auto zero) {
                using T = decltype(zero);
                const T* p = arg.in_flat<T>(probabilities, "probabilities", s.size());
                const T* t = arg.in_flat<T>(targets, "targets", s.size());
                const T* w = arg.in_flat<T>(scale, "scale", s.rows);
                T* d = arg.out_flat<T>(dlogits, "dlogits", s.size());
                without_gil([&] {
                    if constexpr (std::is_same_v<T, float>)
                        backward32(s.rows, s.columns, p, t, w, d);
                    else
                        backward64(s.rows, s.columns, p, t, w, d);
                });
            });
        },
        py::arg("probabilities"), py::arg("targets"), py::arg("scale"), py::arg("dlogits"));
}

void bind_sparse(py::module_& m) {
    m.def(
        "sparse_softmax_crossentropy_forward",
        [](const py::array& logits, const py::array& labels, const py::array& probabilities, const py::array& losses) {
            constexpr const char* op = "sparse_softmax_crossentropy_forward";
            const Arguments arg(op);
            const Matrix s(arg, logits, "logits");
            const std::int64_t* y = checked_labels(arg, op, labels, s);
            arg.for_dtype(logits, "logits", [&](auto zero) {
                using T = decltype(zero);
                const T* z = arg.in_flat<T>(logits, "logits", s.size());
                T* p = arg.out_flat<T>(probabilities, "probabilities", s.size());
                T* l = arg.out_flat<T>(losses, "losses", s.rows);
                without_gil([&] { sparse_softmax_crossentropy_forward(s.rows, s.columns, z, y, p, l); });
            });
        },
        py::arg("logits"), py::arg("labels"), py::arg("probabilities"), py::arg("losses"));
    m.def(
        "sparse_softmax_crossentropy_backward",
        [](const py::array& probabilities, const py::array& labels, const py::array& scale, const py::array& dlogits) {
            constexpr const char* op = "sparse_softmax_crossentropy_backward";
            const Arguments arg(op);
            const Matrix s(arg, probabilities, "probabilities");
            const std::int64_t* y = checked_labels(arg, op, labels, s);
            arg.for_dtype(probabilities, "probabilities", [&](auto zero) {
                using T = decltype(zero);
                const T* p = arg.in_flat<T>(probabilities, "probabilities", s.size());
                const T* w = arg.in_flat<T>(scale, "scale", s.rows);
                T* d = arg.out_flat<T>(dlogits, "dlogits", s.size());
                without_gil([&] { sparse_softmax_crossentropy_backward(s.rows, s.columns, p, y, w, d); });
            });
        },
        py::arg("probabilities"), py::arg("labels"), py::arg("scale"), py::arg("dlogits"));
    m.def(
        "count_correct",
        [](const py::array& y, const py::array& labels) {
            const Arguments arg("count_correct");
            const Matrix s(arg, y, "y");
            const std::int64_t* l = arg.in_flat<std::int64_t>(labels, "labels", s.rows);
            index correct = 0;
            arg.for_dtype(y, "y", [&](auto zero) {
                using T = decltype(zero);
                correct = count_correct(s.rows, s.columns, arg.in_flat<T>(y, "y", s.size()), l);
            });
            return correct;
        },
        py::arg("y"), py::arg("labels"));
    m.def(
        "total",
        [](const py::array& losses) {
            const Arguments arg("total");
            double sum = 0;
            arg.for_dtype(losses, "losses", [&](auto zero) {
                using T = decltype(zero);
                const index size = static_cast<index>(losses.size());
                const T* p = arg.in_flat<T>(losses, "losses", size);
                without_gil([&] { sum = total(size, p); });
            });
            return sum;
        },
        py::arg("losses"));
}

void bind_mean_squared_error(py::module_& m) {
    m.def(
        "mean_squared_error_forward",
        [](const py::array& y, const py::array& targets, const py::array& losses) {
            const Arguments arg("mean_squared_error_forward");
            const Matrix s(arg, y, "y");
            arg.for_dtype(y, "y", [&](auto zero) {
                using T = decltype(zero);
                const T* py = arg.in_flat<T>(y, "y", s.size());
                const T* t = arg.in_flat<T>(targets, "targets", s.size());
                T* l = arg.out_flat<T>(losses, "losses", s.rows);
                without_gil([&] { mean_squared_error_forward(s.rows, s.columns, py, t, l); });
            });
        },
        py::arg("y"), py::arg("targets"), py::arg("losses"));
    m.def(
        "mean_squared_error_backward",
        [](const py::array& y, const py::array& targets, const py::array& scale, const py::array& dy) {
            const Arguments arg("mean_squared_error_backward");
            const Matrix s(arg, y, "y");
            arg.for_dtype(y, "y", [&](auto zero) {
                using T = decltype(zero);
                const T* py = arg.in_flat<T>(y, "y", s.size());
                const T* t = arg.in_flat<T>(targets, "targets", s.size());
                const T* w = arg.in_flat<T>(scale, "scale", s.rows);
                T* d = arg.out_flat<T>(dy, "dy", s.size());
                without_gil([&] { mean_squared_error_backward(s.rows, s.columns, py, t, w, d); });
            });
        },
        py::arg("y"), py::arg("targets"), py::arg("scale"), py::arg("dy"));
}

}  // namespace

void bind_loss(py::module_& m) {
    bind_sparse(m);
    bind_dense_target(m, "softmax_crossentropy_forward", "softmax_crossentropy_backward",
                      softmax_crossentropy_forward<float>, softmax_crossentropy_forward<double>,
                      softmax_crossentropy_backward<float>, softmax_crossentropy_backward<double>);
    bind_dense_target(m, "sigmoid_crossentropy_forward", "sigmoid_crossentropy_backward",
                      sigmoid_crossentropy_forward<float>, sigmoid_crossentropy_forward<double>,
                      sigmoid_crossentropy_backward<float>, sigmoid_crossentropy_backward<double>);
    bind_mean_squared_error(m);
}

}  // namespace vivace::bindings
