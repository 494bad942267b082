#include "vivace/normalization.h"

#include <pybind11/stl.h>

#include <array>

#include "arrays.h"
#include "vivace/optimizer.h"

namespace vivace::bindings {
namespace {

// x is (samples, rows, channels), or any shape of as many elements.
GroupNormShape group_shape(const Arguments& arg, const std::array<index, 4>& s) {
    if (s[0] < 1 || s[1] < 1 || s[2] < 1 || s[3] < 1 || s[2] % s[3])
        arg.fail("shape", "must be (samples, rows, channels, groups), all at least 1, groups dividing channels",
                 tuple_text(s.data(), 4));
    return {s[0], s[1], s[2], s[3]};
}

RowNorm row_norm_named(const Arguments& arg, const std::string& name) {
    if (name == "layer") return RowNorm::layer;
    if (name == "rms") return RowNorm::rms;
    if (name == "deviation") return RowNorm::deviation;
    arg.fail("kind", "must be layer, rms or deviation", name);
}

void bind_group_norm(py::module_& m) {
    using Four = std::array<index, 4>;
    m.def(
        "group_norm_forward",
        [](const Four& shape, const py::array& x, const py::array& mean, const py::array& variance, double epsilon,
           const py::object& gamma, const py::object& beta, const py::array& y, const py::object& residual, bool relu) {
            const Arguments arg("group_norm_forward");
            const GroupNormShape s = group_shape(arg, shape);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", s.size());
                const T* pmean = arg.in_flat<T>(mean, "mean", s.samples * s.groups);
                const T* pvariance = arg.in_flat<T>(variance, "variance", s.samples * s.groups);
                const T* pgamma = arg.optional_in_flat<T>(gamma, "gamma", s.channels);
                const T* pbeta = arg.optional_in_flat<T>(beta, "beta", s.channels);
                T* py = arg.out_flat<T>(y, "y", s.size());
                const T* pr = arg.optional_in_flat<T>(residual, "residual", s.size());
                without_gil([&] { group_norm_forward(s, px, pmean, pvariance, epsilon, pgamma, pbeta, pr, relu, py); });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("mean"), py::arg("variance"), py::arg("epsilon"),
        py::arg("gamma").none(true), py::arg("beta").none(true), py::arg("y"), py::arg("residual").none(true) = py::none(),
        py::arg("relu") = false);
    m.def(
        "group_norm_train",
        [](const Four& shape, const py::array& x, const py::object& mask, const py::array& statistics, double epsilon,
           const py::object& gamma, const py::object& beta, const py::array& y, const py::object& residual, bool relu,
           const py::object& moving_mean, const py::object& moving_variance, double momentum) {
            const Arguments arg("group_norm_train");
            const GroupNormShape s = group_shape(arg, shape);
            const index count = s.samples * s.groups;
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", s.size());
                const auto* pm = arg.optional_in_flat<std::uint8_t>(mask, "mask", s.samples * s.rows);
                T* pmean = arg.out_flat<T>(statistics, "statistics", 2 * count);
                T* pvariance = pmean + count;
                const T* pgamma = arg.optional_in_flat<T>(gamma, "gamma", s.channels);
                const T* pbeta = arg.optional_in_flat<T>(beta, "beta", s.channels);
                T* py = arg.out_flat<T>(y, "y", s.size());
                const T* pr = arg.optional_in_flat<T>(residual, "residual", s.size());
                T* pmoving_mean = arg.optional_out_flat<T>(moving_mean, "moving_mean", count);
                T* pmoving_variance = arg.optional_out_flat<T>(moving_variance, "moving_variance", count);
                without_gil([&] {
                    group_norm_moments(s, px, pm, pmean, pvariance);
                    if (pmoving_mean) moving_average_update(count, pmoving_mean, pmean, momentum);
                    if (pmoving_variance) moving_average_update(count, pmoving_variance, pvariance, momentum);
                    group_norm_forward(s, px, pmean, pvariance, epsilon, pgamma, pbeta, pr, relu, py);
                });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("mask").none(true), py::arg("statistics"), py::arg("epsilon"),
        py::arg("gamma").none(true), py::arg("beta").none(true), py::arg("y"), py::arg("residual").none(true) = py::none(),
        py::arg("relu") = false, py::arg("moving_mean").none(true) = py::none(),
        py::arg("moving_variance").none(true) = py::none(), py::arg("momentum") = 1.0);
    m.def(
        "group_norm_backward",
        [](const Four& shape, const py::array& x, const py::object& mask, const py::array& mean,
           const py::array& variance, double epsilon, const py::object& gamma, const py::array& dy, bool constant,
           const py::object& dx, const py::object& dgamma, const py::object& dbeta, const py::object& y) {
            const Arguments arg("group_norm_backward");
            const GroupNormShape s = group_shape(arg, shape);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", s.size());
                const auto* pm = arg.optional_in_flat<std::uint8_t>(mask, "mask", s.samples * s.rows);
                const T* pmean = arg.in_flat<T>(mean, "mean", s.samples * s.groups);
                const T* pvariance = arg.in_flat<T>(variance, "variance", s.samples * s.groups);
                const T* pgamma = arg.optional_in_flat<T>(gamma, "gamma", s.channels);
                const T* py = arg.optional_in_flat<T>(y, "y", s.size());
                // written to only behind a ReLU
                T* pdy = py ? arg.out_flat<T>(dy, "dy", s.size()) : const_cast<T*>(arg.in_flat<T>(dy, "dy", s.size()));
                T* pdx = arg.optional_out_flat<T>(dx, "dx", s.size());
                T* pdgamma = arg.optional_out_flat<T>(dgamma, "dgamma", s.channels);
                T* pdbeta = arg.optional_out_flat<T>(dbeta, "dbeta", s.channels);
                without_gil([&] {
                    group_norm_backward(s, px, pm, pmean, pvariance, epsilon, pgamma, py, pdy, constant, pdx, pdgamma,
                                        pdbeta);
                });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("mask").none(true), py::arg("mean"), py::arg("variance"),
        py::arg("epsilon"), py::arg("gamma").none(true), py::arg("dy"), py::arg("constant"), py::arg("dx").none(true),
        py::arg("dgamma").none(true), py::arg("dbeta").none(true), py::arg("y").none(true) = py::none());
}

// x is (rows, columns), or any shape of as many elements.
index rows_of(const Arguments& arg, const py::array& x, index columns) {
    if (columns < 1) arg.fail("columns", "must be at least 1", std::to_string(columns));
    return x.size() / columns;
}

void bind_row_norm(py::module_& m) {
    m.def(
        "row_norm_forward",
        [](const std::string& kind, index columns, const py::array& x, const py::object& gamma, const py::object& beta,
           double epsilon, const py::array& y, const py::object& statistics) {
            const Arguments arg("row_norm_forward");
            const RowNorm norm = row_norm_named(arg, kind);
            const index rows = rows_of(arg, x, columns);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", rows * columns);
                const T* pgamma = arg.optional_in_flat<T>(gamma, "gamma", columns);
                const T* pbeta = arg.optional_in_flat<T>(beta, "beta", columns);
                T* py = arg.out_flat<T>(y, "y", rows * columns);
                T* pmean = arg.optional_out<T>(statistics, "statistics", {2, rows});
                T* pscale = pmean ? pmean + rows : nullptr;
                without_gil(
                    [&] { row_norm_forward(norm, rows, columns, px, pgamma, pbeta, epsilon, py, pmean, pscale); });
            });
        },
        py::arg("kind"), py::arg("columns"), py::arg("x"), py::arg("gamma").none(true), py::arg("beta").none(true),
        py::arg("epsilon"), py::arg("y"), py::arg("statistics").none(true));
    m.def(
        "row_norm_backward",
        [](const std::string& kind, index columns, const py::array& x, const py::object& gamma,
           const py::array& statistics, const py::array& dy, const py::object& dx, const py::object& dgamma,
           const py::object& dbeta) {
            const Arguments arg("row_norm_backward");
            const RowNorm norm = row_norm_named(arg, kind);
            const index rows = rows_of(arg, x, columns);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", rows * columns);
                const T* pgamma = arg.optional_in_flat<T>(gamma, "gamma", columns);
                const T* pmean = arg.in<T>(statistics, "statistics", {2, rows});
                const T* pscale = pmean + rows;
                const T* pdy = arg.in_flat<T>(dy, "dy", rows * columns);
                T* pdx = arg.optional_out_flat<T>(dx, "dx", rows * columns);
                T* pdgamma = arg.optional_out_flat<T>(dgamma, "dgamma", columns);
                T* pdbeta = arg.optional_out_flat<T>(dbeta, "dbeta", columns);
                without_gil([&] {
                    row_norm_backward(norm, rows, columns, px, pgamma, pmean, pscale, pdy, pdx, pdgamma, pdbeta);
                });
            });
        },
        py::arg("kind"), py::arg("columns"), py::arg("x"), py::arg("gamma").none(true), py::arg("statistics"), py::arg("dy"),
        py::arg("dx").none(true), py::arg("dgamma").none(true), py::arg("dbeta").none(true));
}

}  // namespace

void bind_normalization(py::module_& m) {
    bind_group_norm(m);
    bind_row_norm(m);
}

}  // namespace vivace::bindings
