#include "vivace/attention.h"

#include "arrays.h"

namespace vivace::bindings {
namespace {

// Without the axis of heads, (batch, steps, features), there is one.
AttentionShape shape_of(const Arguments& arg, const py::array& q, const py::array& k, const py::array& v, double scale,
                        bool causal) {
    AttentionShape s{};
    const index rank = q.ndim() == 3 ? 3 : 4, last = rank - 1;
    s.batch = arg.size(q, "q", rank, 0), s.queries = arg.size(q, "q", rank, 1), s.key_dim = arg.size(q, "q", rank, last);
    s.keys = arg.size(k, "k", rank, 1), s.value_dim = arg.size(v, "v", rank, last);
    s.heads = rank == 3 ? 1 : q.shape(2), s.key_heads = rank == 3 ? 1 : k.shape(2);
    s.scale = scale;
    s.causal = causal;
    for (const auto& [array, name] : {std::pair{&q, "q"}, {&k, "k"}, {&v, "v"}})
        if (array->size() == 0) arg.fail(name, "must not be empty", tuple_text(array->shape(), static_cast<std::size_t>(rank)));
    if (s.heads % s.key_heads)
        arg.fail("k", "must have a number of heads that divides q's " + std::to_string(s.heads), std::to_string(s.key_heads));
    return s;
}

AttentionMasks masks_of(const Arguments& arg, const AttentionShape& s, const py::object& query, const py::object& key,
                        const py::object& attention) {
    return {arg.optional_in<std::uint8_t>(query, "query_mask", {s.batch, s.queries}),
            arg.optional_in<std::uint8_t>(key, "key_mask", {s.batch, s.keys}),
            arg.optional_in<std::uint8_t>(attention, "attention_mask", {s.batch, s.queries, s.keys})};
}

AttentionDropout dropout_of(const Arguments& arg, double rate, std::uint64_t seed, std::uint64_t stream) {
    if (!(rate >= 0 && rate < 1)) arg.fail("rate", "must lie in [0, 1)", std::to_string(rate));
    return {rate, seed, stream};
}

}  // namespace

void bind_attention(py::module_& m) {
    m.def(
        "attention_forward",
        [](const py::array& q, const py::array& k, const py::array& v, double scale, bool causal,
           const py::object& query_mask, const py::object& key_mask, const py::object& attention_mask, double rate,
           std::uint64_t seed, std::uint64_t stream, const py::array& y, const py::array& maximum,
           const py::array& share) {
            const Arguments arg("attention_forward");
            const AttentionShape s = shape_of(arg, q, k, v, scale, causal);
            const AttentionMasks masks = masks_of(arg, s, query_mask, key_mask, attention_mask);
            const AttentionDropout drop = dropout_of(arg, rate, seed, stream);
            arg.for_dtype(q, "q", [&](auto zero) {
                using T = decltype(zero);
                const T* pq = arg.in<T>(q, "q", {s.batch, s.queries, s.heads, s.key_dim});
                const T* pk = arg.in<T>(k, "k", {s.batch, s.keys, s.key_heads, s.key_dim});
                const T* pv = arg.in<T>(v, "v", {s.batch, s.keys, s.key_heads, s.value_dim});
                T* py = arg.out<T>(y, "y", {s.batch, s.queries, s.heads, s.value_dim});
                T* pmaximum = arg.out<T>(maximum, "maximum", {s.batch, s.heads, s.queries});
                T* pshare = arg.out<T>(share, "share", {s.batch, s.heads, s.queries});
                without_gil([&] { attention_forward(s, pq, pk, pv, masks, drop, py, pmaximum, pshare); });
            });
        },
        py::arg("q"), py::arg("k"), py::arg("v"), py::arg("scale"), py::arg("causal"), py::arg("query_mask").none(true),
        py::arg("key_mask").none(true), py::arg("attention_mask").none(true), py::arg("rate"), py::arg("seed"),
        py::arg("stream"), py::arg("y"), py::arg("maximum"), py::arg("share"));
    m.def(
        "attention_backward",
        [](const py::array& q, const py::array& k, const py::array& v, double scale, bool causal,
           const py::object& query_mask, const py::object& key_mask, const py::object& attention_mask, double rate,
           std::uint64_t seed, std::uint64_t stream, const py::array& y, const py::array& maximum, const py::array& share,
           const py::array& dy, const py::array& dq, const py::array& dk, const py::array& dv) {
            const Arguments arg("attention_backward");
            const AttentionShape s = shape_of(arg, q, k, v, scale, causal);
            const AttentionMasks masks = masks_of(arg, s, query_mask, key_mask, attention_mask);
            const AttentionDropout drop = dropout_of(arg, rate, seed, stream);
            arg.for_dtype(q, "q", [&](auto zero) {
                using T = decltype(zero);
                const T* pq = arg.in<T>(q, "q", {s.batch, s.queries, s.heads, s.key_dim});
                const T* pk = arg.in<T>(k, "k", {s.batch, s.keys, s.key_heads, s.key_dim});
                const T* pv = arg.in<T>(v, "v", {s.batch, s.keys, s.key_heads, s.value_dim});
                const T* py = arg.in<T>(y, "y", {s.batch, s.queries, s.heads, s.value_dim});
                const T* pmaximum = arg.in<T>(maximum, "maximum", {s.batch, s.heads, s.queries});
                const T* pshare = arg.in<T>(share, "share", {s.batch, s.heads, s.queries});
                const T* pdy = arg.in<T>(dy, "dy", {s.batch, s.queries, s.heads, s.value_dim});
                T* pdq = arg.out<T>(dq, "dq", {s.batch, s.queries, s.heads, s.key_dim});
                T* pdk = arg.out<T>(dk, "dk", {s.batch, s.keys, s.key_heads, s.key_dim});
                T* pdv = arg.out<T>(dv, "dv", {s.batch, s.keys, s.key_heads, s.value_dim});
                without_gil([&] {
                    attention_backward(s, pq, pk, pv, masks, drop, py, pmaximum, pshare, pdy, pdq, pdk, pdv);
                });
            });
        },
        py::arg("q"), py::arg("k"), py::arg("v"), py::arg("scale"), py::arg("causal"), py::arg("query_mask").none(true),
        py::arg("key_mask").none(true), py::arg("attention_mask").none(true), py::arg("rate"), py::arg("seed"),
        py::arg("stream"), py::arg("y"), py::arg("maximum"), py::arg("share"), py::arg("dy"), py::arg("dq"),
        py::arg("dk"), py::arg("dv"));
}

}  // namespace vivace::bindings
