#include "vivace/elementwise.h"

#include "arrays.h"
#include "vivace/noise.h"

namespace vivace::bindings {
namespace {

// forward(x, y) and backward(y, dy, dx), over the last axis.
template <class Forward, class Backward>
void bind_over_rows(py::module_& m, const char* forward_name, Forward forward, const char* backward_name,
                    Backward backward) {
    m.def(
        forward_name,
        [=](const py::array& x, const py::array& y) {
            const Arguments arg(forward_name);
            const index columns = arg.columns(x, "x");
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", x.size());
                T* py = arg.out_flat<T>(y, "y", x.size());
                if (x.size() > 0) without_gil([&] { forward(x.size() / columns, columns, px, py); });
            });
        },
        py::arg("x"), py::arg("y"));
    m.def(
        backward_name,
        [=](const py::array& y, const py::array& dy, const py::array& dx) {
            const Arguments arg(backward_name);
            const index columns = arg.columns(y, "y");
            arg.for_dtype(y, "y", [&](auto zero) {
                using T = decltype(zero);
                const T* py = arg.in_flat<T>(y, "y", y.size());
                const T* pdy = arg.in_flat<T>(dy, "dy", y.size());
                T* pdx = arg.out_flat<T>(dx, "dx", y.size());
                if (y.size() > 0) without_gil([&] { backward(y.size() / columns, columns, py, pdy, pdx); });
            });
        },
        py::arg("y"), py::arg("dy"), py::arg("dx"));
}

struct Rate {
    static constexpr auto name = "rate", rule = "must lie in [0, 1]";
    static bool allows(double v) { return v >= 0 && v <= 1; }
};
struct RateBelowOne {
    static constexpr auto name = "rate", rule = "must lie in [0, 1)";
    static bool allows(double v) { return v >= 0 && v < 1; }
};
struct Deviation {
    static constexpr auto name = "deviation", rule = "must not be negative";
    static bool allows(double v) { return v >= 0; }
};

// f(x, amount, seed, stream, y), element by element.
template <class Amount, class F>
void bind_random(py::module_& m, const char* name, F f) {
    m.def(
        name,
        [=](const py::array& x, double amount, std::uint64_t seed, std::uint64_t stream, const py::array& y) {
            const Arguments arg(name);
            if (!Amount::allows(amount)) arg.fail(Amount::name, Amount::rule, std::to_string(amount));
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", x.size());
                T* py = arg.out_flat<T>(y, "y", x.size());
                without_gil([&] { f(x.size(), px, amount, seed, stream, py); });
            });
        },
        py::arg("x"), py::arg(Amount::name), py::arg("seed"), py::arg("stream"), py::arg("y"));
}

// f(x, a, b, y): x's channels are as many elements as a and b, unless that is None, have, each followed by `inner` elements.
template <class F>
void bind_channels(py::module_& m, const char* name, const char* a_name, const char* b_name, F f) {
    m.def(
        name,
        [=](const py::array& x, const py::array& a, const py::object& b, index inner, const py::array& y) {
            const Arguments arg(name);
            const index channels = a.size(), block = channels * inner;
            if (inner < 1 || (block == 0 ? x.size() > 0 : x.size() % block != 0))
                arg.fail("inner", "must divide x into the channels of " + std::string(a_name), std::to_string(inner));
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", x.size());
                const T* pa = arg.in_flat<T>(a, a_name, channels);
                const T* pb = arg.optional_in_flat<T>(b, b_name, channels);
                T* py = arg.out_flat<T>(y, "y", x.size());
                if (x.size() > 0) without_gil([&] { f(x.size() / block, channels, inner, px, pa, pb, py); });
            });
        },
        py::arg("x"), py::arg(a_name), py::arg(b_name).none(true), py::arg("inner"), py::arg("y"));
}

}  // namespace

