// Sums over rows run in blocks whose size depends on the shape alone, and the blocks' results are combined in order: the
// same bits for every thread count. A block's variance is taken about its own mean while it is in cache, and merged by
// the rule of Chan, Golub and LeVeque (1979): one pass over memory, and no cancellation.
#include "vivace/normalization.h"

#include <cmath>

#include "parallel.h"
#include "simd.h"

namespace vivace {
namespace {

constexpr double cost_per_element = 4;

// Runs f(i, n, w) for neighbouring vectors of a row: w of them (a constant: 4, 2 or 1) from column i on, the last with n
// lanes. Whoever goes down the rows then reads whole cache lines.
template <class T, class F>
VIVACE_INLINE void for_each_columns(index columns, F&& f) {
    constexpr std::integral_constant<index, lanes<T>> whole{};
    index i = 0;
    for (; i + 4 * lanes<T> <= columns; i += 4 * lanes<T>) f(i, whole, std::integral_constant<int, 4>{});
    if (i + 2 * lanes<T> <= columns) {
        f(i, whole, std::integral_constant<int, 2>{});
        i += 2 * lanes<T>;
    }
    for_each_vector<T>(columns - i, [&](index j, auto n) { f(i + j, n, std::integral_constant<int, 1>{}); });
}

// The vectors at p[0 .. w - 1], the last with n lanes.
template <class T, int W>
struct Columns {
    vec<T> v[W];
    template <class N>
    VIVACE_INLINE Columns(const T* p, N n) {
        for (int k = 0; k < W; ++k) v[k] = load_n(p + k * lanes<T>, n);
    }
    VIVACE_INLINE const vec<T>& operator[](int k) const { return v[k]; }
};

// S sums over rows of W vectors each: f(row, k) gives the terms of the k-th. In eight chains, since one would wait for
// each addition.
template <class T, int S>
struct Terms {
    vec<T> of[S];
};
template <class T, int S, int W, class F>
VIVACE_INLINE void sum_rows(index rows, vec<T> (&sums)[S][W], F&& f) {
    constexpr int chains = 8 / (S * W);
    vec<T> parts[chains][S][W] = {};
    index r = 0;
    for (; r + chains <= rows; r += chains)
        for (int c = 0; c < chains; ++c)
            for (int k = 0; k < W; ++k) {
                const Terms<T, S> terms = f(r + c, k);
                for (int s = 0; s < S; ++s) parts[c][s][k] += terms.of[s];
            }
    for (; r < rows; ++r)
        for (int k = 0; k < W; ++k) {
            const Terms<T, S> terms = f(r, k);
            for (int s = 0; s < S; ++s) parts[0][s][k] += terms.of[s];
        }
    for (int half = chains / 2; half > 0; half /= 2)
        for (int c = 0; c < half; ++c)
            for (int s = 0; s < S; ++s)
                for (int k = 0; k < W; ++k) parts[c][s][k] += parts[c + half][s][k];
    for (int s = 0; s < S; ++s)
        for (int k = 0; k < W; ++k) sums[s][k] = parts[0][s][k];
}

// Blocks of rows of about so many elements in all.
struct Blocks {
    index rows, size, count;
    Blocks(index rows_, index columns, index elements = 16384)
        : rows(rows_),
          size(std::max<index>(4, elements / std::max<index>(1, columns) / 4 * 4)),
          count((rows_ + size - 1) / size) {}
    index first(index block) const { return block * size; }
    index length(index block) const { return std::min(size, rows - block * size); }
};

index counted(const std::uint8_t* mask, index rows) {
    if (!mask) return rows;
    index count = 0;
    for (index r = 0; r < rows; ++r) count += mask[r] != 0;
    return count;
}

// Means and sums of squared deviations of some channels, over `count` elements each.
template <class T>
struct Moments {
    T count;
    T *means, *deviations;

    void merge(index channels, const Moments& other) {
        if (other.count == 0) return;
        const T total = count + other.count, part = other.count / total, weight = count * part;
        for (index i = 0; i < channels; ++i) {
            const T difference = other.means[i] - means[i];
            means[i] += difference * part;
            deviations[i] += other.deviations[i] + difference * difference * weight;
        }
        count = total;
    }
};

// Calls f(sample, block, first row, rows) for all blocks of all samples.
template <class F>
void for_each_block(const GroupNormShape& s, const Blocks& blocks, F&& f) {
    parallel_for(s.samples * blocks.count, cost_per_element * static_cast<double>(s.size()), [&](index task, int) {
        const index sample = task / blocks.count, block = task % blocks.count;
        f(sample, block, sample * s.rows + blocks.first(block), blocks.length(block));
    });
}

// to (columns) += every row of x (rows, columns), in order.
template <class T>
void add_rows(index rows, index columns, const T* x, T* to) {
    for (index r = 0; r < rows; ++r)
        for (index i = 0; i < columns; ++i) to[i] += x[r * columns + i];
}

// x (rows, columns) *= gamma (columns).
template <class T>
void multiply_rows(index rows, index columns, const T* gamma, T* x) {
    for (index r = 0; gamma && r < rows; ++r)
        for (index i = 0; i < columns; ++i) x[r * columns + i] *= gamma[i];
}

// 1 / sqrt(variance + epsilon) and the mean, repeated for every channel: (samples, channels) each.
template <class T>
void expand_groups(const GroupNormShape& s, const T* mean, const T* variance, double epsilon, T* means, T* scales) {
    const index width = s.group_size();
    for (index group = 0; group < s.samples * s.groups; ++group) {
        const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(variance[group]) + epsilon));
        std::fill_n(means + group * width, width, mean[group]);
        std::fill_n(scales + group * width, width, scale);
    }
}

}  // namespace

