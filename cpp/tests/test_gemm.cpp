#include "check.h"
#include "vivace/elementwise.h"
#include "vivace/gemm.h"
#include "vivace/parallel.h"
#include "vivace/reference.h"

namespace vivace::tests {
namespace {

template <class T>
void gemm_equals_reference(index m, index n, index k) {
    const auto a = integers<T>(m * k), b = integers<T>(k * n), start = integers<T>(m * n);
    for (int mode = 0; mode < 8; ++mode) {
        const bool transpose_a = mode & 1, transpose_b = mode & 2, accumulate = mode & 4;
        auto c = accumulate ? start : unset<T>(m * n), expected = start;
        gemm(m, n, k, a.data(), transpose_a, b.data(), transpose_b, c.data(), accumulate);
        reference::gemm(m, n, k, a.data(), transpose_a, b.data(), transpose_b, expected.data(), accumulate);
        CHECK_EQUAL(c, expected, show(m, n, k, transpose_a, transpose_b, accumulate));
    }
}

// Matrices inside larger ones: what lies between the rows of c must stay as it was, and is not read in a and b.
template <class T>
void strided_equals_reference(index m, index n, index k) {
    const T outside = 1000;
    const auto a = integers<T>(m * k), b = integers<T>(k * n), start = integers<T>(m * n), bias = integers<T>(n);
    const auto spread = [&](const std::vector<T>& dense, index rows, index columns, index ld, T fill) {
        std::vector<T> wide(static_cast<std::size_t>(rows * ld), fill);
        for (index r = 0; r < rows; ++r) std::copy_n(dense.data() + r * columns, columns, wide.data() + r * ld);
        return wide;
    };
    for (int mode = 0; mode < 16; ++mode) {
        const bool transpose_a = mode & 1, transpose_b = mode & 2, accumulate = mode & 4, with_bias = mode & 8;
        const index rows_a = transpose_a ? k : m, columns_a = transpose_a ? m : k;
        const index rows_b = transpose_b ? n : k, columns_b = transpose_b ? k : n;
        const index lda = columns_a + 5, ldb = columns_b + 32, ldc = n + 3;
        const auto wide_a = spread(a, rows_a, columns_a, lda, static_cast<T>(NAN));
        const auto wide_b = spread(b, rows_b, columns_b, ldb, static_cast<T>(NAN));
        auto expected = start;
        reference::gemm(m, n, k, a.data(), transpose_a, b.data(), transpose_b, expected.data(), accumulate);
        for (index i = 0; with_bias && i < m * n; ++i)
            expected[static_cast<std::size_t>(i)] += bias[static_cast<std::size_t>(i % n)];
        auto c = spread(start, m, n, ldc, outside);
        gemm_strided(m, n, k, wide_a.data(), lda, transpose_a, wide_b.data(), ldb, transpose_b,
                     with_bias ? bias.data() : nullptr, c.data(), ldc, accumulate);
        CHECK_EQUAL(c, spread(expected, m, n, ldc, outside),
                    show(m, n, k, transpose_a, transpose_b, accumulate, with_bias));
    }
}

template <class T>
void dense_equals_reference(index n, index i, index o) {
    const auto x = integers<T>(n * i), w = integers<T>(i * o), b = integers<T>(o), dy = integers<T>(n * o);
    std::vector<T> product(dy.size());
    reference::gemm(n, o, i, x.data(), false, w.data(), false, product.data(), false);
    for (bool with_bias : {true, false}) {
        auto sum = product;
        for (std::size_t r = 0; with_bias && r < sum.size(); ++r) sum[r] += b[r % b.size()];
        for (Activation activation : {Activation::linear, Activation::relu, Activation::sigmoid, Activation::tanh}) {
            auto y = unset<T>(n * o);
            dense_forward(n, i, o, x.data(), w.data(), with_bias ? b.data() : nullptr, activation, y.data());
            std::vector<double> expected;
            for (T value : sum) {
                const double v = static_cast<double>(value);
                expected.push_back(activation == Activation::relu      ? std::max(0.0, v)
                                   : activation == Activation::sigmoid ? 1 / (1 + std::exp(-v))
                                   : activation == Activation::tanh    ? std::tanh(v)
                                                                       : v);
            }
            const bool exact = activation == Activation::linear || activation == Activation::relu;
            const double tolerance = exact ? 0 : sizeof(T) == 4 ? 4e-7 : 1e-15;
            CHECK_CLOSE(y, expected, tolerance, 1e-37 * !exact, show(n, i, o, static_cast<int>(activation), with_bias));
        }
    }
    auto dx = unset<T>(n * i), dw = integers<T>(i * o), db = integers<T>(o);
    auto dx2 = dx, dw2 = dw, db2 = db;
    dense_input_gradient(n, i, o, dy.data(), w.data(), dx.data());
    reference::gemm(n, i, o, dy.data(), false, w.data(), true, dx2.data(), false);
    CHECK_EQUAL(dx, dx2, show(n, i, o));
    reference::gemm(i, o, n, x.data(), true, dy.data(), false, dw2.data(), true);
    for (std::size_t r = 0; r < dy.size(); ++r) db2[r % db2.size()] += dy[r];
    const auto dw_start = dw;
    dense_weight_gradient(n, i, o, x.data(), dy.data(), dw.data(), db.data());
    CHECK_EQUAL(dw, dw2, show(n, i, o));
    CHECK_EQUAL(db, db2, show(n, i, o));
    dw = dw_start;
    dense_weight_gradient<T>(n, i, o, x.data(), dy.data(), dw.data(), nullptr);
    CHECK_EQUAL(dw, dw2, show(n, i, o));
}

template <class T>
void column_sums(index rows, index columns, index ld) {
    const auto x = integers<T>(rows * ld);
    auto sums = integers<T>(columns), expected = sums;
    for (index r = 0; r < rows; ++r)
        for (index c = 0; c < columns; ++c)
            expected[static_cast<std::size_t>(c)] += x[static_cast<std::size_t>(r * ld + c)];
    add_column_sums(rows, columns, x.data(), ld, sums.data());
    CHECK_EQUAL(sums, expected, show(rows, columns, ld));
}

// The same bits for 1, 2 and 3 threads, on real values, whose sums depend on their order.
template <class T>
void threads_agree(index m, index n, index k) {
    const auto a = reals<T>(m * k), b = reals<T>(k * n), start = reals<T>(m * n), bias = reals<T>(n);
    for (int mode = 0; mode < 4; ++mode) {
        std::vector<T> first, first_strided;
        for (int threads : {1, 2, 3}) {
            set_num_threads(threads);
            auto c = start, strided = start;
            gemm(m, n, k, a.data(), mode & 1, b.data(), mode & 2, c.data(), true);
            gemm_strided(m, n, k, a.data(), mode & 1 ? m : k, mode & 1, b.data(), mode & 2 ? k : n, mode & 2,
                         bias.data(), strided.data(), n, false);
            if (threads == 1) first = c, first_strided = strided;
            CHECK_FOR(same_bits(c, first) && same_bits(strided, first_strided), show(m, n, k, mode, threads));
        }
    }
    std::vector<T> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        auto dw = start, db = bias;
        dense_weight_gradient(k, m, n, a.data(), b.data(), dw.data(), db.data());
        dw.insert(dw.end(), db.begin(), db.end());
        if (threads == 1) first = dw;
        CHECK_FOR(same_bits(dw, first), show(m, n, k, "weight gradient", threads));
    }
}

template <class T>
void all(const std::vector<index>& sizes) {
    for (index m : sizes)
        for (index n : sizes)
            for (index k : {1, 9, 40}) gemm_equals_reference<T>(m, n, k);
    // Packed, k in one block and in several; ragged in every direction.
    gemm_equals_reference<T>(96, 96, 96);
    gemm_equals_reference<T>(97, 113, 260);
    gemm_equals_reference<T>(130, 100, 300);
    gemm_equals_reference<T>(101, 99, 515);
    // Long sums in several chunks; few rows against many columns and the other way round.
    gemm_equals_reference<T>(33, 40, 1000);
    gemm_equals_reference<T>(32, 48, 900);
    gemm_equals_reference<T>(100, 97, 700);
    gemm_equals_reference<T>(5, 300, 70);
    gemm_equals_reference<T>(300, 5, 70);
    gemm_equals_reference<T>(32, 160, 128);
    // No product to sum up: c = 0, or as it was. No c at all.
    gemm_equals_reference<T>(5, 33, 0);
    gemm_equals_reference<T>(300, 7, 0);
    gemm_equals_reference<T>(1, 7, 0);
    gemm_equals_reference<T>(0, 33, 4);
    gemm_equals_reference<T>(5, 0, 4);
    // More rows than are few; several pieces of few; more panels than a group of them.
    gemm_equals_reference<T>(257, 37, 70);
    gemm_equals_reference<T>(19, 70, 1100);
    gemm_equals_reference<T>(20, 530, 70);
    // Sums cut into parts: 4096 rows are long at every level.
    gemm_equals_reference<T>(1, 1, 4099);
    gemm_equals_reference<T>(17, 35, 4100);
    gemm_equals_reference<T>(3, 300, 4200);
    strided_equals_reference<T>(15, 37, 4101);
    for (int i = 0; i < 20; ++i)
        gemm_equals_reference<T>(random_index(1, 70), random_index(1, 70), random_index(1, 120));
    for (index m : {1, 7, 40, 110})
        for (index n : {1, 16, 37, 101}) strided_equals_reference<T>(m, n, m == 110 ? 280 : 23);
    strided_equals_reference<T>(20, 24, 1700);
    dense_equals_reference<T>(1, 1, 1);
    dense_equals_reference<T>(3, 17, 10);
    dense_equals_reference<T>(32, 130, 64);
    dense_equals_reference<T>(64, 33, 128);
    dense_equals_reference<T>(100, 120, 97);
    dense_equals_reference<T>(9, 1100, 37);
    dense_equals_reference<T>(4100, 19, 21);
    dense_equals_reference<T>(4100, 7, 530);  // more panels than a group of them, sums in parts and whole
    dense_equals_reference<T>(70, 90, 530);
    for (index columns : {1, 5, 16, 63, 64, 65, 200}) column_sums<T>(11, columns, columns + columns % 3);
    threads_agree<T>(64, 128, 800);
    threads_agree<T>(203, 197, 300);
    threads_agree<T>(32, 40, 4000);
    threads_agree<T>(33, 41, 5000);
    threads_agree<T>(2, 2000, 700);
}

}  // namespace

void test_gemm() {
    const int threads = get_num_threads();
    all<float>({1, 2, 13, 15, 16, 17, 33, 35});
    all<double>({1, 3, 7, 8, 9, 17, 29});
    set_num_threads(threads);
}

}  // namespace vivace::tests
