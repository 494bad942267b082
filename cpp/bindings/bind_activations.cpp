#include "vivace/activations.h"

#include <algorithm>

#include "arrays.h"

namespace vivace::bindings {
namespace {

// In the order of the enumeration.
constexpr const char* function_names[] = {
    "leaky_relu", "elu",         "clip",      "gelu",       "gelu_tanh",   "silu",        "mish",        "softplus", "softsign",
    "exponential", "hard_silu", "squareplus", "soft_shrink", "hard_shrink", "tanh_shrink", "sparse_plus", "threshold"};

index rows_of(const Arguments& arg, const py::array& x, const py::array& alpha) {
    if (alpha.size() == 0 || x.size() % alpha.size())
        arg.fail("x", "must hold whole rows of alpha's " + std::to_string(alpha.size()) + " elements",
                 std::to_string(x.size()) + " elements");
    return x.size() / alpha.size();
}

}  // namespace

Function function_named(const Arguments& arg, const std::string& name) {
    const auto* found = std::find(std::begin(function_names), std::end(function_names), name);
    if (found == std::end(function_names)) arg.fail("function", "must be one of those in activations.h", name);
    return static_cast<Function>(found - std::begin(function_names));
}

void bind_activations(py::module_& m) {
    m.def(
        "function_forward",
        [](const std::string& function, const py::array& x, const py::array& y, double a, double b, double c) {
            const Arguments arg("function_forward");
            const Function f = function_named(arg, function);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", x.size());
                T* py = arg.out_flat<T>(y, "y", x.size());
                without_gil([&] { function_forward(f, {a, b, c}, x.size(), px, py); });
            });
        },
        py::arg("function"), py::arg("x"), py::arg("y"), py::arg("a") = 0, py::arg("b") = 0, py::arg("c") = 0);
    m.def(
        "function_backward",
        [](const std::string& function, const py::array& x, const py::array& y, const py::array& dy,
           const py::array& dx, double a, double b, double c) {
            const Arguments arg("function_backward");
            const Function f = function_named(arg, function);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", x.size());
                const T* py = arg.in_flat<T>(y, "y", x.size());
                const T* pdy = arg.in_flat<T>(dy, "dy", x.size());
                T* pdx = arg.out_flat<T>(dx, "dx", x.size());
                without_gil([&] { function_backward(f, {a, b, c}, x.size(), px, py, pdy, pdx); });
            });
        },
        py::arg("function"), py::arg("x"), py::arg("y"), py::arg("dy"), py::arg("dx"), py::arg("a") = 0,
        py::arg("b") = 0, py::arg("c") = 0);
    m.def(
        "prelu_forward",
        [](const py::array& x, const py::array& alpha, const py::array& y) {
            const Arguments arg("prelu_forward");
            const index columns = alpha.size(), rows = rows_of(arg, x, alpha);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", x.size());
                const T* palpha = arg.in_flat<T>(alpha, "alpha", columns);
                T* py = arg.out_flat<T>(y, "y", x.size());
                without_gil([&] { prelu_forward(rows, columns, px, palpha, py); });
            });
        },
        py::arg("x"), py::arg("alpha"), py::arg("y"));
    m.def(
        "prelu_backward",
        [](const py::array& x, const py::array& alpha, const py::array& dy, const py::object& dx,
           const py::array& dalpha) {
            const Arguments arg("prelu_backward");
            const index columns = alpha.size(), rows = rows_of(arg, x, alpha);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", x.size());
                const T* palpha = arg.in_flat<T>(alpha, "alpha", columns);
                const T* pdy = arg.in_flat<T>(dy, "dy", x.size());
                T* pdx = dx.is_none() ? nullptr : arg.out_flat<T>(arg.array(dx, "dx"), "dx", x.size());
                T* pdalpha = arg.out_flat<T>(dalpha, "dalpha", columns);
                without_gil([&] { prelu_backward(rows, columns, px, palpha, pdy, pdx, pdalpha); });
            });
        },
        py::arg("x"), py::arg("alpha"), py::arg("dy"), py::arg("dx").none(true), py::arg("dalpha"));
}

}  // namespace vivace::bindings
