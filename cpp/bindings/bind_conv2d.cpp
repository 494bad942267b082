#include "vivace/conv2d.h"

#include <pybind11/stl.h>

#include <array>

#include "arrays.h"
#include "vivace/conv2d_pool.h"
#include "vivace/reference.h"

namespace vivace::bindings {
namespace {

using Four = std::array<index, 4>;
using Two = std::array<index, 2>;

Conv2DShape make_shape(const Four& input, const Four& kernel, const Two& strides, const Four& padding,
                       const Two& dilation, index groups) {
    index in[4], k[4], st[2], pad[4], dil[2];
    std::copy(input.begin(), input.end(), in);
    std::copy(kernel.begin(), kernel.end(), k);
    std::copy(strides.begin(), strides.end(), st);
    std::copy(padding.begin(), padding.end(), pad);
    std::copy(dilation.begin(), dilation.end(), dil);
    return conv2d_shape(in, k, st, pad, dil, groups);
}

// One implementation of the three directions: ours, im2col or the reference.
template <class T>
struct Implementation {
    void (*forward)(const Conv2DShape&, const T*, const T*, const T*, Activation, T*);
    void (*input_gradient)(const Conv2DShape&, const T*, const T*, T*);
    void (*weight_gradient)(const Conv2DShape&, const T*, const T*, T*, T*);
};

struct Implementations {
    Implementation<float> f32;
    Implementation<double> f64;
    template <class T>
    const Implementation<T>& of() const {
        if constexpr (std::is_same_v<T, float>)
            return f32;
        else
            return f64;
    }
};

void bind_forward(py::module_& m, const Implementations& implementations) {
    m.def(
        "conv2d_forward",
        [implementations](const Conv2DShape& s, const py::array& x, const py::array& kernel, const py::object& bias,
                          const py::array& y, const std::string& activation) {
            const Arguments arg("conv2d_forward");
            const Activation act = activation_named("conv2d_forward", activation);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in<T>(x, "x", {s.n, s.h, s.w, s.c});
                const T* pw = arg.in<T>(kernel, "kernel", {s.kh, s.kw, s.c / s.groups, s.o});
                const T* pb = arg.optional_in<T>(bias, "bias", {s.o});
                T* py = arg.out<T>(y, "y", {s.n, s.p, s.q, s.o});
                without_gil([&] { implementations.of<T>().forward(s, px, pw, pb, act, py); });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("kernel"), py::arg("bias").none(true), py::arg("y"),
        py::arg("activation") = "linear");
}

// Ours also takes the kernel prepared.
void bind_forward(py::module_& m) {
    m.def(
        "conv2d_forward",
        [](const Conv2DShape& s, const py::array& x, const py::array& kernel, const py::object& bias, const py::array& y,
           const std::string& activation, const py::object& form) {
            const Arguments arg("conv2d_forward");
            const Activation act = activation_named("conv2d_forward", activation);
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in<T>(x, "x", {s.n, s.h, s.w, s.c});
                const T* pw = arg.in<T>(kernel, "kernel", {s.kh, s.kw, s.c / s.groups, s.o});
                const T* pb = arg.optional_in<T>(bias, "bias", {s.o});
                const T* pf = nullptr;
                if (!form.is_none()) pf = arg.optional_in<T>(form, "form", {kernel_form_size<T>(s, kernel_form(s))});
                T* py = arg.out<T>(y, "y", {s.n, s.p, s.q, s.o});
                without_gil([&] { conv2d_forward_prepared(s, px, pw, pf, pb, act, py); });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("kernel"), py::arg("bias").none(true), py::arg("y"),
        py::arg("activation") = "linear", py::arg("form") = py::none());
}

KernelForm form_of(const Conv2DShape& s, const Pool2DShape* pool) {
    if (pool) check_conv2d_pool(s, *pool);
    return pool ? kernel_form(s, *pool) : kernel_form(s);
}

void bind_kernel_form(py::module_& m) {
    m.def(
        "kernel_form",
        [](const Conv2DShape& s, const Pool2DShape* pool) {
            constexpr const char *names[] = {"original", "panels", "transformed"}, *sizes[] = {" 4x4", " 4x2", " 2x4", " 2x2"};
            const KernelForm form = form_of(s, pool);
            std::string name = names[form.kind];
            for (int i = 0; i < 4; ++i)
                if (form.tile_sizes >> i & 1) name += sizes[i];
            return name;
        },
        py::arg("shape"), py::arg("pool").none(true) = py::none());
    m.def(
        "kernel_form_size",
        [](const Conv2DShape& s, const Pool2DShape* pool, const py::array& kernel) {
            index size = 0;
            Arguments("kernel_form_size").for_dtype(kernel, "kernel", [&](auto zero) {
                size = kernel_form_size<decltype(zero)>(s, form_of(s, pool));
            });
            return size;
        },
        py::arg("shape"), py::arg("pool").none(true), py::arg("kernel"));
    m.def(
        "prepare_kernel",
        [](const Conv2DShape& s, const Pool2DShape* pool, const py::array& kernel, const py::array& form) {
            const Arguments arg("prepare_kernel");
            arg.for_dtype(kernel, "kernel", [&](auto zero) {
                using T = decltype(zero);
                const KernelForm wanted = form_of(s, pool);
                const T* pw = arg.in<T>(kernel, "kernel", {s.kh, s.kw, s.c / s.groups, s.o});
                T* pf = arg.out<T>(form, "form", {kernel_form_size<T>(s, wanted)});
                without_gil([&] { prepare_kernel(s, wanted, pw, pf); });
            });
        },
        py::arg("shape"), py::arg("pool").none(true), py::arg("kernel"), py::arg("form"));
}

void bind_gradients(py::module_& m, const Implementations& implementations) {
    m.def(
        "conv2d_input_gradient",
        [implementations](const Conv2DShape& s, const py::array& dy, const py::array& kernel, const py::array& dx) {
            const Arguments arg("conv2d_input_gradient");
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const T* pdy = arg.in<T>(dy, "dy", {s.n, s.p, s.q, s.o});
                const T* pw = arg.in<T>(kernel, "kernel", {s.kh, s.kw, s.c / s.groups, s.o});
                T* pdx = arg.out<T>(dx, "dx", {s.n, s.h, s.w, s.c});
                without_gil([&] { implementations.of<T>().input_gradient(s, pdy, pw, pdx); });
            });
        },
        py::arg("shape"), py::arg("dy"), py::arg("kernel"), py::arg("dx"));
    m.def(
        "conv2d_weight_gradient",
        [implementations](const Conv2DShape& s, const py::array& x, const py::array& dy, const py::array& dkernel,
                          const py::object& dbias) {
            const Arguments arg("conv2d_weight_gradient");
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in<T>(x, "x", {s.n, s.h, s.w, s.c});
                const T* pdy = arg.in<T>(dy, "dy", {s.n, s.p, s.q, s.o});
                T* pdw = arg.out<T>(dkernel, "dkernel", {s.kh, s.kw, s.c / s.groups, s.o});
                T* pdb = arg.optional_out<T>(dbias, "dbias", {s.o});
                without_gil([&] { implementations.of<T>().weight_gradient(s, px, pdy, pdw, pdb); });
            });
        },
        py::arg("shape"), py::arg("x"), py::arg("dy"), py::arg("dkernel"), py::arg("dbias").none(true));
}