template <class T>
void group_norm_moments(const GroupNormShape& s, const T* x, const std::uint8_t* mask, T* mean, T* variance) {
    const Blocks blocks(s.rows, s.channels, 4096);  // is read twice: stays in the first cache
    const index c = s.channels, parts = s.samples * blocks.count;
    Scratch<T> means(parts * c), deviations(parts * c), counts(parts);
    for_each_block(s, blocks, [&](index sample, index block, index first, index rows) {
        const index part = sample * blocks.count + block;
        const std::uint8_t* in_count = mask ? mask + first : nullptr;
        const T count = static_cast<T>(counted(in_count, rows)), share = count > 0 ? 1 / count : 0;
        counts[part] = count;
        for_each_columns<T>(c, [&](index i, auto n, auto w) {
            constexpr int W = decltype(w)::value;
            const T* in = x + first * c + i;
            const auto value = [&](index r, int k) { return load_n(in + r * c + k * lanes<T>, n); };
            vec<T> m[1][W], d[1][W];
            if (in_count)
                sum_rows<T>(rows, m, [&](index r, int k) { return Terms<T, 1>{in_count[r] ? value(r, k) : vec<T>{}}; });
            else
                sum_rows<T>(rows, m, [&](index r, int k) { return Terms<T, 1>{value(r, k)}; });
            for (int k = 0; k < W; ++k) m[0][k] *= share;
            const auto square = [&](index r, int k) {
                const vec<T> difference = value(r, k) - m[0][k];
                return difference * difference;
            };
            if (in_count)
                sum_rows<T>(rows, d, [&](index r, int k) { return Terms<T, 1>{in_count[r] ? square(r, k) : vec<T>{}}; });
            else
                sum_rows<T>(rows, d, [&](index r, int k) { return Terms<T, 1>{square(r, k)}; });
            for (int k = 0; k < W; ++k) {
                store_n(means + part * c + i + k * lanes<T>, m[0][k], n);
                store_n(deviations + part * c + i + k * lanes<T>, d[0][k], n);
            }
        });
    });
    const index width = s.group_size();
    parallel_for(s.samples, 4.0 * static_cast<double>(parts * c), [&](index sample, int) {
        const auto moments = [&](index block, index channel) {
            const index part = sample * blocks.count + block, at = part * c + channel;
            return Moments<T>{counts[part], means + at, deviations + at};
        };
        Moments<T> all = moments(0, 0);
        for (index block = 1; block < blocks.count; ++block) all.merge(c, moments(block, 0));
        for (index group = 0; group < s.groups; ++group) {
            Moments<T> own{all.count, all.means + group * width, all.deviations + group * width};
            for (index i = 1; i < width; ++i) own.merge(1, {all.count, own.means + i, own.deviations + i});
            mean[sample * s.groups + group] = *own.means;
            variance[sample * s.groups + group] = own.count > 0 ? *own.deviations / own.count : T{0};
        }
    });
}

template <class T>
void group_norm_forward(const GroupNormShape& s, const T* x, const T* mean, const T* variance, double epsilon,
                        const T* gamma, const T* beta, const T* residual, bool relu, T* y) {
    const Blocks blocks(s.rows, s.channels);
    const index c = s.channels;
    Scratch<T> means(s.samples * c), scales(s.samples * c);
    expand_groups<T>(s, mean, variance, epsilon, means, scales);
    multiply_rows<T>(s.samples, c, gamma, scales);
    for_each_block(s, blocks, [&](index sample, index, index first, index rows) {
        for_each_columns<T>(c, [&](index i, auto n, auto w) {
            constexpr int W = decltype(w)::value;
            const Columns<T, W> m(means + sample * c + i, n), a(scales + sample * c + i, n);
            vec<T> b[W] = {};
            for (int k = 0; beta && k < W; ++k) b[k] = load_n(beta + i + k * lanes<T>, n);
            for (index r = first; r < first + rows; ++r)
                for (int k = 0; k < W; ++k) {
                    const index at = r * c + i + k * lanes<T>;
                    vec<T> v = (load_n(x + at, n) - m[k]) * a[k] + b[k];
                    if (residual) v += load_n(residual + at, n);
                    store_n(y + at, relu ? maximum(vec<T>{}, v) : v, n);  // NaN stays NaN
                }
        });
    });
}

