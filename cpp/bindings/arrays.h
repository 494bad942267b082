// From NumPy arrays to checked pointers. The only place where a call's arguments are judged.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <initializer_list>
#include <string>

#include "vivace/activations.h"

namespace vivace::bindings {

namespace py = pybind11;

inline std::string tuple_text(const index* values, std::size_t size) {
    std::string text = "(";
    for (std::size_t i = 0; i < size; ++i) text += (i ? ", " : "") + std::to_string(values[i]);
    return text + (size == 1 ? ",)" : ")");
}

inline std::string dtype_name(const py::array& a) { return py::str(a.dtype()).cast<std::string>(); }

inline bool is_dense(const py::array& a) {
    return (a.flags() & (py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_)) ==
           (py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_);
}

// Whether the array's elements are of type T. NumPy has one object for each native type; to ask it whether another one
// means the same takes as long as everything else that is checked.
template <class T>
bool holds(const py::array& a) {
    static const PyObject* const usual = py::dtype::of<T>().release().ptr();
    return py::detail::array_proxy(a.ptr())->descr == usual || py::isinstance<py::array_t<T>>(a);
}

// The arrays of one call, all of element type T unless said otherwise. Every check throws with the op's name, the
// argument's name, the rule and the value received.
class Arguments {
public:
    explicit Arguments(const char* op) : op_(op) {}

    using Shape = std::initializer_list<index>;

    template <class T>
    const T* in(const py::array& a, const char* name, Shape shape) const {
        check<T>(a, name);
        check_shape(a, name, shape);
        return static_cast<const T*>(a.data());
    }
    template <class T>
    T* out(const py::array& a, const char* name, Shape shape) const {
        check<T>(a, name);
        check_shape(a, name, shape);
        return writable<T>(a, name);
    }
    // Any shape of the given number of elements.
    template <class T>
    const T* in_flat(const py::array& a, const char* name, index size) const {
        check<T>(a, name);
        check_size(a, name, size);
        return static_cast<const T*>(a.data());
    }
    template <class T>
    T* out_flat(const py::array& a, const char* name, index size) const {
        check<T>(a, name);
        check_size(a, name, size);
        return writable<T>(a, name);
    }
    template <class T>
    const T* optional_in(const py::object& a, const char* name, Shape shape) const {
        return a.is_none() ? nullptr : in<T>(array(a, name), name, shape);
    }
    template <class T>
    T* optional_out(const py::object& a, const char* name, Shape shape) const {
        return a.is_none() ? nullptr : out<T>(array(a, name), name, shape);
    }
    template <class T>
    const T* optional_in_flat(const py::object& a, const char* name, index size) const {
        return a.is_none() ? nullptr : in_flat<T>(array(a, name), name, size);
    }
    template <class T>
    T* optional_out_flat(const py::object& a, const char* name, index size) const {
        return a.is_none() ? nullptr : out_flat<T>(array(a, name), name, size);
    }
    // A dimension of an array that must have `rank` of them.
    index size(const py::array& a, const char* name, index rank, index axis) const {
        if (a.ndim() != rank) fail(name, "must have rank " + std::to_string(rank), shape_text(a));
        return a.shape(axis);
    }
    // All axes but the last count as rows.
    index columns(const py::array& a, const char* name) const {
        if (a.ndim() < 1) fail(name, "must have at least one axis", shape_text(a));
        return a.shape(a.ndim() - 1);
    }
    py::array array(const py::object& a, const char* name) const {
        if (!py::isinstance<py::array>(a))
            throw py::type_error(std::string(op_) + ": " + name + " must be a NumPy array or None");
        return py::reinterpret_borrow<py::array>(a);
    }
    [[noreturn]] void fail(const char* name, const std::string& rule, const std::string& received) const {
        throw py::value_error(std::string(op_) + ": " + name + " " + rule + ", received " + received);
    }

    // Calls f(T{}) for the dtype of `a`.
    template <class F>
    void for_dtype(const py::array& a, const char* name, F&& f) const {
        if (holds<float>(a))
            f(float{});
        else if (holds<double>(a))
            f(double{});
        else
            throw py::type_error(std::string(op_) + ": " + name + " must be float32 or float64, received " +
                                 dtype_name(a));
    }

private:
    static std::string shape_text(const py::array& a) {
        return "shape " + tuple_text(a.shape(), static_cast<std::size_t>(a.ndim()));
    }
    template <class T>
    void check(const py::array& a, const char* name) const {
        if (!holds<T>(a))
            throw py::type_error(std::string(op_) + ": " + name + " must be " +
                                 py::str(py::dtype::of<T>()).template cast<std::string>() + ", received " +
                                 dtype_name(a));
        if (!is_dense(a))
            throw py::type_error(std::string(op_) + ": " + name + " must be C-contiguous and aligned, received " +
                                 shape_text(a) + " with other strides");
    }
    void check_shape(const py::array& a, const char* name, Shape shape) const {
        if (a.ndim() == static_cast<index>(shape.size()) && std::equal(shape.begin(), shape.end(), a.shape())) return;
        if (same_but_for_ones(a, shape)) return;
        fail(name, "must have shape " + tuple_text(shape.begin(), shape.size()), shape_text(a));
    }
    // Axes of size 1 move no element: a sequence (n, w, c) may stand for the image (n, 1, w, c) that it is.
    static bool same_but_for_ones(const py::array& a, Shape shape) {
        const index *own = a.shape(), *end = own + a.ndim();
        for (const index size : shape) {
            if (size == 1) continue;
            while (own != end && *own == 1) ++own;
            if (own == end || *own++ != size) return false;
        }
        return std::all_of(own, end, [](index size) { return size == 1; });
    }
    void check_size(const py::array& a, const char* name, index size) const {
        if (a.size() != size) fail(name, "must have " + std::to_string(size) + " elements", shape_text(a));
    }
    template <class T>
    T* writable(const py::array& a, const char* name) const {
        if (!a.writeable()) throw py::type_error(std::string(op_) + ": " + name + " must be writable");
        return static_cast<T*>(const_cast<void*>(a.data()));
    }

    const char* op_;
};

// Runs a kernel without the GIL: it touches only memory that the caller's arrays keep alive.
template <class F>
void without_gil(F&& f) {
    py::gil_scoped_release release;
    f();
}

inline Activation activation_named(const char* op, const std::string& name) {
    if (name == "linear") return Activation::linear;
    if (name == "relu") return Activation::relu;
    if (name == "sigmoid") return Activation::sigmoid;
    if (name == "tanh") return Activation::tanh;
    throw py::value_error(std::string(op) + ": activation must be linear, relu, sigmoid or tanh, received " + name);
}

Function function_named(const Arguments& arg, const std::string& name);

void bind_conv2d(py::module_& m);
void bind_conv3d(py::module_& m);
void bind_pool2d(py::module_& m);
void bind_gemm(py::module_& m);
void bind_einsum(py::module_& m);
void bind_elementwise(py::module_& m);
void bind_activations(py::module_& m);
void bind_images(py::module_& m);
void bind_resample(py::module_& m);
void bind_loss(py::module_& m);
void bind_merge(py::module_& m);
void bind_optimizer(py::module_& m);
void bind_rnn(py::module_& m);
void bind_attention(py::module_& m);
void bind_normalization(py::module_& m);
void bind_depthwise2d(py::module_& m);

}  // namespace vivace::bindings
