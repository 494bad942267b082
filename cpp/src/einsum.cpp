#include "vivace/einsum.h"

#include <map>
#include <stdexcept>

#include "product.h"
#include "vivace/elementwise.h"
#include "vivace/gemm.h"

namespace vivace {
namespace {

using Sizes = std::vector<index>;

const Sizes at_once{0};  // the only offset of what is read and written but once

index product_of(const Sizes& sizes) {
    index product = 1;
    for (const index size : sizes) product *= size;
    return product;
}

// From one element to the next along each axis of a dense array.
Sizes strides_of(const Sizes& sizes) {
    Sizes strides(sizes.size(), 1);
    for (std::size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * sizes[i];
    return strides;
}

// Axes without those of size 1, and with neighbours joined that are one run.
void simplify(Sizes& sizes, Sizes& strides) {
    Sizes short_sizes, short_strides;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (sizes[i] == 1) continue;
        if (!short_sizes.empty() && short_strides.back() == strides[i] * sizes[i]) {
            short_sizes.back() *= sizes[i];
            short_strides.back() = strides[i];
        } else {
            short_sizes.push_back(sizes[i]);
            short_strides.push_back(strides[i]);
        }
    }
    sizes = short_sizes;
    strides = short_strides;
}

// A group of axes of one array as one axis, if it is one.
struct Group {
    index size = 1, stride = 0;
    bool is_one = true;
    Group(Sizes sizes, Sizes strides) {
        size = product_of(sizes);
        simplify(sizes, strides);
        is_one = sizes.size() <= 1;
        if (sizes.size() == 1) stride = strides[0];
    }
};

using Names = std::u32string;
using ByName = std::map<char32_t, index>;

// One array as matrices, the axes of each dimension named.
Einsum::Layout layout_of(const Names& axes, const ByName& sizes, const Names& products, const Names& rows,
                         const Names& columns) {
    Sizes own;
    for (const char32_t a : axes) own.push_back(sizes.at(a));
    const Sizes strides = strides_of(own);
    Einsum::Layout layout;
    const auto group = [&](const Names& names) {
        Sizes part, steps;
        for (const char32_t a : names) {
            part.push_back(sizes.at(a));
            steps.push_back(strides[axes.find(a)]);
        }
        layout.sizes.insert(layout.sizes.end(), part.begin(), part.end());
        layout.strides.insert(layout.strides.end(), steps.begin(), steps.end());
        return Group(part, steps);
    };
    const Group n = group(products), r = group(rows), c = group(columns);
    layout.size = n.size * r.size * c.size;
    const bool whole_lines = c.stride == 1 || c.size == 1 || r.stride == 1 || r.size == 1;
    layout.direct = n.is_one && r.is_one && c.is_one && whole_lines;
    layout.next = layout.direct ? n.stride : r.size * c.size;
    layout.row = layout.direct ? r.stride : c.size;
    layout.column = layout.direct ? c.stride : 1;
    if (layout.direct && c.size == 1) layout.column = 1;
    if (layout.direct && r.size == 1) layout.row = layout.column == 1 ? c.size : 1;
    simplify(layout.sizes, layout.strides);
    return layout;
}

ByName named(const Names& names, const Sizes& sizes, const char* array, ByName known) {
    if (names.size() != sizes.size())
        throw std::invalid_argument(std::string("einsum: ") + array + " must have " + std::to_string(names.size()) +
                                    " axes, received " + std::to_string(sizes.size()));
    for (std::size_t i = 0; i < names.size(); ++i) {
        const auto [place, is_new] = known.emplace(names[i], sizes[i]);
        if (!is_new && place->second != sizes[i])
            throw std::invalid_argument("einsum: an axis has size " + std::to_string(place->second) + " and size " +
                                        std::to_string(sizes[i]));
    }
    return known;
}

// Calls f(dense offset, other offset) for runs along the last axis; runs of `size` elements, `stride` apart in the other
// array. Axes are simplified. `alone`: several elements may be one in the other array, so that one thread does it all.
template <class F>
void for_each_run(const Sizes& sizes, const Sizes& strides, bool alone, F&& f) {
    if (sizes.empty()) return f(0, 0, 1, 1);
    const std::size_t outer = sizes.size() - 1;
    const index size = sizes[outer], runs = product_of(sizes) / std::max<index>(1, size);
    const index group = std::max<index>(1, 4096 / std::max<index>(1, size)), tasks = blocks_of(runs, group);
    parallel_for(tasks, alone ? 0.0 : 4.0 * static_cast<double>(runs * size), [&](index task, int) {
        for (index run = task * group; run < std::min(runs, (task + 1) * group); ++run) {
            index rest = run, other = 0;
            for (std::size_t axis = outer; axis-- > 0; rest /= sizes[axis]) other += rest % sizes[axis] * strides[axis];
            f(run * size, other, size, strides[outer]);
        }
    });
}

template <class T>
void copy_run(index size, const T* from, T* to, bool add) {
    for_each_vector<T>(size, [&](index i, auto n) {
        const vec<T> x = load_n(from + i, n);
        store_n(to + i, add ? load_n(to + i, n) + x : x, n);
    });
}

// Elements in order, from an array whose axes stand otherwise; or added.
template <class T>
void gather(const Sizes& sizes, const Sizes& strides, const T* from, T* dense, bool add) {
    for_each_run(sizes, strides, false, [&](index to, index source, index size, index stride) {
        T* const out = dense + to;
        const T* const in = from + source;
        if (stride == 1)
            copy_run(size, in, out, add);
        else
            for (index i = 0; i < size; ++i) out[i] = add ? out[i] + in[i * stride] : in[i * stride];
    });
}

// The way back.
template <class T>
void scatter(const Sizes& sizes, const Sizes& strides, const T* dense, T* to, bool add) {
    const bool alone = std::find(strides.begin(), strides.end(), 0) != strides.end();
    for_each_run(sizes, strides, alone, [&](index from, index target, index size, index stride) {
        const T* const in = dense + from;
        T* const out = to + target;
        if (stride == 1)
            copy_run(size, in, out, add);
        else
            for (index i = 0; i < size; ++i) out[i * stride] = add ? out[i * stride] + in[i] : in[i];
    });
}

template <class T>
struct Matrices {
    T* data;
    index next, row, column;  // strides; one of row and column is 1
    Matrices transposed() const { return {data, next, column, row}; }
};

// c (m, n) = a (m, k) b (k, n), or +=, `count` times.
template <class T>
void multiply_all(index count, index m, index n, index k, Matrices<const T> a, Matrices<const T> b, Matrices<T> c, bool add) {
    if (c.column != 1) {
        std::swap(a, b);
        std::swap(m, n);
        a = a.transposed(), b = b.transposed(), c = c.transposed();
    }
    if (m == 1 && n == 1 && a.column == 1 && b.row == 1) {
        parallel_for(count, 2.0 * static_cast<double>(count * k), [&](index i, int) {
            vec<T> sum{};
            for_each_vector<T>(k, [&](index r, auto width) {
                sum += load_n(a.data + i * a.next + r, width) * load_n(b.data + i * b.next + r, width);
            });
            T* const to = c.data + i * c.next;
            *to = add ? *to + horizontal_sum<T>(sum) : horizontal_sum<T>(sum);
        });
        return;
    }
    const bool a_stored_otherwise = a.column != 1, b_stored_otherwise = b.column != 1;
    const index lda = a_stored_otherwise ? a.column : a.row, ldb = b_stored_otherwise ? b.column : b.row;
    const double flops = 2.0 * static_cast<double>(m * n) * static_cast<double>(k);
    constexpr double large = 2e6;  // enough for the threads to share one
    if (count == 1 || flops > large || m == 0 || n == 0 || k == 0) {
        for (index i = 0; i < count; ++i)
            gemm_strided<T>(m, n, k, a.data + i * a.next, lda, a_stored_otherwise, b.data + i * b.next, ldb, b_stored_otherwise,
                            nullptr, c.data + i * c.next, c.row, add);
        return;
    }
    if (m == 1 && b.column == 1) {  // a row times a matrix
        parallel_for(count, flops * static_cast<double>(count), [&](index i, int) {
            const T *const x = a.data + i * a.next, *const y = b.data + i * b.next;
            for_each_vector<T>(n, [&](index j, auto width) {
                vec<T> sum = add ? load_n(c.data + i * c.next + j, width) : vec<T>{};
                for (index r = 0; r < k; ++r) sum += broadcast(x[r * a.column]) * load_n(y + r * b.row + j, width);
                store_n(c.data + i * c.next + j, sum, width);
            });
        });
        return;
    }
    const int threads = get_num_threads();
    const index packed = packed_size<T>(k, n);
    Scratch<T> scratch(threads * packed);
    parallel_for(count, flops * static_cast<double>(count), threads, [&](index i, int thread) {
        const Panels<T> right = pack(b.data + i * b.next, ldb, b_stored_otherwise, k, n, scratch + thread * packed);
        multiply(m, k, a.data + i * a.next, lda, a_stored_otherwise, right, c.data + i * c.next, c.row, add);
    });
}

// An array to read, in order if need be.
template <class T>
struct Ordered {
    Scratch<T> memory;
    Matrices<const T> matrices;
    // With several offsets, the sum of what stands at them.
    explicit Ordered(const Einsum::Layout& layout, const T* array, const Sizes& offsets = at_once)
        : memory(layout.direct ? 0 : layout.size),
          matrices{layout.direct ? array : memory.get(), layout.next, layout.row, layout.column} {
        if (layout.direct) return;
        for (std::size_t i = 0; i < offsets.size(); ++i)
            gather(layout.sizes, layout.strides, array + offsets[i], memory.get(), i > 0);
        if (offsets.empty()) std::fill_n(memory.get(), layout.size, T{0});
    }
};

// An array to write, from where it is in order if need be.
template <class T>
struct Result {
    const Einsum::Layout& layout;
    T* const array;
    Scratch<T> memory;
    Result(const Einsum::Layout& own, T* to) : layout(own), array(to), memory(own.direct ? 0 : own.size) {}
    Matrices<T> matrices() const { return {layout.direct ? array : memory.get(), layout.next, layout.row, layout.column}; }
    void put(bool add, const Sizes& offsets = at_once) const {
        for (std::size_t i = 0; !layout.direct && i < offsets.size(); ++i)
            scatter(layout.sizes, layout.strides, memory.get(), array + offsets[i], add);
    }
};

}  // namespace

Einsum::Einsum(const Names& x_axes, const Names& w_axes, const Names& y_axes, const Sizes& x_sizes, const Sizes& w_sizes,
               const Sizes& bias) {
    const ByName sizes = named(w_axes, w_sizes, "w", named(x_axes, x_sizes, "x", {}));
    const auto in = [](const Names& names, char32_t a) { return names.find(a) != Names::npos; };
    Names shared, of_rows, of_sum, of_columns;
    for (const char32_t a : y_axes) {
        if (!in(x_axes, a) && !in(w_axes, a)) throw std::invalid_argument("einsum: an axis of y is neither x's nor w's");
        (in(x_axes, a) && in(w_axes, a) ? shared : in(x_axes, a) ? of_rows : of_columns).push_back(a);
        y_sizes.push_back(sizes.at(a));
    }
    x_offsets = {0};
    const Sizes x_strides = strides_of(x_sizes);
    for (std::size_t i = 0; i < x_axes.size(); ++i) {
        if (in(y_axes, x_axes[i])) continue;
        if (in(w_axes, x_axes[i])) {
            of_sum.push_back(x_axes[i]);
            continue;
        }
        Sizes further;
        for (const index offset : x_offsets)
            for (index k = 0; k < x_sizes[i]; ++k) further.push_back(offset + k * x_strides[i]);
        x_offsets = further;
    }
    for (const char32_t a : w_axes)
        if (!in(x_axes, a) && !in(y_axes, a)) throw std::invalid_argument("einsum: an axis of w is neither x's nor y's");
    const auto size = [&](const Names& names) {
        index product = 1;
        for (const char32_t a : names) product *= sizes.at(a);
        return product;
    };
    products = size(shared), rows = size(of_rows), inner = size(of_sum), columns = size(of_columns);
    x = layout_of(x_axes, sizes, shared, of_rows, of_sum);
    x.direct = x.direct && x_offsets.size() == 1;
    if (!x.direct) x.next = rows * inner, x.row = inner, x.column = 1;
    w = layout_of(w_axes, sizes, shared, of_sum, of_columns);
    y = layout_of(y_axes, sizes, shared, of_rows, of_columns);
    x_size = product_of(x_sizes), w_size = product_of(w_sizes), y_size = product_of(y_sizes);
    if (!bias.empty()) {
        if (bias.size() > y_sizes.size()) throw std::invalid_argument("einsum: the bias has more axes than y");
        bias_size = product_of(bias);
        bias_strides.assign(y_sizes.size() - bias.size(), 0);
        const Sizes strides = strides_of(bias);
        for (std::size_t i = 0; i < bias.size(); ++i) {
            const index whole = y_sizes[y_sizes.size() - bias.size() + i];
            if (bias[i] != 1 && bias[i] != whole) throw std::invalid_argument("einsum: the bias does not broadcast to y");
            bias_strides.push_back(bias[i] == 1 ? 0 : strides[i]);
        }
        bias_sizes = y_sizes;
        simplify(bias_sizes, bias_strides);
    }
    const auto dense = [](const Layout& l, index line) { return l.direct && l.column == 1 && l.row == line; };
    // A bias of y's last axes, whole, and of nothing else.
    const bool for_columns = bias_size == 0 || (bias_size == columns && (columns == 1 || (bias_strides.back() == 1 &&
                                                                                        bias_sizes.back() == columns)));
    is_dense = products == 1 && dense(x, inner) && dense(w, columns) && dense(y, columns) && for_columns;
}

template <class T>
void einsum_forward(const Einsum& s, const T* x, const T* w, const T* bias, Activation activation, T* y) {
    if (s.is_dense) return dense_forward(s.rows, s.inner, s.columns, x, w, bias, activation, y);
    const Ordered<T> a(s.x, x, s.x_offsets), b(s.w, w);
    const Result<T> c(s.y, y);
    multiply_all(s.products, s.rows, s.columns, s.inner, a.matrices, b.matrices, c.matrices(), false);
    c.put(false);
    if (bias) gather(s.bias_sizes, s.bias_strides, bias, y, true);
    if (activation != Activation::linear) activation_forward(activation, s.y_size, y, y);
}

template <class T>
void einsum_backward(const Einsum& s, const T* x, const T* w, const T* dy, T* dx, T* dw, T* dbias, bool add) {
    if (s.is_dense && dw && add) {
        dense_weight_gradient(s.rows, s.inner, s.columns, x, dy, dw, dbias);
        if (dx) dense_input_gradient(s.rows, s.inner, s.columns, dy, w, dx);
        return;
    }
    if (dbias) {
        if (s.bias_sizes.size() == 2 && s.bias_strides[0] == 0 && s.bias_strides[1] == 1)
            add_column_sums(s.bias_sizes[0], s.bias_sizes[1], dy, s.bias_sizes[1], dbias);
        else
            scatter(s.bias_sizes, s.bias_strides, dy, dbias, true);
    }
    const Ordered<T> d(s.y, dy);
    if (dx) {
        const Ordered<T> b(s.w, w);
        const Result<T> c(s.x, dx);
        multiply_all(s.products, s.rows, s.inner, s.columns, d.matrices, b.matrices.transposed(), c.matrices(), false);
        c.put(false, s.x_offsets);
    }
    if (dw) {
        const Ordered<T> a(s.x, x, s.x_offsets);
        const Result<T> c(s.w, dw);
        multiply_all(s.products, s.inner, s.columns, s.rows, a.matrices.transposed(), d.matrices, c.matrices(),
                     add && s.w.direct);
        c.put(add);
    }
}

#define INSTANTIATE(T)                                                                                    \
    template void einsum_forward(const Einsum&, const T*, const T*, const T*, Activation, T*);            \
    template void einsum_backward(const Einsum&, const T*, const T*, const T*, T*, T*, T*, bool);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