void bind_elementwise(py::module_& m) {
    m.def(
        "activation_forward",
        [](const std::string& activation, const py::array& x, const py::array& y) {
            const Arguments arg("activation_forward");
            const Activation act = activation_named("activation_forward", activation);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const index size = x.size();
                const T* px = arg.in_flat<T>(x, "x", size);
                T* py = arg.out_flat<T>(y, "y", size);
                without_gil([&] { activation_forward(act, size, px, py); });
            });
        },
        py::arg("activation"), py::arg("x"), py::arg("y"));
    m.def(
        "activation_backward",
        [](const std::string& activation, const py::array& y, const py::array& dy, const py::array& dx) {
            const Arguments arg("activation_backward");
            const Activation act = activation_named("activation_backward", activation);
            arg.for_dtype(y, "y", [&](auto zero) {
                using T = decltype(zero);
                const index size = y.size();
                const T* py = arg.in_flat<T>(y, "y", size);
                const T* pdy = arg.in_flat<T>(dy, "dy", size);
                T* pdx = arg.out_flat<T>(dx, "dx", size);
                without_gil([&] { activation_backward(act, size, py, pdy, pdx); });
            });
        },
        py::arg("activation"), py::arg("y"), py::arg("dy"), py::arg("dx"));
    bind_over_rows(
        m, "softmax_forward", [](auto... a) { softmax_forward(a...); }, "softmax_backward",
        [](auto... a) { softmax_backward(a...); });
    bind_over_rows(
        m, "log_softmax_forward", [](auto... a) { log_softmax_forward(a...); }, "log_softmax_backward",
        [](auto... a) { log_softmax_backward(a...); });
    bind_random<Rate>(m, "dropout", [](auto... a) { dropout(a...); });
    bind_random<Deviation>(m, "add_noise", [](auto... a) { add_noise(a...); });
    bind_random<Deviation>(m, "multiply_noise", [](auto... a) { multiply_noise(a...); });
    bind_random<RateBelowOne>(m, "alpha_dropout_forward", [](auto... a) { alpha_dropout_forward(a...); });
    bind_random<RateBelowOne>(m, "alpha_dropout_backward", [](auto... a) { alpha_dropout_backward(a...); });
    m.def(
        "spatial_dropout",
        [](const py::array& x, bool channels_first, double rate, std::uint64_t seed, std::uint64_t stream, const py::array& y) {
            const Arguments arg("spatial_dropout");
            if (!Rate::allows(rate)) arg.fail(Rate::name, Rate::rule, std::to_string(rate));
            const index channels = arg.columns(x, "x"), rank = x.ndim();
            if (rank < 2) arg.fail("x", "must have a batch and channels", "rank " + std::to_string(rank));
            const index outer = x.shape(0) * (channels_first ? x.shape(1) : 1), inner = channels_first ? 1 : channels;
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", x.size());
                T* py = arg.out_flat<T>(y, "y", x.size());
                if (x.size() == 0) return;
                without_gil([&] { spatial_dropout(outer, x.size() / (outer * inner), inner, px, rate, seed, stream, py); });
            });
        },
        py::arg("x"), py::arg("channels_first"), py::arg("rate"), py::arg("seed"), py::arg("stream"), py::arg("y"));
    bind_channels(m, "scale_channels", "scale", "offset", [](auto... a) { scale_channels(a...); });
    bind_channels(m, "standardize_channels", "deviation", "mean", [](auto... a) { standardize_channels(a...); });
    m.def(
        "penalty",
        [](const py::array& x, double l1, double l2) {
            const Arguments arg("penalty");
            double sum = 0;
            arg.for_dtype(x, "x", [&](auto zero) {
                const auto* px = arg.in_flat<decltype(zero)>(x, "x", x.size());
                without_gil([&] { sum = penalty(x.size(), px, l1, l2); });
            });
            return sum;
        },
        py::arg("x"), py::arg("l1"), py::arg("l2"));
    m.def(
        "add_penalty_gradient",
        [](const py::array& x, double l1, double l2, const py::array& dx) {
            const Arguments arg("add_penalty_gradient");
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", x.size());
                T* pdx = arg.out_flat<T>(dx, "dx", x.size());
                without_gil([&] { add_penalty_gradient(x.size(), px, l1, l2, pdx); });
            });
        },
        py::arg("x"), py::arg("l1"), py::arg("l2"), py::arg("dx"));
    m.def(
        "gather_rows",
        [](const py::array& source, const py::array& rows, const py::array& out, const py::object& nonzero) {
            const Arguments arg("gather_rows");
            if (source.ndim() < 1 || !is_dense(source))
                throw py::type_error("gather_rows: source must be a C-contiguous array of at least one axis");
            const bool bytes = py::isinstance<py::array_t<std::uint8_t>>(source) && py::isinstance<py::array_t<float>>(out);
            if (!bytes && !source.dtype().is(out.dtype()) && !source.dtype().equal(out.dtype()))
                throw py::type_error("gather_rows: out must be " + dtype_name(source) +
                                     " like source (or float32 for uint8), received " + dtype_name(out));
            if (!is_dense(out) || !out.writeable())
                throw py::type_error("gather_rows: out must be C-contiguous and writable");
            const index count = rows.size(), height = source.shape(0);
            const index row_size = height ? source.size() / height : 0;
            if (out.ndim() != rows.ndim() + source.ndim() - 1 || out.size() != count * row_size ||
                !std::equal(rows.shape(), rows.shape() + rows.ndim(), out.shape()))
                arg.fail("out", "must have one row like source's for each entry of rows",
                         "shape " + tuple_text(out.shape(), static_cast<std::size_t>(out.ndim())));
            const std::int64_t* numbers = arg.in_flat<std::int64_t>(rows, "rows", count);
            std::uint8_t* marks = arg.optional_out_flat<std::uint8_t>(nonzero, "nonzero", count);
            for (index i = 0; i < count; ++i)
                if (numbers[i] < 0 || numbers[i] >= height)
                    throw py::index_error("gather_rows: row " + std::to_string(numbers[i]) +
                                          " is outside a source of " + std::to_string(height) + " rows");
            const void* from = source.data();
            void* to = const_cast<void*>(out.data());
            without_gil([&] {
                for (index i = 0; marks && i < count; ++i) marks[i] = numbers[i] != 0;
                if (bytes)
                    gather_bytes(count, row_size, static_cast<const std::uint8_t*>(from), numbers, static_cast<float*>(to));
                else
                    gather_rows(count, row_size * source.itemsize(), from, numbers, to);
            });
        },
        py::arg("source"), py::arg("rows"), py::arg("out"), py::arg("nonzero").none(true) = py::none());
    m.def(
        "mask_rows",
        [](const py::array& x, double value, const py::array& mask, const py::object& y) {
            const Arguments arg("mask_rows");
            const index columns = arg.columns(x, "x"), rows = mask.size();
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in_flat<T>(x, "x", rows * columns);
                std::uint8_t* marks = arg.out_flat<std::uint8_t>(mask, "mask", rows);
                T* py = arg.optional_out_flat<T>(y, "y", x.size());
                without_gil([&] { mask_rows(rows, columns, px, static_cast<T>(value), py, marks); });
            });
        },
        py::arg("x"), py::arg("value"), py::arg("mask"), py::arg("y").none(true));
    m.def(
        "clear_masked_rows",
        [](const py::array& mask, const py::array& x) {
            const Arguments arg("clear_masked_rows");
            const index columns = arg.columns(x, "x"), rows = mask.size();
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const std::uint8_t* marks = arg.in_flat<std::uint8_t>(mask, "mask", rows);
                T* px = arg.out_flat<T>(x, "x", rows * columns);
                without_gil([&] { clear_masked_rows(rows, columns, marks, px); });
            });
        },
        py::arg("mask"), py::arg("x"));
    m.def(
        "scatter_add_rows",
        [](const py::array& dy, const py::array& rows, const py::array& table) {
            const Arguments arg("scatter_add_rows");
            const index height = arg.size(table, "table", 2, 0), columns = arg.size(table, "table", 2, 1);
            const std::int64_t* numbers = arg.in_flat<std::int64_t>(rows, "rows", rows.size());
            for (index i = 0; i < rows.size(); ++i)
                if (numbers[i] < 0 || numbers[i] >= height)
                    throw py::index_error("scatter_add_rows: row " + std::to_string(numbers[i]) +
                                          " is outside a table of " + std::to_string(height) + " rows");
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const T* in = arg.in_flat<T>(dy, "dy", rows.size() * columns);
                T* out = arg.out<T>(table, "table", {height, columns});
                without_gil([&] { scatter_add_rows(rows.size(), columns, in, numbers, out); });
            });
        },
        py::arg("dy"), py::arg("rows"), py::arg("table"));
}

}  // namespace vivace::bindings
