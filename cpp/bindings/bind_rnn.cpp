#include "vivace/rnn.h"

#include "arrays.h"

namespace vivace::bindings {
namespace {

// An activation's name, or a function's and its parameters.
Squash squash_of(const py::object& given) {
    if (py::isinstance<py::str>(given)) return {activation_named("rnn", given.cast<std::string>())};
    const auto [name, a, b, c] = given.cast<std::tuple<std::string, double, double, double>>();
    return {Activation::linear, true, function_named(Arguments("rnn"), name), {a, b, c}};
}

RnnShape make_shape(index batch, index steps, index inputs, index units, const std::string& cell, bool reverse,
                    const py::object& activation, const py::object& recurrent_activation, double dropout,
                    double recurrent_dropout, bool sequences, bool in_time, bool zero_masked, index outputs) {
    const bool gated = cell == "output_gated";
    for (index size : {batch, steps, inputs, units, gated ? outputs : 1})
        if (size < 1) throw py::value_error("rnn: every size must be at least 1, received " + std::to_string(size));
    for (double rate : {dropout, recurrent_dropout})
        if (!(rate >= 0 && rate < 1)) throw py::value_error("rnn: a rate must lie in [0, 1), received " + std::to_string(rate));
    const char* const names[] = {"simple", "lstm", "gru", "gru_reset_before", "output_gated"};
    for (int i = 0; i < 5; ++i)
        if (cell == names[i])
            return {batch, steps, inputs, units, static_cast<Cell>(i), reverse, squash_of(activation),
                    squash_of(recurrent_activation), dropout, recurrent_dropout, sequences, in_time, zero_masked, outputs};
    throw py::value_error("rnn: cell must be simple, lstm, gru, gru_reset_before or output_gated, received " + cell);
}

RnnPair make_pair(const RnnShape& first, const RnnShape& second, const std::string& merge) {
    const char* const names[] = {"concat", "sum", "mul", "ave"};
    for (const RnnShape* s : {&first, &second})
        if (s->puts_out_states() || s->cell == Cell::output_gated)
            throw py::value_error("rnn: the two of a pair must not put out their states, nor be output_gated");
    if (first.batch != second.batch || first.steps != second.steps || first.inputs != second.inputs ||
        first.sequences != second.sequences || (merge != "concat" && first.units != second.units))
        throw py::value_error("rnn: the two of a pair must see and put out the same sequences");
    for (int i = 0; i < 4; ++i)
        if (merge == names[i]) return {first, second, static_cast<RnnPair::Merge>(i)};
    throw py::value_error("rnn: merge must be concat, sum, mul or ave, received " + merge);
}

// Item i of a tuple, or None behind its end.
py::object item(const py::tuple& t, std::size_t i) { return i < t.size() ? py::object(t[i]) : py::none(); }

// A tuple in a tuple, empty behind its end.
py::tuple part(const py::tuple& t, std::size_t i) { return i < t.size() ? t[i].cast<py::tuple>() : py::tuple(); }

// The arguments of all four functions, checked. weights: (kernel, recurrent_kernel, bias or None, and of an output_gated
// cell its read-out). extras: (mask, h, c, numbers, ...), any of which may be None; numbers: (seed, and the streams of
// the inputs' and of the states' dropout), or None where nothing is dropped.
template <class T>
RnnInputs<T> inputs_of(const Arguments& arg, const RnnShape& s, const py::array& x, const py::tuple& weights,
                       const py::tuple& extras) {
    const index gates = s.gates() * s.units;
    RnnInputs<T> in{};
    if (weights.size() < 3) arg.fail("weights", "must be three, or four", std::to_string(weights.size()));
    in.x = arg.in<T>(x, "x", {s.batch, s.steps, s.inputs});
    in.w = arg.in<T>(arg.array(weights[0], "kernel"), "kernel", {s.inputs, gates});
    in.u = arg.in<T>(arg.array(weights[1], "recurrent_kernel"), "recurrent_kernel", {s.units, gates});
    in.bias = s.bias_rows() == 2 ? arg.optional_in<T>(weights[2], "bias", {2, gates})
                                 : arg.optional_in<T>(weights[2], "bias", {gates});
    if (s.cell == Cell::output_gated)
        in.readout = arg.in<T>(arg.array(item(weights, 3), "output_kernel"), "output_kernel", {s.units, s.outputs});
    if (!extras.size()) return in;
    in.mask = arg.optional_in<std::uint8_t>(item(extras, 0), "mask", {s.batch, s.steps});
    in.h = arg.optional_in<T>(item(extras, 1), "h", {s.batch, s.units});
    in.c = arg.optional_in<T>(item(extras, 2), "c", {s.batch, s.units});
    if (s.has_memory() && !in.h != !in.c) arg.fail("c", "must come with h", in.h ? "h alone" : "c alone");
    const py::object numbers = item(extras, 3);
    in.drops = !numbers.is_none();
    if (in.drops)
        std::tie(in.seed, in.input_stream, in.state_stream) =
            numbers.cast<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>>();
    return in;
}

// Gradients of the weights, in their order.
template <class T>
RnnGradients<T> gradients_of(const Arguments& arg, const RnnShape& s, const py::tuple& gradients) {
    const index gates = s.gates() * s.units;
    RnnGradients<T> g{};
    if (gradients.size() < 3) arg.fail("gradients", "must be three, or four", std::to_string(gradients.size()));
    g.dw = arg.out<T>(arg.array(gradients[0], "dkernel"), "dkernel", {s.inputs, gates});
    g.du = arg.out<T>(arg.array(gradients[1], "drecurrent_kernel"), "drecurrent_kernel", {s.units, gates});
    g.db = s.bias_rows() == 2 ? arg.optional_out<T>(gradients[2], "dbias", {2, gates})
                              : arg.optional_out<T>(gradients[2], "dbias", {gates});
    if (s.cell == Cell::output_gated)
        g.dreadout = arg.out<T>(arg.array(item(gradients, 3), "doutput_kernel"), "doutput_kernel", {s.units, s.outputs});
    return g;
}

py::tuple output_shape(const RnnShape& s, index columns) {
    if (s.sequences) return py::make_tuple(s.batch, s.steps, columns);
    return py::make_tuple(s.batch, columns);
}

index output_size(const RnnShape& s, index columns) { return s.batch * (s.sequences ? s.steps : 1) * columns; }

void forward(const RnnShape& s, const py::array& x, const py::tuple& weights, const py::object& tape, const py::array& y,
             const py::tuple& extras) {
    const Arguments arg("rnn_forward");
    arg.for_dtype(x, "x", [&](auto zero) {
        using T = decltype(zero);
        const RnnInputs<T> in = inputs_of<T>(arg, s, x, weights, extras);
        T* memory = arg.optional_out_flat<T>(tape, "tape", s.tape_size());
        RnnOutputs<T> out{arg.out_flat<T>(y, "y", output_size(s, s.output_columns())), s.output_columns(), nullptr, nullptr};
        out.h = arg.optional_out<T>(item(extras, 4), "final h", {s.batch, s.units});
        out.c = arg.optional_out<T>(item(extras, 5), "final c", {s.batch, s.units});
        without_gil([&] { rnn_forward(s, in, memory, out); });
    });
}

void backward(const RnnShape& s, const py::array& x, const py::tuple& weights, const py::tuple& gradients,
              const py::array& tape, const py::array& y, const py::object& dy, const py::object& dx,
              const py::object& dh, const py::object& dc, const py::tuple& extras) {
    const Arguments arg("rnn_backward");
    arg.for_dtype(x, "x", [&](auto zero) {
        using T = decltype(zero);
        const RnnInputs<T> in = inputs_of<T>(arg, s, x, weights, extras);
        T* memory = arg.out_flat<T>(tape, "tape", s.tape_size());
        const T* states = arg.in_flat<T>(y, "y", output_size(s, s.output_columns()));
        RnnGradients<T> g = gradients_of<T>(arg, s, gradients);
        g.dy = arg.optional_in_flat<T>(dy, "dy", output_size(s, s.output_columns()));
        g.stride = s.output_columns();
        g.dx = arg.optional_out<T>(dx, "dx", {s.batch, s.steps, s.inputs});
        g.dh = arg.optional_out<T>(dh, "dh", {s.batch, s.units});
        g.dc = arg.optional_out<T>(dc, "dc", {s.batch, s.units});
        without_gil([&] { rnn_backward(s, in, memory, states, g); });
    });
}

void pair_forward(const RnnPair& s, const py::array& x, const py::tuple& weights, const py::object& tape,
                  const py::array& y, const py::tuple& extras) {
    const Arguments arg("rnn_pair_forward");
    arg.for_dtype(x, "x", [&](auto zero) {
        using T = decltype(zero);
        const RnnInputs<T> first = inputs_of<T>(arg, s.first, x, part(weights, 0), part(extras, 0)),
                           second = inputs_of<T>(arg, s.second, x, part(weights, 1), part(extras, 1));
        T* memory = arg.optional_out_flat<T>(tape, "tape", s.tape_size());
        T* out = arg.out_flat<T>(y, "y", output_size(s.first, s.output_columns()));
        without_gil([&] { rnn_pair_forward(s, first, second, memory, out); });
    });
}

void pair_backward(const RnnPair& s, const py::array& x, const py::tuple& weights, const py::tuple& gradients,
                   const py::array& tape, const py::array& dy, const py::object& dx, const py::tuple& extras) {
    const Arguments arg("rnn_pair_backward");
    arg.for_dtype(x, "x", [&](auto zero) {
        using T = decltype(zero);
        const RnnInputs<T> first = inputs_of<T>(arg, s.first, x, part(weights, 0), part(extras, 0)),
                           second = inputs_of<T>(arg, s.second, x, part(weights, 1), part(extras, 1));
        T* memory = arg.out_flat<T>(tape, "tape", s.tape_size());
        T* d_out = arg.out_flat<T>(dy, "dy", output_size(s.first, s.output_columns()));
        RnnGradients<T> ours = gradients_of<T>(arg, s.first, part(gradients, 0)),
                        theirs = gradients_of<T>(arg, s.second, part(gradients, 1));
        ours.dx = arg.optional_out<T>(dx, "dx", {s.first.batch, s.first.steps, s.first.inputs});
        without_gil([&] { rnn_pair_backward(s, first, second, memory, d_out, ours, theirs); });
    });
}

}  // namespace

void bind_rnn(py::module_& m) {
    using namespace pybind11::literals;
    py::class_<RnnShape>(m, "RnnShape", py::module_local())
        .def(py::init(&make_shape), "batch"_a, "steps"_a, "inputs"_a, "units"_a, "cell"_a, "reverse"_a = false,
             "activation"_a = "tanh", "recurrent_activation"_a = "sigmoid", "dropout"_a = 0.0,
             "recurrent_dropout"_a = 0.0, "sequences"_a = true, "in_time"_a = false, "zero_masked"_a = false,
             "outputs"_a = 0)
        .def_property_readonly("tape", [](const RnnShape& s) { return py::make_tuple(s.tape_size()); })
        .def_property_readonly("output", [](const RnnShape& s) { return output_shape(s, s.output_columns()); });
    py::class_<RnnPair>(m, "RnnPair", py::module_local())
        .def(py::init(&make_pair), "first"_a, "second"_a, "merge"_a)
        .def_property_readonly("tape", [](const RnnPair& s) { return py::make_tuple(s.tape_size()); })
        .def_property_readonly("output", [](const RnnPair& s) { return output_shape(s.first, s.output_columns()); });
    m.def("rnn_forward", &forward, "shape"_a, "x"_a, "weights"_a, "tape"_a.none(true), "y"_a, "extras"_a = py::tuple());
    m.def("rnn_backward", &backward, "shape"_a, "x"_a, "weights"_a, "gradients"_a, "tape"_a, "y"_a, "dy"_a.none(true),
          "dx"_a.none(true), "dh"_a.none(true) = py::none(), "dc"_a.none(true) = py::none(), "extras"_a = py::tuple());
    m.def("rnn_pair_forward", &pair_forward, "pair"_a, "x"_a, "weights"_a, "tape"_a.none(true), "y"_a, "extras"_a = py::tuple());
    m.def("rnn_pair_backward", &pair_backward, "pair"_a, "x"_a, "weights"_a, "gradients"_a, "tape"_a, "dy"_a,
          "dx"_a.none(true), "extras"_a = py::tuple());
}

}  // namespace vivace::bindings