Direction direction_named(const std::string& name) {
    if (name == "forward") return Direction::forward;
    if (name == "input_gradient") return Direction::input_gradient;
    if (name == "weight_gradient") return Direction::weight_gradient;
    throw std::invalid_argument("direction must be forward, input_gradient or weight_gradient, received " + name);
}

void bind_methods(py::module_& m) {
    m.def(
        "conv2d_method",
        [](const Conv2DShape& s, const std::string& direction) {
            constexpr const char* names[] = {"pointwise", "depthwise", "winograd", "direct"};
            return names[static_cast<int>(conv2d_method(s, direction_named(direction)))];
        },
        py::arg("shape"), py::arg("direction"));
    m.def(
        "conv2d_pool_method",
        [](const Conv2DShape& s, const Pool2DShape& pool, const std::string& direction) {
            constexpr const char* names[] = {"one_channel", "winograd", "direct", "separate", "structured", "dense"};
            check_conv2d_pool(s, pool);
            return names[static_cast<int>(conv2d_pool_method<float>(s, pool, direction_named(direction)))];
        },
        py::arg("shape"), py::arg("pool"), py::arg("direction"));
}

// Convolution, activation and pooling as one op, checked once. No function here takes more than six arguments: for more,
// pybind11 asks malloc for their list in every call.
struct Conv2DPool {
    Conv2DShape conv;
    Pool2DShape pool;
    Activation activation;
};