template <class T>
void group_norm_backward(const GroupNormShape& s, const T* x, const std::uint8_t* mask, const T* mean,
                         const T* variance, double epsilon, const T* gamma, const T* y, T* dy, bool constant, T* dx,
                         T* dgamma, T* dbeta) {
    const Blocks blocks(s.rows, s.channels);
    const index c = s.channels, parts = s.samples * blocks.count, width = s.group_size();
    Scratch<T> means(s.samples * c), scales(s.samples * c), shift(s.samples * c), slope(s.samples * c);
    expand_groups<T>(s, mean, variance, epsilon, means, scales);

    // sum(dy) and sum(dy n) of every channel of every block, then of every sample
    Scratch<T> sums(parts * c), products(parts * c);
    for_each_block(s, blocks, [&](index sample, index block, index first, index rows) {
        const index part = sample * blocks.count + block;
        for_each_columns<T>(c, [&](index i, auto n, auto w) {
            constexpr int W = decltype(w)::value;
            const Columns<T, W> m(means + sample * c + i, n), scale(scales + sample * c + i, n);
            vec<T> both[2][W];
            sum_rows<T>(rows, both, [&](index r, int k) {
                const index at = (first + r) * c + i + k * lanes<T>;
                vec<T> d = load_n(dy + at, n);
                if (y) {
                    d = load_n(y + at, n) > T{0} ? d : vec<T>{};
                    store_n(dy + at, d, n);
                }
                return Terms<T, 2>{d, d * (load_n(x + at, n) - m[k])};
            });
            for (int k = 0; k < W; ++k) {
                store_n(sums + part * c + i + k * lanes<T>, both[0][k], n);
                store_n(products + part * c + i + k * lanes<T>, both[1][k] * scale[k], n);
            }
        });
    });
    for (index sample = 0; sample < s.samples; ++sample) {
        T *sum = sums + sample * blocks.count * c, *product = products + sample * blocks.count * c;
        add_rows(blocks.count - 1, c, sum + c, sum);
        add_rows(blocks.count - 1, c, product + c, product);
        if (dbeta) add_rows(1, c, sum, dbeta);
        if (dgamma) add_rows(1, c, product, dgamma);
        const index count = counted(mask ? mask + sample * s.rows : nullptr, s.rows) * width;
        const T share = constant || count == 0 ? T{0} : T{1} / static_cast<T>(count);
        for (index group = 0; group < s.groups; ++group) {
            T g = 0, gn = 0;
            for (index i = group * width; i < (group + 1) * width; ++i) {
                g += sum[i] * (gamma ? gamma[i] : T{1});
                gn += product[i] * (gamma ? gamma[i] : T{1});
            }
            for (index i = sample * c + group * width; i < sample * c + (group + 1) * width; ++i) {
                shift[i] = scales[i] * g * share;
                slope[i] = scales[i] * scales[i] * gn * share;
            }
        }
    }
    if (!dx) return;
    multiply_rows<T>(s.samples, c, gamma, scales);
    for_each_block(s, blocks, [&](index sample, index, index first, index rows) {
        for_each_columns<T>(c, [&](index i, auto n, auto w) {
            constexpr int W = decltype(w)::value;
            const index column = sample * c + i;
            const Columns<T, W> m(means + column, n), a(scales + column, n), b(shift + column, n), slopes(slope + column, n);
            for (index r = first; r < first + rows; ++r) {
                const bool counts = !mask || mask[r];
                for (int k = 0; k < W; ++k) {
                    const index at = r * c + i + k * lanes<T>;
                    const vec<T> own = load_n(dy + at, n) * a[k];
                    store_n(dx + at, counts ? own - (b[k] + (load_n(x + at, n) - m[k]) * slopes[k]) : own, n);
                }
            }
        });
    });
}

namespace {

// The sum over a row of f(i, n), a register at a time; lanes from n on must be 0.
template <class T, class F>
VIVACE_INLINE T sum_row(index columns, F&& f) {
    vec<T> sum{};
    for_each_vector<T>(columns, [&](index i, auto n) { sum += f(i, n); });
    return horizontal_sum<T>(sum);
}

// v with the lanes from n on 0.
template <class T, class N>
VIVACE_INLINE vec<T> first_lanes(vec<T> v, N n) {
    if constexpr (!std::is_same_v<N, std::integral_constant<index, lanes<T>>>)
        for (index i = n; i < lanes<T>; ++i) v[i] = 0;
    return v;
}

}  // namespace

