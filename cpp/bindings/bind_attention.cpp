#include "vivace/attention.h"

#include "arrays.h"

namespace vivace::bindings {
namespace {

AttentionShape make_shape(index batch, index queries, index keys, index heads, index key_heads, index key_dim,
                          index value_dim, double scale, bool causal, index window) {
    for (const index size : {batch, queries, keys, heads, key_heads, key_dim, value_dim})
        if (size < 1) throw py::value_error("AttentionShape: every size must be at least 1, received " + std::to_string(size));
    if (heads % key_heads)
        throw py::value_error("AttentionShape: key_heads must divide heads (" + std::to_string(heads) + "), received " +
                              std::to_string(key_heads));
    if (window < 0) throw py::value_error("AttentionShape: window must not be negative, received " + std::to_string(window));
    return {batch, heads, key_heads, queries, keys, key_dim, value_dim, scale, causal, window};
}

// A tuple or list of arrays. Several in one keep a function's arguments at six: for more, pybind11 asks malloc for their list.
class Several {
public:
    Several(const Arguments& arg, const py::handle& items, const char* name) : arg_(arg), items_(items), name_(name) {
        if (!PyTuple_Check(items.ptr()) && !PyList_Check(items.ptr()))
            arg.fail(name, "must be a tuple or list", "something else");
    }
    std::size_t size() const { return static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items_.ptr())); }
    py::object object(std::size_t i) const {
        if (i >= size()) arg_.fail(name_, "must have more than " + std::to_string(i) + " entries", std::to_string(size()));
        return py::reinterpret_borrow<py::object>(PySequence_Fast_GET_ITEM(items_.ptr(), static_cast<Py_ssize_t>(i)));
    }
    py::array array(std::size_t i, const char* name) const { return arg_.array(object(i), name); }
    void must_have(std::size_t entries) const {
        if (size() != entries) arg_.fail(name_, "must have " + std::to_string(entries) + " entries", std::to_string(size()));
    }

private:
    const Arguments& arg_;
    py::handle items_;
    const char* name_;
};

// Masks and dropout: None, or (query_mask, key_mask, attention_mask, zero_blind, rate, seed, stream).
struct Options {
    AttentionMasks masks{};
    AttentionDropout drop{};

    Options(const Arguments& arg, const AttentionShape& s, const py::object& options) {
        if (options.is_none()) return;
        const Several all(arg, options, "options");
        all.must_have(7);
        masks = {arg.optional_in<std::uint8_t>(all.object(0), "query_mask", {s.batch, s.queries}),
                 arg.optional_in<std::uint8_t>(all.object(1), "key_mask", {s.batch, s.keys}),
                 arg.optional_in<std::uint8_t>(all.object(2), "attention_mask", {s.batch, s.queries, s.keys}),
                 all.object(3).cast<bool>()};
        drop = {all.object(4).cast<double>(), all.object(5).cast<std::uint64_t>(), all.object(6).cast<std::uint64_t>()};
        if (!(drop.rate >= 0 && drop.rate < 1)) arg.fail("rate", "must lie in [0, 1)", std::to_string(drop.rate));
    }
};

// q, k and v, which may lack the axis of heads if there is one, and perhaps what is learned: a factor of scores, and the
// weight of each feature of a sum, or of all. None stands for what is not.
template <class T>
struct Inputs {
    const T *q, *k, *v, *scale, *weight = nullptr;
    index weights = 0;

    Inputs(const Arguments& arg, const AttentionShape& s, const Several& inputs)
        : q(arg.in<T>(inputs.array(0, "q"), "q", {s.batch, s.queries, s.heads, s.key_dim})),
          k(arg.in<T>(inputs.array(1, "k"), "k", {s.batch, s.keys, s.key_heads, s.key_dim})),
          v(arg.in<T>(inputs.array(2, "v"), "v", {s.batch, s.keys, s.key_heads, s.value_dim})),
          scale(inputs.size() > 3 ? arg.optional_in<T>(inputs.object(3), "scale", {}) : nullptr) {
        if (inputs.size() > 5) arg.fail("inputs", "must have 3 to 5 entries", std::to_string(inputs.size()));
        if (inputs.size() < 5 || inputs.object(4).is_none()) return;
        const py::array array = inputs.array(4, "weight");
        weights = array.size();
        if (weights != 1 && weights != s.key_dim)
            arg.fail("weight", "must have 1 or " + std::to_string(s.key_dim) + " elements", std::to_string(weights));
        weight = arg.in_flat<T>(array, "weight", weights);
    }

    Scoring<T> scoring(bool by_sums) const { return {by_sums, scale ? *scale : T{1}, weight, weights}; }
};