Conv2DPool make_conv2d_pool(const Conv2DShape& conv, const Pool2DShape& pool, const std::string& name) {
    const Activation activation = activation_named("Conv2DPool", name);
    if (activation != Activation::linear && activation != Activation::relu)
        throw py::value_error("Conv2DPool: activation must be linear or relu, received " + name);
    check_conv2d_pool(conv, pool);
    return {conv, pool, activation};
}

using Winners = std::pair<py::array, py::array>;  // y and positions

void bind_conv2d_pool_forward(py::module_& m) {
    m.def(
        "conv2d_pool_forward",
        [](const Conv2DPool& op, const py::array& x, const py::array& kernel, const py::object& bias, const py::array& y,
           const py::array& positions) {
            const Arguments arg("conv2d_pool_forward");
            const Conv2DShape& s = op.conv;
            const Pool2DShape& pool = op.pool;
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in<T>(x, "x", {s.n, s.h, s.w, s.c});
                const T* pw = arg.in<T>(kernel, "kernel", {s.kh, s.kw, s.c, s.o});
                const T* pb = arg.optional_in<T>(bias, "bias", {s.o});
                T* py = arg.out<T>(y, "y", {s.n, pool.p, pool.q, s.o});
                auto* pp = arg.out<std::uint8_t>(positions, "positions", {s.n, pool.p, pool.q, s.o});
                without_gil([&] { conv2d_pool_forward(s, pool, px, pw, pb, op.activation, py, pp); });
            });
        },
        py::arg("op"), py::arg("x"), py::arg("kernel"), py::arg("bias").none(true), py::arg("y"), py::arg("positions"));
    m.def(
        "conv2d_pool_forward_prepared",
        [](const Conv2DPool& op, const py::array& x, const py::array& kernel, const py::object& form,
           const py::object& bias, const py::array& y) {
            const Arguments arg("conv2d_pool_forward_prepared");
            const Conv2DShape& s = op.conv;
            const Pool2DShape& pool = op.pool;
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in<T>(x, "x", {s.n, s.h, s.w, s.c});
                const T* pw = arg.in<T>(kernel, "kernel", {s.kh, s.kw, s.c, s.o});
                const T* pf = nullptr;
                if (!form.is_none()) pf = arg.optional_in<T>(form, "form", {kernel_form_size<T>(s, kernel_form(s, pool))});
                const T* pb = arg.optional_in<T>(bias, "bias", {s.o});
                T* py = arg.out<T>(y, "y", {s.n, pool.p, pool.q, s.o});
                without_gil([&] { conv2d_pool_forward_prepared(s, pool, px, pw, pf, pb, op.activation, py, nullptr); });
            });
        },
        py::arg("op"), py::arg("x"), py::arg("kernel"), py::arg("form").none(true), py::arg("bias").none(true),
        py::arg("y"));
}

