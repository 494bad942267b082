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

// The sum of f(row) over rows, in four chains, since one would wait for each addition.
template <class T, class F>
VIVACE_INLINE vec<T> sum_rows(index rows, F&& f) {
    vec<T> sums[4] = {};
    index r = 0;
    for (; r + 4 <= rows; r += 4)
        for (index k = 0; k < 4; ++k) sums[k] += f(r + k);
    for (; r < rows; ++r) sums[0] += f(r);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// Blocks of rows of about 64 KiB of floats.
struct Blocks {
    index rows, size, count;
    Blocks(index rows_, index columns)
        : rows(rows_), size(std::max<index>(4, 16384 / std::max<index>(1, columns) / 4 * 4)), count((rows_ + size - 1) / size) {}
    index first(index block) const { return block * size; }
    index length(index block) const { return std::min(size, rows - block * size); }
};

index counted(const std::uint8_t* mask, index rows) {
    if (!mask) return rows;
    index count = 0;
    for (index r = 0; r < rows; ++r) count += mask[r] != 0;
    return count;
}

// One channel's mean and sum of squared deviations over `count` elements.
template <class T>
struct Moments {
    T count, mean, deviations;

    void merge(const Moments& other) {
        const T total = count + other.count;
        if (other.count == 0) return;
        const T difference = other.mean - mean, part = other.count / total;
        mean += difference * part;
        deviations += other.deviations + difference * difference * count * part;
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
    const Blocks blocks(s.rows, s.channels);
    const index c = s.channels, parts = s.samples * blocks.count;
    Scratch<T> means(parts * c), deviations(parts * c), counts(parts);
    for_each_block(s, blocks, [&](index sample, index block, index first, index rows) {
        const index part = sample * blocks.count + block;
        const T* in = x + first * c;
        const std::uint8_t* counts_row = mask ? mask + first : nullptr;
        const T count = static_cast<T>(counted(counts_row, rows)), share = count > 0 ? 1 / count : 0;
        counts[part] = count;
        for_each_vector<T>(c, [&](index i, auto n) {
            const auto value = [&](index r) { return load_n(in + r * c + i, n); };
            vec<T> m, d;
            if (counts_row) {
                m = sum_rows<T>(rows, [&](index r) { return counts_row[r] ? value(r) : vec<T>{}; }) * share;
                d = sum_rows<T>(rows, [&](index r) { return counts_row[r] ? (value(r) - m) * (value(r) - m) : vec<T>{}; });
            } else {
                m = sum_rows<T>(rows, value) * share;
                d = sum_rows<T>(rows, [&](index r) { return (value(r) - m) * (value(r) - m); });
            }
            store_n(means + part * c + i, m, n);
            store_n(deviations + part * c + i, d, n);
        });
    });
    const index width = s.group_size();
    parallel_for(s.samples * s.groups, static_cast<double>(parts * c), [&](index task, int) {
        const index sample = task / s.groups, group = task % s.groups;
        Moments<T> total{};
        for (index block = 0; block < blocks.count; ++block)
            for (index i = group * width; i < (group + 1) * width; ++i) {
                const index part = sample * blocks.count + block;
                total.merge({counts[part], means[part * c + i], deviations[part * c + i]});
            }
        mean[task] = total.mean;
        variance[task] = total.count > 0 ? total.deviations / total.count : T{0};
    });
}

template <class T>
void group_norm_forward(const GroupNormShape& s, const T* x, const T* mean, const T* variance, double epsilon,
                        const T* gamma, const T* beta, T* y) {
    const Blocks blocks(s.rows, s.channels);
    const index c = s.channels;
    Scratch<T> means(s.samples * c), scales(s.samples * c);
    expand_groups<T>(s, mean, variance, epsilon, means, scales);
    multiply_rows<T>(s.samples, c, gamma, scales);
    for_each_block(s, blocks, [&](index sample, index, index first, index rows) {
        const T *m = means + sample * c, *a = scales + sample * c;
        for_each_vector<T>(c, [&](index i, auto n) {
            const vec<T> mi = load_n(m + i, n), ai = load_n(a + i, n), bi = beta ? load_n(beta + i, n) : vec<T>{};
            for (index r = first; r < first + rows; ++r)
                store_n(y + r * c + i, (load_n(x + r * c + i, n) - mi) * ai + bi, n);
        });
    });
}

template <class T>
void group_norm_backward(const GroupNormShape& s, const T* x, const std::uint8_t* mask, const T* mean,
                         const T* variance, double epsilon, const T* gamma, const T* dy, bool constant, T* dx,
                         T* dgamma, T* dbeta) {
    const Blocks blocks(s.rows, s.channels);
    const index c = s.channels, parts = s.samples * blocks.count, width = s.group_size();
    Scratch<T> means(s.samples * c), scales(s.samples * c), shift(s.samples * c), slope(s.samples * c);
    expand_groups<T>(s, mean, variance, epsilon, means, scales);

    // sum(dy) and sum(dy n) of every channel of every block, then of every sample
    Scratch<T> sums(parts * c), products(parts * c);
    for_each_block(s, blocks, [&](index sample, index block, index first, index rows) {
        const index part = sample * blocks.count + block;
        const T *in = x + first * c, *d = dy + first * c;
        for_each_vector<T>(c, [&](index i, auto n) {
            const vec<T> m = load_n(means + sample * c + i, n), scale = load_n(scales + sample * c + i, n);
            store_n(sums + part * c + i, sum_rows<T>(rows, [&](index r) { return load_n(d + r * c + i, n); }), n);
            const auto product = [&](index r) { return load_n(d + r * c + i, n) * (load_n(in + r * c + i, n) - m); };
            store_n(products + part * c + i, sum_rows<T>(rows, product) * scale, n);
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
        for_each_vector<T>(c, [&](index i, auto n) {
            const index at = sample * c + i;
            const vec<T> m = load_n(means + at, n), a = load_n(scales + at, n), b = load_n(shift + at, n),
                         k = load_n(slope + at, n);
            for (index r = first; r < first + rows; ++r) {
                const vec<T> own = load_n(dy + r * c + i, n) * a;
                const bool counts = !mask || mask[r];
                store_n(dx + r * c + i, counts ? own - (b + (load_n(x + r * c + i, n) - m) * k) : own, n);
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
            mean[r] = m;
            scale[r] = a;
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
                                     T*);                                                                             \
    template void group_norm_backward(const GroupNormShape&, const T*, const std::uint8_t*, const T*, const T*,       \
                                      double, const T*, const T*, bool, T*, T*, T*);                                  \
    template void row_norm_forward(RowNorm, index, index, const T*, const T*, const T*, double, T*, T*, T*);          \
    template void row_norm_backward(RowNorm, index, index, const T*, const T*, const T*, const T*, const T*, T*, T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
