#include "vivace/rnn.h"

#include "arrays.h"

namespace vivace::bindings {
namespace {

RnnShape make_shape(index batch, index steps, index inputs, index units, const std::string& cell, bool reverse,
                    const std::string& activation, const std::string& recurrent_activation) {
    for (index size : {batch, steps, inputs, units})
        if (size < 1) throw py::value_error("rnn: every size must be at least 1, received " + std::to_string(size));
    const char* const names[] = {"simple", "lstm", "gru", "output_gated"};
    for (int i = 0; i < 4; ++i)
        if (cell == names[i])
            return {batch, steps, inputs, units, static_cast<Cell>(i), reverse, activation_named("rnn", activation),
                    activation_named("rnn", recurrent_activation)};
    throw py::value_error("rnn: cell must be simple, lstm, gru or output_gated, received " + cell);
}

// One array: what the kernel calls so, and behind it an LSTM's memories.
index workspace_columns(const RnnShape& s) { return (s.width() + (s.has_memory() ? 1 : 0)) * s.units; }

template <class T>
T* workspace_of(const Arguments& arg, const RnnShape& s, const py::array& workspace) {
    return arg.out<T>(workspace, "workspace", {s.batch, s.steps, workspace_columns(s)});
}
template <class T>
T* memory_of(const RnnShape& s, T* workspace) {
    return s.has_memory() ? workspace + s.batch * s.steps * s.width() * s.units : nullptr;
}

// What the layer returns if it is not to return sequences, (batch, units): the output of the last step that was computed.
template <class T>
void copy_last(const RnnShape& s, const T* workspace, const T* h, T* last) {
    const bool gated = s.cell == Cell::output_gated;  // it puts out its second gate, which stands in the order of time
    const T* from = gated ? workspace + s.units : h;
    const index columns = gated ? s.width() * s.units : s.units, step = gated && s.reverse ? 0 : s.steps - 1;
    for (index n = 0; n < s.batch; ++n) std::copy_n(from + (n * s.steps + step) * columns, s.units, last + n * s.units);
}

// The arguments that both directions share, checked.
template <class T>
struct Common {
    const T *x, *w, *u;
    const std::uint8_t* mask;
    RnnState<T> initial;
    const T* keep;