void forward(const AttentionShape& s, const py::object& inputs, const py::object& options, const py::object& kept,
             const py::array& y) {
    const Arguments arg("attention_forward");
    const Several in(arg, inputs, "inputs");
    const Options o(arg, s, options);
    const index rows = s.batch * s.heads * s.queries;
    arg.for_dtype(y, "y", [&](auto zero) {
        using T = decltype(zero);
        const Inputs<T> x(arg, s, in);
        T* statistics = arg.optional_out_flat<T>(kept, "kept", 2 * rows);
        T* out = arg.out<T>(y, "y", {s.batch, s.queries, s.heads, s.value_dim});
        without_gil([&] {
            T* const share = statistics ? statistics + rows : nullptr;
            if (x.scale)
                scaled_attention_forward<T>(s, *x.scale, x.q, x.k, x.v, o.masks, o.drop, out, statistics, share);
            else
                attention_forward<T>(s, x.q, x.k, x.v, o.masks, o.drop, out, statistics, share);
        });
    });
}

void backward(const AttentionShape& s, const py::object& inputs, const py::object& options, const py::object& outputs,
              const py::array& dy, const py::object& gradients) {
    const Arguments arg("attention_backward");
    const Several in(arg, inputs, "inputs"), results(arg, outputs, "outputs"), out(arg, gradients, "gradients");
    const Options o(arg, s, options);
    const index rows = s.batch * s.heads * s.queries;
    out.must_have(in.size());
    arg.for_dtype(dy, "dy", [&](auto zero) {
        using T = decltype(zero);
        const Inputs<T> x(arg, s, in);
        const T* kept = arg.in_flat<T>(results.array(0, "kept"), "kept", 2 * rows);
        const T* y = arg.in<T>(results.array(1, "y"), "y", {s.batch, s.queries, s.heads, s.value_dim});
        const T* d = arg.in<T>(dy, "dy", {s.batch, s.queries, s.heads, s.value_dim});
        T* dq = arg.out<T>(out.array(0, "dq"), "dq", {s.batch, s.queries, s.heads, s.key_dim});
        T* dk = arg.out<T>(out.array(1, "dk"), "dk", {s.batch, s.keys, s.key_heads, s.key_dim});
        T* dv = arg.out<T>(out.array(2, "dv"), "dv", {s.batch, s.keys, s.key_heads, s.value_dim});
        T* dscale = x.scale ? arg.out<T>(out.array(3, "dscale"), "dscale", {}) : nullptr;
        without_gil([&] {
            if (x.scale)
                scaled_attention_backward<T>(s, *x.scale, x.q, x.k, x.v, o.masks, o.drop, y, kept, kept + rows, d, dq, dk, dv, dscale);
            else
                attention_backward<T>(s, x.q, x.k, x.v, o.masks, o.drop, y, kept, kept + rows, d, dq, dk, dv);
        });
    });
}

void stored_forward(const AttentionShape& s, const py::object& inputs, bool by_sums, const py::object& options,
                    const py::object& probabilities, const py::array& y) {
    const Arguments arg("stored_attention_forward");
    const Several in(arg, inputs, "inputs"), all(arg, probabilities, "probabilities");
    if (s.heads != 1) arg.fail("shape", "must have one head", std::to_string(s.heads));
    const Options o(arg, s, options);
    arg.for_dtype(y, "y", [&](auto zero) {
        using T = decltype(zero);
        const Inputs<T> x(arg, s, in);
        const Scoring<T> by = x.scoring(by_sums);
        T* p = arg.out<T>(all.array(0, "p"), "p", {s.batch, s.queries, s.keys});
        T* dropped = all.size() < 2 ? nullptr : arg.out<T>(all.array(1, "dropped"), "dropped", {s.batch, s.queries, s.keys});
        T* out = arg.out<T>(y, "y", {s.batch, s.queries, s.value_dim});
        without_gil([&] { stored_attention_forward<T>(s, by, x.q, x.k, x.v, o.masks, o.drop, p, dropped, out); });
    });
}

