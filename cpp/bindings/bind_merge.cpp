#include "vivace/merge.h"

#include <vector>

#include "arrays.h"

namespace vivace::bindings {
namespace {

Merge merge_named(const Arguments& arg, const std::string& name) {
    if (name == "add") return Merge::add;
    if (name == "subtract") return Merge::subtract;
    if (name == "multiply") return Merge::multiply;
    if (name == "average") return Merge::average;
    if (name == "maximum") return Merge::maximum;
    if (name == "minimum") return Merge::minimum;
    arg.fail("merge", "must be add, subtract, multiply, average, maximum or minimum", name);
}

py::array item(const Arguments& arg, const py::list& arrays, std::size_t i, const char* name) {
    return arg.array(py::reinterpret_borrow<py::object>(PyList_GET_ITEM(arrays.ptr(), static_cast<Py_ssize_t>(i))), name);
}

// The pointers of a list of arrays; size(array) says how many elements each must have.
template <class T, class Size>
std::vector<const T*> in_all(const Arguments& arg, const py::list& arrays, const char* name, Size&& size) {
    std::vector<const T*> pointers(arrays.size());
    for (std::size_t i = 0; i < pointers.size(); ++i) {
        const py::array array = item(arg, arrays, i, name);
        pointers[i] = arg.in_flat<T>(array, name, size(i, array));
    }
    return pointers;
}

template <class T, class Size>
std::vector<T*> out_all(const Arguments& arg, const py::list& arrays, const char* name, Size&& size) {
    std::vector<T*> pointers(arrays.size());
    for (std::size_t i = 0; i < pointers.size(); ++i) {
        const py::array array = item(arg, arrays, i, name);
        pointers[i] = arg.out_flat<T>(array, name, size(i, array));
    }
    return pointers;
}

void bind_element_wise(py::module_& m) {
    m.def(
        "merge_forward",
        [](const std::string& merge, const py::list& x, const py::array& y) {
            const Arguments arg("merge_forward");
            const Merge operation = merge_named(arg, merge);
            if (x.empty()) arg.fail("x", "must have at least one array", "none");
            arg.for_dtype(y, "y", [&](auto zero) {
                using T = decltype(zero);
                const auto px = in_all<T>(arg, x, "x", [&](std::size_t, const py::array&) { return y.size(); });
                T* py = arg.out_flat<T>(y, "y", y.size());
                without_gil([&] { merge_forward(operation, static_cast<index>(px.size()), y.size(), px.data(), py); });
            });
        },
        py::arg("merge"), py::arg("x"), py::arg("y"));
    m.def(
        "merge_backward",
        [](const std::string& merge, const py::list& x, const py::array& dy, const py::list& dx) {
            const Arguments arg("merge_backward");
            const Merge operation = merge_named(arg, merge);
            if (x.empty() || dx.size() != x.size())
                arg.fail("dx", "must have as many arrays as x, at least one", std::to_string(dx.size()));
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const auto size = [&](std::size_t, const py::array&) { return dy.size(); };
                const auto px = in_all<T>(arg, x, "x", size);
                const auto pdx = out_all<T>(arg, dx, "dx", size);
                const T* pdy = arg.in_flat<T>(dy, "dy", dy.size());
                const index count = static_cast<index>(px.size());
                without_gil([&] { merge_backward(operation, count, dy.size(), px.data(), pdy, pdx.data()); });
            });
        },
        py::arg("merge"), py::arg("x"), py::arg("dy"), py::arg("dx"));
}

void bind_joining(py::module_& m) {
    // Calls f(T{}, columns of each part) for parts that are joined to `whole`.
    const auto checked = [](const Arguments& arg, index rows, const py::list& parts, const py::array& whole, auto&& f) {
        if (rows < 1) arg.fail("rows", "must be at least 1", std::to_string(rows));
        std::vector<index> columns(parts.size());
        index sum = 0;
        for (std::size_t i = 0; i < columns.size(); ++i) sum += columns[i] = item(arg, parts, i, "parts").size() / rows;
        if (sum * rows != whole.size())
            arg.fail("whole", "must have the " + std::to_string(sum * rows) + " elements of all parts", std::to_string(whole.size()));
        arg.for_dtype(whole, "whole", [&](auto zero) { f(zero, columns, static_cast<index>(columns.size())); });
    };
    m.def(
        "concatenate",
        [checked](index rows, const py::list& parts, const py::array& whole) {
            const Arguments arg("concatenate");
            checked(arg, rows, parts, whole, [&](auto zero, const std::vector<index>& columns, index count) {
                using T = decltype(zero);
                const auto from = in_all<T>(arg, parts, "parts", [&](std::size_t i, const py::array&) { return rows * columns[i]; });
                T* to = arg.out_flat<T>(whole, "whole", whole.size());
                without_gil([&] { concatenate(rows, count, columns.data(), from.data(), to); });
            });
        },
        py::arg("rows"), py::arg("parts"), py::arg("whole"));
    m.def(
        "split",
        [checked](index rows, const py::array& whole, const py::list& parts) {
            const Arguments arg("split");
            checked(arg, rows, parts, whole, [&](auto zero, const std::vector<index>& columns, index count) {
                using T = decltype(zero);
                const auto to = out_all<T>(arg, parts, "parts", [&](std::size_t i, const py::array&) { return rows * columns[i]; });
                const T* from = arg.in_flat<T>(whole, "whole", whole.size());
                without_gil([&] { split(rows, count, columns.data(), from, to.data()); });
            });
        },
        py::arg("rows"), py::arg("whole"), py::arg("parts"));
}

}  // namespace

void bind_merge(py::module_& m) {
    bind_element_wise(m);
    bind_joining(m);
}

}  // namespace vivace::bindings