    Common(const Arguments& arg, const RnnShape& s, const py::array& x_, const py::array& kernel,
           const py::array& recurrent, const py::object& mask_, const py::object& h0, const py::object& c0,
           const py::object& keep_)
        : x(arg.in<T>(x_, "x", {s.batch, s.steps, s.inputs})),
          w(arg.in<T>(kernel, "kernel", {s.inputs, s.gates() * s.units})),
          u(arg.in<T>(recurrent, "recurrent_kernel", {s.units, s.gates() * s.units})),
          mask(arg.optional_in<std::uint8_t>(mask_, "mask", {s.batch, s.steps})),
          initial{arg.optional_in<T>(h0, "h0", {s.batch, s.units}), arg.optional_in<T>(c0, "c0", {s.batch, s.units})},
          keep(arg.optional_in<T>(keep_, "keep", {s.batch, s.units})) {}
};

void forward(const RnnShape& s, const py::array& x, const py::array& kernel, const py::array& recurrent,
             const py::object& bias, const py::object& mask, const py::object& h0, const py::object& c0,
             const py::object& keep, const py::array& workspace, const py::array& h, const py::object& last) {
    const Arguments arg("rnn_forward");
    arg.for_dtype(x, "x", [&](auto zero) {
        using T = decltype(zero);
        const Common<T> in(arg, s, x, kernel, recurrent, mask, h0, c0, keep);
        const index gates = s.gates() * s.units;
        const T* b = s.cell == Cell::gru ? arg.optional_in<T>(bias, "bias", {2, gates})
                                         : arg.optional_in<T>(bias, "bias", {gates});
        T* work = workspace_of<T>(arg, s, workspace);
        T* memory = memory_of(s, work);
        T* out = arg.out<T>(h, "h", {s.batch, s.steps, s.units});
        T* end = arg.optional_out<T>(last, "last", {s.batch, s.units});
        without_gil([&] {
            rnn_forward(s, in.x, in.w, in.u, b, in.mask, in.initial, in.keep, work, out, memory);
            if (end) copy_last(s, work, out, end);
        });
    });
}

void backward(const RnnShape& s, const py::array& x, const py::array& kernel, const py::array& recurrent,
              const py::object& mask, const py::object& h0, const py::object& c0, const py::object& keep,
              const py::array& workspace, const py::array& h, const py::object& dy, const py::object& dx,
              const py::array& dkernel, const py::array& drecurrent, const py::object& dbias, const py::array& dh,
              const py::object& dc) {
    const Arguments arg("rnn_backward");
    arg.for_dtype(x, "x", [&](auto zero) {
        using T = decltype(zero);
        const Common<T> in(arg, s, x, kernel, recurrent, mask, h0, c0, keep);
        const index gates = s.gates() * s.units;
        T* work = workspace_of<T>(arg, s, workspace);
        const T* memory = memory_of(s, work);
        const T* states = arg.in<T>(h, "h", {s.batch, s.steps, s.units});
        const T* d_out = arg.optional_in<T>(dy, "dy", {s.batch, s.steps, s.units});
        RnnGradients<T> g{};
        g.dx = arg.optional_out<T>(dx, "dx", {s.batch, s.steps, s.inputs});
        g.dw = arg.out<T>(dkernel, "dkernel", {s.inputs, gates});
        g.du = arg.out<T>(drecurrent, "drecurrent_kernel", {s.units, gates});
        g.db = s.cell == Cell::gru ? arg.optional_out<T>(dbias, "dbias", {2, gates})
                                   : arg.optional_out<T>(dbias, "dbias", {gates});
        g.dh = arg.out<T>(dh, "dh", {s.batch, s.units});
        g.dc = arg.optional_out<T>(dc, "dc", {s.batch, s.units});
        if (s.has_memory() != (g.dc != nullptr)) arg.fail("dc", "goes with an LSTM, and only with one", g.dc ? "dc" : "None");
        without_gil([&] { rnn_backward(s, in.x, in.w, in.u, in.mask, in.initial, in.keep, work, states, memory, d_out, g); });
    });
}

}  // namespace

void bind_rnn(py::module_& m) {
    py::class_<RnnShape>(m, "RnnShape", py::module_local())
        .def(py::init(&make_shape), py::arg("batch"), py::arg("steps"), py::arg("inputs"), py::arg("units"),
             py::arg("cell"), py::arg("reverse") = false, py::arg("activation") = "tanh",
             py::arg("recurrent_activation") = "sigmoid")
        .def_property_readonly("workspace",
                               [](const RnnShape& s) { return py::make_tuple(s.batch, s.steps, workspace_columns(s)); })
        .def_property_readonly("states", [](const RnnShape& s) { return py::make_tuple(s.batch, s.steps, s.units); });
    m.def("rnn_forward", &forward, py::arg("shape"), py::arg("x"), py::arg("kernel"), py::arg("recurrent_kernel"),
          py::arg("bias").none(true), py::arg("mask").none(true), py::arg("h0").none(true), py::arg("c0").none(true),
          py::arg("keep").none(true), py::arg("workspace"), py::arg("h"),
          py::arg("last").none(true) = py::none());
    m.def("rnn_backward", &backward, py::arg("shape"), py::arg("x"), py::arg("kernel"), py::arg("recurrent_kernel"),
          py::arg("mask").none(true), py::arg("h0").none(true), py::arg("c0").none(true), py::arg("keep").none(true),
          py::arg("workspace"), py::arg("h"), py::arg("dy").none(true), py::arg("dx").none(true), py::arg("dkernel"),
          py::arg("drecurrent_kernel"), py::arg("dbias").none(true), py::arg("dh"), py::arg("dc").none(true));
}

}  // namespace vivace::bindings