void stored_backward(const AttentionShape& s, const py::object& inputs, bool by_sums, const py::object& forward,
                     const py::object& upstream, const py::object& gradients) {
    const Arguments arg("stored_attention_backward");
    const Several in(arg, inputs, "inputs"), before(arg, forward, "forward"), d(arg, upstream, "upstream"),
        out(arg, gradients, "gradients");
    if (s.heads != 1) arg.fail("shape", "must have one head", std::to_string(s.heads));
    const Options o(arg, s, before.object(0));
    out.must_have(in.size());
    arg.for_dtype(d.array(0, "dy"), "dy", [&](auto zero) {
        using T = decltype(zero);
        const Inputs<T> x(arg, s, in);
        const Scoring<T> by = x.scoring(by_sums);
        const T* p = arg.in<T>(before.array(1, "p"), "p", {s.batch, s.queries, s.keys});
        const T* dy = arg.in<T>(d.array(0, "dy"), "dy", {s.batch, s.queries, s.value_dim});
        const T* dp = d.size() < 2 ? nullptr : arg.in<T>(d.array(1, "ddropped"), "ddropped", {s.batch, s.queries, s.keys});
        T* dq = arg.out<T>(out.array(0, "dq"), "dq", {s.batch, s.queries, s.key_dim});
        T* dk = arg.out<T>(out.array(1, "dk"), "dk", {s.batch, s.keys, s.key_dim});
        T* dv = arg.out<T>(out.array(2, "dv"), "dv", {s.batch, s.keys, s.value_dim});
        T* dscale = x.scale ? arg.out<T>(out.array(3, "dscale"), "dscale", {}) : nullptr;
        T* dweight = x.weight ? arg.out_flat<T>(out.array(4, "dweight"), "dweight", x.weights) : nullptr;
        without_gil([&] {
            stored_attention_backward<T>(s, by, x.q, x.k, x.v, o.drop, p, dy, dp, dq, dk, dv, dweight, dscale);
        });
    });
}

// Kernels and biases in the order of the layer's weights, or their gradients (T not const).
template <class T, class Get>
MultiHeadWeights<T> weights_of(const MultiHeadShape& s, const Several& all, Get&& get) {
    all.must_have(static_cast<std::size_t>((s.gate ? 5 : 4) * (s.bias ? 2 : 1)));
    std::size_t next = 0;
    const auto one = [&](index inputs, index outputs) {
        Projection<T> p{};
        p.kernel = get(all.array(next++, "a kernel"), "a kernel", inputs * outputs);
        if (s.bias) p.bias = get(all.array(next++, "a bias"), "a bias", outputs);
        return p;
    };
    MultiHeadWeights<T> w{};
    w.query = one(s.query_size, s.query_width());
    w.key = one(s.key_size, s.key_width());
    if (s.gate) w.gate = one(s.query_size, s.attended_width());
    w.value = one(s.value_size, s.value_width());
    w.output = one(s.attended_width(), s.outputs);
    return w;
}

// What multi-head attention takes: query, key and value, and the weights.
template <class T>
struct MultiHeadInputs {
    const T *query, *key, *value;
    MultiHeadWeights<const T> weights;

    MultiHeadInputs(const Arguments& arg, const MultiHeadShape& s, const Several& inputs, const Several& all)
        : query(arg.in_flat<T>(inputs.array(0, "query"), "query", s.query_rows() * s.query_size)),
          key(arg.in_flat<T>(inputs.array(1, "key"), "key", s.key_rows() * s.key_size)),
          value(arg.in_flat<T>(inputs.array(2, "value"), "value", s.key_rows() * s.value_size)),
          weights(weights_of<const T>(s, all, [&](const py::array& a, const char* name, index size) {
              return arg.in_flat<T>(a, name, size);
          })) {}
};

void multi_head_forward_(const MultiHeadShape& s, const py::object& inputs, const py::object& weights,
                         const py::object& options, const py::object& kept, const py::object& outputs) {
    const Arguments arg("multi_head_forward");
    const Several in(arg, inputs, "inputs"), w(arg, weights, "weights"), out(arg, outputs, "outputs");
    const AttentionShape& a = s.attention;
    const Options o(arg, a, options);
    arg.for_dtype(out.array(0, "y"), "y", [&](auto zero) {
        using T = decltype(zero);
        const MultiHeadInputs<T> x(arg, s, in, w);
        T* memory = arg.optional_out_flat<T>(kept, "kept", MultiHeadKept<T>::size(s));
        T* y = arg.out_flat<T>(out.array(0, "y"), "y", s.query_rows() * s.outputs);
        T* p = out.size() < 2 ? nullptr : arg.out<T>(out.array(1, "scores"), "scores", {a.batch, a.heads, a.queries, a.keys});
        without_gil([&] {
            multi_head_forward<T>(s, x.query, x.key, x.value, x.weights, o.masks, o.drop, memory, y, p);
        });
    });
}