void bind_conv2d_pool_gradients(py::module_& m) {
    m.def(
        "conv2d_pool_input_gradient",
        [](const Conv2DPool& op, const py::array& dy, const Winners& winners, const py::array& kernel,
           const py::array& dx) {
            const Arguments arg("conv2d_pool_input_gradient");
            const Conv2DShape& s = op.conv;
            const Pool2DShape& pool = op.pool;
            arg.for_dtype(dy, "dy", [&](auto zero) {
                using T = decltype(zero);
                const T* pdy = arg.in<T>(dy, "dy", {s.n, pool.p, pool.q, s.o});
                const T* py = arg.in<T>(winners.first, "y", {s.n, pool.p, pool.q, s.o});
                const auto* pp = arg.in<std::uint8_t>(winners.second, "positions", {s.n, pool.p, pool.q, s.o});
                const T* pw = arg.in<T>(kernel, "kernel", {s.kh, s.kw, s.c, s.o});
                T* pdx = arg.out<T>(dx, "dx", {s.n, s.h, s.w, s.c});
                without_gil([&] { conv2d_pool_input_gradient(s, pool, pdy, py, pp, op.activation, pw, pdx); });
            });
        },
        py::arg("op"), py::arg("dy"), py::arg("winners"), py::arg("kernel"), py::arg("dx"));
    m.def(
        "conv2d_pool_weight_gradient",
        [](const Conv2DPool& op, const py::array& x, const py::array& dy, const Winners& winners,
           const py::array& dkernel, const py::object& dbias) {
            const Arguments arg("conv2d_pool_weight_gradient");
            const Conv2DShape& s = op.conv;
            const Pool2DShape& pool = op.pool;
            arg.for_dtype(x, "x", [&](auto zero) {
                using T = decltype(zero);
                const T* px = arg.in<T>(x, "x", {s.n, s.h, s.w, s.c});
                const T* pdy = arg.in<T>(dy, "dy", {s.n, pool.p, pool.q, s.o});
                const T* py = arg.in<T>(winners.first, "y", {s.n, pool.p, pool.q, s.o});
                const auto* pp = arg.in<std::uint8_t>(winners.second, "positions", {s.n, pool.p, pool.q, s.o});
                T* pdw = arg.out<T>(dkernel, "dkernel", {s.kh, s.kw, s.c, s.o});
                T* pdb = arg.optional_out<T>(dbias, "dbias", {s.o});
                without_gil([&] { conv2d_pool_weight_gradient(s, pool, px, pdy, py, pp, op.activation, pdw, pdb); });
            });
        },
        py::arg("op"), py::arg("x"), py::arg("dy"), py::arg("winners"), py::arg("dkernel"), py::arg("dbias").none(true));
}

void bind_conv2d_pool(py::module_& m) {
    py::class_<Conv2DPool>(m, "Conv2DPool", py::module_local())
        .def(py::init(&make_conv2d_pool), py::arg("conv"), py::arg("pool"), py::arg("activation"))
        .def_readonly("conv", &Conv2DPool::conv)
        .def_readonly("pool", &Conv2DPool::pool);
    bind_conv2d_pool_forward(m);
    bind_conv2d_pool_gradients(m);
}

}  // namespace

#define VIVACE_DIRECTIONS(space, T) \
    { space::conv2d_forward<T>, space::conv2d_input_gradient<T>, space::conv2d_weight_gradient<T> }

void bind_conv2d(py::module_& m) {
    // Several levels' modules may live in one process, each with its own types: module_local keeps them apart.
    py::class_<Conv2DShape>(m, "Conv2DShape", py::module_local())
        .def(py::init(&make_shape), py::arg("input"), py::arg("kernel"), py::arg("strides") = Two{1, 1},
             py::arg("padding") = Four{0, 0, 0, 0}, py::arg("dilation") = Two{1, 1}, py::arg("groups") = 1)
        .def_property_readonly("input", [](const Conv2DShape& s) { return py::make_tuple(s.n, s.h, s.w, s.c); })
        .def_property_readonly(
            "kernel", [](const Conv2DShape& s) { return py::make_tuple(s.kh, s.kw, s.c / s.groups, s.o); })
        .def_property_readonly("output", [](const Conv2DShape& s) { return py::make_tuple(s.n, s.p, s.q, s.o); })
        .def_property_readonly("flops", &Conv2DShape::flops);
    bind_forward(m);
    bind_kernel_form(m);
    bind_gradients(m, {VIVACE_DIRECTIONS(vivace, float), VIVACE_DIRECTIONS(vivace, double)});
    const Implementations textbook{VIVACE_DIRECTIONS(im2col, float), VIVACE_DIRECTIONS(im2col, double)};
    const Implementations naive{VIVACE_DIRECTIONS(reference, float), VIVACE_DIRECTIONS(reference, double)};
    for (auto [module, implementations] : {std::pair("im2col", textbook), std::pair("reference", naive)}) {
        py::module_ inner = m.attr(module);
        bind_forward(inner, implementations);
        bind_gradients(inner, implementations);
    }
    bind_conv2d_pool(m);
    bind_methods(m);
}

}  // namespace vivace::bindings
