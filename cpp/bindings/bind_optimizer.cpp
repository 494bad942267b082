#include "vivace/optimizer.h"

#include "arrays.h"

namespace vivace::bindings {

void bind_optimizer(py::module_& m) {
    m.def(
        "sgd_update",
        [](const py::array& weights, const py::array& gradients, const py::object& velocity, double learning_rate,
           double momentum, bool nesterov) {
            const Arguments arg("sgd_update");
            const index size = arg.size(weights, "weights", 1, 0);
            if (momentum != 0 && velocity.is_none()) arg.fail("velocity", "is needed with momentum", "None");
            arg.for_dtype(weights, "weights", [&](auto zero) {
                using T = decltype(zero);
                T* w = arg.out<T>(weights, "weights", {size});
                T* g = arg.out<T>(gradients, "gradients", {size});
                T* v = arg.optional_out<T>(velocity, "velocity", {size});
                without_gil([&] { sgd_update(size, w, g, v, learning_rate, momentum, nesterov); });
            });
        },
        py::arg("weights"), py::arg("gradients"), py::arg("velocity").none(true), py::arg("learning_rate"),
        py::arg("momentum"), py::arg("nesterov"));
    m.def(
        "adam_update",
        [](const py::array& weights, const py::array& gradients, const std::pair<py::array, py::array>& moments,
           double learning_rate, const std::tuple<double, double, double>& settings, std::int64_t step) {
            const Arguments arg("adam_update");
            const auto [beta_1, beta_2, epsilon] = settings;
            const index size = arg.size(weights, "weights", 1, 0);
            if (step < 1) arg.fail("step", "must count from 1", std::to_string(step));
            arg.for_dtype(weights, "weights", [&](auto zero) {
                using T = decltype(zero);
                T* w = arg.out<T>(weights, "weights", {size});
                T* g = arg.out<T>(gradients, "gradients", {size});
                T* m1 = arg.out<T>(moments.first, "m", {size});
                T* m2 = arg.out<T>(moments.second, "v", {size});
                without_gil([&, beta_1 = beta_1, beta_2 = beta_2, epsilon = epsilon] {
                    adam_update(size, w, g, m1, m2, learning_rate, beta_1, beta_2, epsilon, step);
                });
            });
        },
        py::arg("weights"), py::arg("gradients"), py::arg("moments"), py::arg("learning_rate"), py::arg("settings"),
        py::arg("step"));
    m.def(
        "moving_average_update",
        [](const py::array& average, const py::array& value, double momentum) {
            const Arguments arg("moving_average_update");
            arg.for_dtype(average, "average", [&](auto zero) {
                using T = decltype(zero);
                T* a = arg.out_flat<T>(average, "average", average.size());
                const T* v = arg.in_flat<T>(value, "value", average.size());
                without_gil([&] { moving_average_update(average.size(), a, v, momentum); });
            });
        },
        py::arg("average"), py::arg("value"), py::arg("momentum"));
}

}  // namespace vivace::bindings