void multi_head_backward_(const MultiHeadShape& s, const py::object& inputs, const py::object& weights,
                          const py::object& forward, const py::object& upstream, const py::object& gradients) {
    const Arguments arg("multi_head_backward");
    const Several in(arg, inputs, "inputs"), w(arg, weights, "weights"), before(arg, forward, "forward"),
        d(arg, upstream, "upstream"), out(arg, gradients, "gradients");
    const AttentionShape& a = s.attention;
    const Options o(arg, a, before.object(0));
    out.must_have(2);
    const py::object of_weights = out.object(0), of_inputs = out.object(1);
    arg.for_dtype(d.array(0, "dy"), "dy", [&](auto zero) {
        using T = decltype(zero);
        const MultiHeadInputs<T> x(arg, s, in, w);
        T* kept = arg.out_flat<T>(before.array(1, "kept"), "kept", MultiHeadKept<T>::size(s));
        const T* dy = arg.in_flat<T>(d.array(0, "dy"), "dy", s.query_rows() * s.outputs);
        const T *p = nullptr, *dp = nullptr;
        if (d.size() > 1) {
            p = arg.in<T>(d.array(1, "scores"), "scores", {a.batch, a.heads, a.queries, a.keys});
            dp = arg.in<T>(d.array(2, "dscores"), "dscores", {a.batch, a.heads, a.queries, a.keys});
        }
        const MultiHeadWeights<T> dw = weights_of<T>(
            s, Several(arg, of_weights, "gradients of weights"),
            [&](const py::array& array, const char* name, index size) { return arg.out_flat<T>(array, name, size); });
        T *dquery = nullptr, *dkey = nullptr, *dvalue = nullptr;
        if (!of_inputs.is_none()) {
            const Several dx(arg, of_inputs, "gradients of inputs");
            dquery = arg.out_flat<T>(dx.array(0, "dquery"), "dquery", s.query_rows() * s.query_size);
            dkey = arg.out_flat<T>(dx.array(1, "dkey"), "dkey", s.key_rows() * s.key_size);
            dvalue = arg.out_flat<T>(dx.array(2, "dvalue"), "dvalue", s.key_rows() * s.value_size);
        }
        without_gil([&] {
            multi_head_backward<T>(s, x.query, x.key, x.value, x.weights, o.masks, o.drop, kept, dy, p, dp, dw, dquery, dkey, dvalue);
        });
    });
}

}  // namespace

void bind_attention(py::module_& m) {
    py::class_<AttentionShape>(m, "AttentionShape", py::module_local())
        .def(py::init(&make_shape), py::arg("batch"), py::arg("queries"), py::arg("keys"), py::arg("heads"),
             py::arg("key_heads"), py::arg("key_dim"), py::arg("value_dim"), py::arg("scale") = 1.0, py::arg("causal") = false,
             py::arg("window") = 0);
    py::class_<MultiHeadShape>(m, "MultiHeadShape", py::module_local())
        .def(py::init([](const AttentionShape& attention, index query_size, index key_size, index value_size, index outputs,
                         bool bias, bool gate) {
                 for (const index size : {query_size, key_size, value_size, outputs})
                     if (size < 1)
                         throw py::value_error("MultiHeadShape: every size must be at least 1, received " + std::to_string(size));
                 return MultiHeadShape{attention, query_size, key_size, value_size, outputs, bias, gate};
             }),
             py::arg("attention"), py::arg("query_size"), py::arg("key_size"), py::arg("value_size"), py::arg("outputs"),
             py::arg("bias"), py::arg("gate"))
        .def_property_readonly("kept", [](const MultiHeadShape& s) { return MultiHeadKept<float>::size(s); });
    m.def("attention_forward", &forward, py::arg("shape"), py::arg("inputs"), py::arg("options").none(true),
          py::arg("kept").none(true), py::arg("y"));
    m.def("attention_backward", &backward, py::arg("shape"), py::arg("inputs"), py::arg("options").none(true),
          py::arg("outputs"), py::arg("dy"), py::arg("gradients"));
    m.def("stored_attention_forward", &stored_forward, py::arg("shape"), py::arg("inputs"), py::arg("by_sums"),
          py::arg("options").none(true), py::arg("probabilities"), py::arg("y"));
    m.def("stored_attention_backward", &stored_backward, py::arg("shape"), py::arg("inputs"), py::arg("by_sums"),
          py::arg("forward"), py::arg("upstream"), py::arg("gradients"));
    m.def("multi_head_forward", &multi_head_forward_, py::arg("shape"), py::arg("inputs"), py::arg("weights"),
          py::arg("options").none(true), py::arg("kept").none(true), py::arg("outputs"));
    m.def("multi_head_backward", &multi_head_backward_, py::arg("shape"), py::arg("inputs"), py::arg("weights"),
          py::arg("forward"), py::arg("upstream"), py::arg("gradients"));
}

}  // namespace vivace::bindings