template <class T>
void row_norm_forward(RowNorm kind, index rows, index columns, const T* x, const T* gamma, const T* beta,
                      double epsilon, T* y, T* mean, T* scale) {
    const Blocks blocks(rows, columns);
    const T share = 1 / static_cast<T>(columns), eps = static_cast<T>(epsilon);
    parallel_for(blocks.count, 2 * cost_per_element * static_cast<double>(rows * columns), [&](index block, int) {
        for (index r = blocks.first(block); r < blocks.first(block) + blocks.length(block); ++r) {
            const T* in = x + r * columns;
            T* out = y + r * columns;
            const auto value = [&](index i, auto n) { return load_n(in + i, n); };
            const T m = kind == RowNorm::rms ? T{0} : sum_row<T>(columns, value) * share;
            const T squares = sum_row<T>(columns, [&](index i, auto n) {
                const vec<T> d = first_lanes<T>(load_n(in + i, n) - m, n);
                return d * d;
            });
            const T a = 1 / std::sqrt(squares * share + eps), centre = kind == RowNorm::layer ? m : T{0};
            if (mean) mean[r] = m;
            if (scale) scale[r] = a;
            for_each_vector<T>(columns, [&](index i, auto n) {
                vec<T> v = (load_n(in + i, n) - centre) * a;
                if (gamma) v *= load_n(gamma + i, n);
                if (beta) v += load_n(beta + i, n);
                store_n(out + i, v, n);
            });
        }
    });
}

template <class T>
void row_norm_backward(RowNorm kind, index rows, index columns, const T* x, const T* gamma, const T* mean,
                       const T* scale, const T* dy, T* dx, T* dgamma, T* dbeta) {
    const Blocks blocks(rows, columns);
    const T share = 1 / static_cast<T>(columns);
    const index partial = (dgamma || dbeta) ? blocks.count * columns : 0;
    Scratch<T> gammas(partial), betas(partial);
    const double cost = 3 * cost_per_element * static_cast<double>(rows * columns);
    parallel_for(blocks.count, cost, [&](index block, int) {
        const index first = blocks.first(block), length = blocks.length(block);
        const T *in = x + first * columns, *d = dy + first * columns;
        if (partial)
            for_each_vector<T>(columns, [&](index i, auto n) {
                vec<T> sum{}, product{};
                for (index r = 0; r < length; ++r) {
                    const T centre = kind == RowNorm::layer ? mean[first + r] : T{0};
                    const vec<T> g = load_n(d + r * columns + i, n);
                    sum += g;
                    product += g * ((load_n(in + r * columns + i, n) - centre) * scale[first + r]);
                }
                store_n(betas + block * columns + i, sum, n);
                store_n(gammas + block * columns + i, product, n);
            });
        if (!dx) return;
        for (index r = 0; r < length; ++r) {
            const T m = mean[first + r], a = scale[first + r], centre = kind == RowNorm::layer ? m : T{0};
            const T *xr = in + r * columns, *dr = d + r * columns;
            T* out = dx + (first + r) * columns;
            const auto gradient = [&](index i, auto n) {
                const vec<T> g = load_n(dr + i, n);
                return gamma ? g * load_n(gamma + i, n) : g;
            };
            // y = (x - centre) a, and a depends on x through the squares about m (0 for rms).
            const T sum = kind == RowNorm::layer ? sum_row<T>(columns, gradient) * share : T{0};
            const T product = sum_row<T>(columns, [&](index i, auto n) {
                return gradient(i, n) * (load_n(xr + i, n) - centre);
            }) * share * a * a;
            for_each_vector<T>(columns, [&](index i, auto n) {
                store_n(out + i, a * (gradient(i, n) - sum - (load_n(xr + i, n) - m) * product), n);
            });
        }
    });
    if (dgamma) add_rows<T>(blocks.count, columns, gammas, dgamma);
    if (dbeta) add_rows<T>(blocks.count, columns, betas, dbeta);
}

#define INSTANTIATE(T)                                                                                                \
    template void group_norm_moments(const GroupNormShape&, const T*, const std::uint8_t*, T*, T*);                   \
    template void group_norm_forward(const GroupNormShape&, const T*, const T*, const T*, double, const T*, const T*, \
                                     const T*, bool, T*);                                                             \
    template void group_norm_backward(const GroupNormShape&, const T*, const std::uint8_t*, const T*, const T*,       \
                                      double, const T*, const T*, T*, bool, T*, T*, T*);                              \
    template void row_norm_forward(RowNorm, index, index, const T*, const T*, const T*, double, T*, T*, T*);          \
    template void row_norm_backward(RowNorm, index, index, const T*, const T*, const T*, const T*, const T*, T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
